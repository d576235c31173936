"""Identification against loops over probes, identities and pairs."""

import importlib.util

import numpy as np
import pytest

from arcinvert.errors import InputError, UsageError
from arcinvert.evaluation.allpairs import search
from arcinvert.evaluation.metrics import operating_point
from arcinvert.evaluation.protocols.identification import folder_split, identify
from arcinvert.evaluation.protocols.labeled_sets import identify_folder
from arcinvert.evaluation.protocols.megaface import megaface

ENGINES = [
    "numpy",
    pytest.param(
        "faiss", marks=pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="FAISS is not installed")
    ),
]


def people(seed: int, labels: np.ndarray, size: int = 8, spread: float = 0.8) -> np.ndarray:
    """Unit rows around a direction of each label, far enough from it that errors happen."""
    draw = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(size=(int(labels.max()) + 1, size))
    rows = centers[labels] + spread * draw.normal(size=(len(labels), size))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def cosine(first: np.ndarray, second: np.ndarray) -> float:
    return float((first.astype(float) * second).sum())


def slow_rank(probe: np.ndarray, label: int, gallery: np.ndarray, labels: np.ndarray) -> tuple[int, float]:
    """Rank and mate score: every identity by its best row, ties before the right one."""
    scores = {int(name): max(cosine(probe, g) for g in gallery[labels == name]) for name in np.unique(labels)}
    return 1 + sum(s >= scores[label] for name, s in scores.items() if name != label), scores[label]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("gallery_labels", [np.arange(15), np.random.default_rng(5).permutation(np.arange(45) % 15)])
def test_cmc_against_a_loop(engine: str, gallery_labels: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "BLOCK_SCORES", 70)
    monkeypatch.setattr(search, "BLOCK_ROWS", 6)
    gallery = people(1, gallery_labels)
    gallery[3] = gallery[2]  # a tie of two identities
    probe_labels = np.random.default_rng(6).integers(0, 15, 60)
    probes = people(2, probe_labels)
    probes[0], probe_labels[0] = gallery[2], gallery_labels[2]
    found = identify(gallery, probes, gallery_labels=gallery_labels, probe_labels=probe_labels, engine=engine)
    ranks = np.array(
        [slow_rank(p, label, gallery, gallery_labels)[0] for p, label in zip(probes, probe_labels, strict=True)]
    )
    assert ranks[0] == 2
    assert ranks.max() > 6
    assert found.cmc == pytest.approx([(ranks <= k).mean() for k in range(1, 16)], abs=1e-12)
    assert {rate.at: rate.rate for rate in found.ranks} == pytest.approx({k: (ranks <= k).mean() for k in (1, 5, 10)})
    assert all(r.interval[0] <= r.rate <= r.interval[1] + 1e-12 and r.trials == 60 for r in found.ranks)
    assert (found.mated, found.unmated, found.identities, found.gallery) == (60, 0, 15, len(gallery_labels))
    assert found.engine == engine


@pytest.mark.parametrize("engine", ENGINES)
def test_distractors_are_identities_of_their_own(engine: str) -> None:
    labels = np.arange(10)
    gallery, probes, distractors = people(1, labels), people(2, labels), people(3, np.arange(200) % 10)
    found = identify(
        gallery,
        probes,
        gallery_labels=labels,
        probe_labels=labels,
        distractors=distractors,
        max_rank=7,
        engine=engine,
    )
    everybody = np.concatenate([gallery, distractors])
    names = np.arange(210)
    ranks = np.array([slow_rank(p, label, everybody, names)[0] for p, label in zip(probes, labels, strict=True)])
    assert found.cmc == pytest.approx([(ranks <= k).mean() for k in range(1, 8)])
    assert found.cmc[0] < 1
    assert ranks.max() > 7
    assert (found.identities, found.distractors) == (10, 200)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_network_that_says_the_same_of_everybody(engine: str) -> None:
    rows, labels = np.repeat(people(1, np.array([0])), 40, axis=0), np.arange(40)
    found = identify(rows, rows, gallery_labels=labels, probe_labels=labels, engine=engine)
    assert found.cmc == (0.0,) * 20


