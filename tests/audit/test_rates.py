"""Rates and controls, on scores whose answer is known."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from arcinvert.audit import rates as measures
from arcinvert.audit.judges import Judge
from arcinvert.audit.rates import References
from arcinvert.audit.thresholds import Threshold
from arcinvert.evaluation.intervals import wilson_interval
from arcinvert.faceprior.prior import FacePrior

THRESHOLDS = (Threshold(1e-2, 0.5, 1000), Threshold(1e-3, 0.8, 1000))
NAN, FAILED = float("nan"), float("-inf")


def made(judge_of: Callable[[Tensor], Tensor] | None = None, thresholds: tuple[Threshold, ...] = THRESHOLDS) -> Judge:
    """A judge that embeds images with ``judge_of``."""

    class Network:
        digest = ""

        def embed(self, images: Tensor) -> Tensor:
            assert judge_of is not None
            return judge_of(images)

    return Judge("judge", Network(), False, thresholds, torch.empty(0, 2))  # type: ignore[arg-type]


def at(*angles: float) -> Tensor:
    """(N, 2) unit vectors whose cosine to (1, 0) is as given."""
    return torch.tensor([[a, (1 - a * a) ** 0.5] for a in angles])


def test_a_failed_attempt_stays_in_the_denominator_and_one_without_a_reference_does_not() -> None:
    rows = measures.rates_at_thresholds(made(), "type I", torch.tensor([0.9, 0.6, 0.5, 0.1, FAILED, NAN]))
    assert [(row.fmr, row.accepted, row.tried) for row in rows] == [(1e-2, 3, 5), (1e-3, 1, 5)]
    assert rows[0].cosine == pytest.approx((0.9 + 0.6 + 0.5 + 0.1) / 4)
    low, high = wilson_interval(3, 5)
    assert (rows[0].rate, rows[0].low, rows[0].high) == (0.6, round(low, 6), round(high, 6))


def test_no_threshold_or_no_trial_gives_null_and_never_a_rate() -> None:
    unknown = measures.rates_at_thresholds(
        made(thresholds=(Threshold(1e-3, None, 10, "few"),)), "type I", torch.tensor([0.9])
    )
    none = measures.rates_at_thresholds(made(), "type II", torch.tensor([NAN, NAN]))
    for row in (*unknown, *none):
        assert (row.rate, row.low, row.high) == (None, None, None)
    assert none[0].tried == 0
    assert none[0].cosine is None
    assert unknown[0].accepted is None


def test_type_one_and_two_are_held_against_the_first_and_the_second() -> None:
    one = torch.tensor([[1.0, 0.0]])
    held = References(one.repeat(3, 1), torch.cat([one, one, one * NAN]))
    rows = measures.attack_rates(made(), held, torch.cat([at(0.6, 0.9), at(0.9)]))
    assert [(r.kind, r.fmr, r.accepted, r.tried) for r in rows] == [
        ("type I", 1e-2, 3, 3),
        ("type I", 1e-3, 2, 3),
        ("type II", 1e-2, 2, 2),
        ("type II", 1e-3, 1, 2),
    ]


def test_a_failed_attempt_without_a_reference_is_no_attempt() -> None:
    rows = torch.full((2, 2), FAILED)
    found = measures.cosines(rows, torch.tensor([[1.0, 0.0], [NAN, NAN]]))
    assert found[0] == FAILED
    assert found[1].isnan()


def test_controls() -> None:
    first = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    held = References(first, torch.cat([at(0.9), torch.full((1, 2), NAN)]))
    judge = made(lambda images: torch.tensor([[0.6, 0.8]]).expand(len(images), -1))
    pictures = {measures.MEAN: torch.zeros(1, 112, 112, 3, dtype=torch.uint8)}
    rows = measures.control_rates(judge, held, first, pictures, [1, 0])
    found = {(row.kind, row.fmr): (row.accepted, row.tried) for row in rows}
    assert found[measures.MEAN, 1e-2] == (2, 2)
    assert found[measures.MEAN, 1e-3] == (1, 2)
    assert found[measures.SHUFFLED, 1e-2] == (0, 2)  # each is held against the other
    assert found[measures.SECOND, 1e-2] == (1, 1)
    assert measures.SHUFFLED not in {row.kind for row in measures.control_rates(judge, held, first, pictures, [])}


def test_control_faces_are_the_mean_face_and_different_faces(small_prior: FacePrior) -> None:
    found = measures.control_faces(small_prior, 5, seed=3)
    mean, drawn = found[measures.MEAN], found[measures.RANDOM]
    assert (len(mean), len(drawn)) == (1, 5)
    with torch.no_grad():
        expected = small_prior.render(torch.zeros(1, small_prior.size)).clamp(0, 1)[0].permute(1, 2, 0) * 255
    assert (mean[0].float() - expected).abs().max() <= 0.51
    assert len({face.numpy().tobytes() for face in drawn}) > 1
    assert torch.equal(measures.control_faces(small_prior, 5, seed=3)[measures.RANDOM], drawn)
    assert not torch.equal(measures.control_faces(small_prior, 5, seed=4)[measures.RANDOM], drawn)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (None, [1, 2, 3, 0]),
        (["a", "a", "b", "c"], [2, 2, 3, 0]),
        (["a", "a", "a", "a"], []),
        ([None, None, None, None], [1, 2, 3, 0]),
    ],
)
def test_other_people_are_never_the_same_person(names: list[str | None] | None, expected: list[int]) -> None:
    assert measures.other_people(names, 4) == expected
    assert measures.other_people(None, 1) == []
