import numpy as np
import pytest

from arcinvert.errors import InputError, UsageError
from arcinvert.evaluation.embedding import flip_test
from arcinvert.evaluation.metrics import auc, eer, fold_accuracy, operating_points, score_pairs
from arcinvert.evaluation.protocols import verification
from arcinvert.evaluation.protocols.verification import verify_embeddings, verify_pairs


def faces(seed: int, count: int = 240, identities: int = 30, size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, identities, count)
    rows = generator.normal(size=(identities, size))[labels] + generator.normal(size=(count, size))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), labels


@pytest.mark.parametrize("listed", [0, 1 << 24])
def test_embeddings_against_the_list_of_scores(monkeypatch: pytest.MonkeyPatch, listed: int) -> None:
    monkeypatch.setattr(verification, "MAX_LISTED", listed)
    rows, labels = faces(0)
    scored = score_pairs(rows, labels)
    lists = {"genuine": scored.genuine, "impostor": scored.impostor}
    found = verify_embeddings(rows, labels, [0.1, 0.01, 1e-6])
    assert found.auc == pytest.approx(auc(**lists), abs=1e-6)
    assert (found.auc_error == 0) == bool(listed)
    assert found.eer == pytest.approx(eer(**lists)[0], abs=1e-4)
    for point, slow in zip(found.points, operating_points([0.1, 0.01, 1e-6], **lists), strict=True):
        assert point.threshold == (slow.threshold and pytest.approx(slow.threshold, abs=1e-5))
        assert point.tar == (slow.tar and pytest.approx(slow.tar, abs=3 / len(scored.genuine)))
    assert (found.embeddings, found.identities) == (240, 30)
    assert (found.genuine_pairs, found.impostor_pairs) == (len(scored.genuine), len(scored.impostor))
    assert found.by_identity[2] is None
    low, high = found.by_identity[1]
    assert low < found.points[1].tar < high
    assert high - low > np.subtract(*found.points[1].interval[::-1])


def test_the_seed_decides_the_bootstrap_alone() -> None:
    rows, labels = faces(1)
    first, again, other = (verify_embeddings(rows, labels, [0.01], seed=seed) for seed in (0, 0, 1))
    assert first.by_identity == again.by_identity != other.by_identity
    assert first.points == other.points


def test_pairs_of_a_list() -> None:
    rows, labels = faces(2)
    generator = np.random.default_rng(0)
    first, second = generator.integers(0, 240, (2, 2000))
    same, folds = labels[first] == labels[second], np.arange(2000) // 200
    scores = np.array(
        [float(rows[a].astype(float) @ rows[b].astype(float)) for a, b in zip(first, second, strict=True)]
    )
    lists = {"genuine": scores[same], "impostor": scores[~same]}
    found = verify_pairs(rows, first, second, same, fmrs=[0.1, 1e-6], folds=folds)
    assert found.auc == pytest.approx(auc(**lists), abs=1e-9)
    assert found.eer == pytest.approx(eer(**lists)[0], abs=1e-9)
    assert [point.tar for point in found.points] == [point.tar for point in operating_points([0.1, 1e-6], **lists)]
    assert found.accuracy.folds == fold_accuracy(scores=scores, same=same, folds=folds).folds
    assert found.identities is None
    assert verify_pairs(rows, first, second, same).accuracy is None


@pytest.mark.parametrize("same", [True, False])
def test_a_list_of_one_kind(same: bool) -> None:
    rows, _ = faces(3, 4)
    with pytest.raises(InputError, match="genuine and impostor pairs, the list has"):
        verify_pairs(rows, np.array([0, 1]), np.array([2, 3]), np.array([same, same]))


def test_flip_by_hand() -> None:
    one, mirrored = np.array([[1, 0], [0.6, 0.8]], np.float32), np.array([[0, 1], [0.6, 0.8]], np.float32)
    assert flip_test(one, mirrored, "none") is one
    half = np.sqrt(0.5)
    np.testing.assert_allclose(flip_test(one, mirrored, "average"), [[half, half], [0.6, 0.8]], atol=1e-6)
    wide = flip_test(one, mirrored, "concatenate")
    np.testing.assert_allclose(wide, np.concatenate([one, mirrored], 1) * half, atol=1e-6)
    # Side by side, the cosine of two pictures is the mean of the cosines of both views.
    assert wide[0] @ wide[1] == pytest.approx((one[0] @ one[1] + mirrored[0] @ mirrored[1]) / 2, abs=1e-6)


def test_flip_of_what_does_not_fit() -> None:
    rows, _ = faces(4, 4)
    with pytest.raises(UsageError, match="none, average or concatenate"):
        flip_test(rows, rows, "sum")
    with pytest.raises(InputError, match="expected mirrored embeddings"):
        flip_test(rows, rows[:2], "average")
    with pytest.raises(InputError, match="a direction"):
        flip_test(rows, -rows, "average")