@pytest.mark.parametrize("engine", ENGINES)
def test_rivals_with_many_pictures_each(engine: str) -> None:
    """Six others with three pictures each stand before the right one, more rows than a search for five ranks lists."""
    angle = np.radians([*np.arange(1, 19), 40])
    gallery = np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)
    labels = np.r_[np.repeat(np.arange(6), 3), 6]
    probe = {"gallery_labels": labels, "probe_labels": np.array([6]), "engine": engine}
    assert identify(gallery, np.array([[1, 0]], np.float32), **probe, max_rank=5).cmc == (0.0,) * 5
    assert identify(gallery, np.array([[1, 0]], np.float32), **probe, max_rank=7).cmc == (0.0,) * 6 + (1.0,)


def test_detection_and_identification_against_a_scan_of_thresholds() -> None:
    gallery_labels = np.arange(20)
    gallery = people(1, gallery_labels)
    probe_labels = np.random.default_rng(0).integers(0, 30, 600)  # the last ten are strangers
    probes = people(2, probe_labels, spread=0.5)
    found = identify(gallery, probes, gallery_labels=gallery_labels, probe_labels=probe_labels, fars=(0.3, 0.05, 0.001))
    known = probe_labels < 20
    ranked = [slow_rank(p, n, gallery, gallery_labels) for p, n in zip(probes[known], probe_labels[known], strict=True)]
    top = np.array([max(cosine(p, g) for g in gallery) for p in probes[~known]])
    for point, far in zip(found.open_set[:2], (0.3, 0.05), strict=True):
        strict = [t for t in sorted([*top, 2.0]) if (top >= t).mean() <= far]
        loosest = max(t for t in [-2.0, *top] if t < strict[0])  # the threshold lies just above this one
        expected = np.mean([rank == 1 and mate > loosest for rank, mate in ranked])
        assert point.dir == pytest.approx(expected)
        assert point.threshold == pytest.approx(loosest, abs=1e-12)
        assert point.threshold > loosest - 1e-12
        assert (top >= point.threshold).mean() <= far
        assert (point.unmated, point.mated) == (len(top), len(ranked))
    assert found.open_set[0].note is None
    assert "fewer than 30" in found.open_set[1].note
    assert 0 < found.open_set[1].dir < found.open_set[0].dir < found.cmc[0]
    few = found.open_set[2]
    assert few.threshold is None
    assert few.dir is None
    assert "fewer than 3" in few.note


def test_megaface_against_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "BLOCK_SCORES", 50)
    labels = np.random.default_rng(3).permutation(np.array([0, 0, 0, 1, 1, 2, 3, 3, 3, 3]))
    rows, distractors = people(1, labels, spread=0.6), people(2, np.full(150, 40), spread=1.5)
    distractors[77] = rows[labels == 0][0]  # ties with every pair whose gallery picture this is
    found = megaface(rows, distractors, labels=labels, counts=(1, 20, 150), seed=4)
    shuffled = distractors[np.random.default_rng(4).permutation(150)]
    pairs = [(i, j) for i in range(10) for j in range(10) if i != j and labels[i] == labels[j]]
    assert (found.pairs, found.identities, found.distractors) == (len(pairs), 3, 150)
    for point in found.rank1:
        wins = [cosine(rows[i], rows[j]) > max(cosine(rows[i], d) for d in shuffled[: point.at]) for i, j in pairs]
        assert point.rate == pytest.approx(np.mean(wins))
    rates = [point.rate for point in found.rank1]
    assert rates[0] > rates[1] > rates[2] > 0
    assert [p.at for p in megaface(rows, distractors, labels=labels).rank1] == [10, 100, 150]


def test_megaface_verification_against_all_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "BLOCK_SCORES", 50)
    labels = np.repeat(np.arange(4), 3)
    rows, distractors = people(5, labels, spread=1.2), people(6, np.full(200, 40), spread=1.5)
    found = megaface(rows, distractors, labels=labels, fmrs=(0.05, 0.004, 0.001)).tpr
    impostor = (rows.astype(np.float64) @ distractors.T.astype(np.float64)).ravel()
    genuine = np.array([cosine(rows[i], rows[j]) for i in range(12) for j in range(i) if labels[i] == labels[j]])
    for point in found[:2]:
        expected = operating_point(point.fmr, genuine=genuine, impostor=impostor)
        assert point.threshold == pytest.approx(expected.threshold, abs=1e-6)
        assert (point.tar, point.impostor_pairs, point.genuine_pairs) == (expected.tar, 2400, 12)
        assert point.false_matches == expected.false_matches
    assert 0 < found[1].tar < found[0].tar
    assert found[2].threshold is None
    assert "fewer than 3 fix no threshold" in found[2].reason


def test_a_distractor_that_is_the_mate_wins() -> None:
    rows = people(1, np.zeros(2, np.int64))
    found = megaface(rows, np.repeat(rows[1:], 3, axis=0), labels=np.zeros(2, np.int64), counts=(3,))
    assert [r.rate for r in found.rank1] == [0.0]


def test_the_split_of_a_folder() -> None:
    labels = np.array([4, 0, 0, 1, 1, 1, 2, 3, 4])
    gallery, mated, unmated = folder_split(labels)
    assert gallery.tolist() == [1, 3, 6, 7]
    assert mated.tolist() == [2, 4, 5]
    assert unmated.tolist() == [0, 8]
    found, among = identify_folder(people(1, labels), labels)
    assert (found.mated, found.unmated, found.gallery) == (3, 2, 4)
    assert (among.pairs, among.distractors) == (2 + 6, 2)
    found, among = identify_folder(people(1, labels), labels, distractors=people(2, labels))
    assert (found.distractors, among.distractors) == (9, 9)


# --- what the data cannot support


def test_one_identity_gives_null_and_the_reason() -> None:
    labels = np.zeros(4, np.int64)
    found, among = identify_folder(people(1, labels), labels)
    assert found.cmc is None
    assert found.ranks == ()
    assert among is None
    assert "one identity" in found.note
    assert all(point.dir is None and "no non-mated" in point.note for point in found.open_set)


def test_no_mated_probe_gives_null_and_the_reason() -> None:
    rows = people(1, np.arange(6))
    found = identify(rows[:3], rows[3:], gallery_labels=np.arange(3), probe_labels=np.arange(3, 6))
    assert found.cmc is None
    assert "nobody" not in found.note
    assert "anybody" in found.note
    assert all(point.dir is None and "no mated" in point.note for point in found.open_set)
    assert "two pictures" in megaface(rows, rows, labels=np.arange(6)).note


def test_what_does_not_fit_is_refused() -> None:
    rows, labels = people(1, np.arange(6)), np.arange(6)
    with pytest.raises(InputError, match="a label for each of 6 probes, got 5"):
        identify(rows, rows, gallery_labels=labels, probe_labels=labels[:5])
    with pytest.raises(InputError, match="NaN or infinity in row 2"):
        identify(rows, np.where(labels[:, None] == 2, np.nan, rows), gallery_labels=labels, probe_labels=labels)
    other = people(1, labels, size=5)
    with pytest.raises(InputError, match="gallery 8-d, distractors 5-d"):
        identify(rows, rows, gallery_labels=labels, probe_labels=labels, distractors=other)
    with pytest.raises(UsageError, match="at least 1, got 0"):
        identify(rows, rows, gallery_labels=labels, probe_labels=labels, max_rank=0)
    with pytest.raises(UsageError, match="from 1 to 6, got"):
        megaface(rows, rows, labels=labels, counts=(7,))
    with pytest.raises(InputError, match="labels to split"):
        folder_split(np.empty(0, np.int64))
