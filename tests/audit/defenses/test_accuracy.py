"""Accuracy of protected templates, against loops over all pairs."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from arcinvert.audit.defenses import parse_defense
from arcinvert.audit.defenses.accuracy import accuracy, several_of_each
from arcinvert.errors import InputError


def people(count: int, pictures: int, spread: float, size: int = 48, seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    centers = normalize(torch.randn(count, size, generator=draw))
    rows = centers.repeat_interleave(pictures, 0)
    return normalize(rows + spread * torch.randn(rows.shape, generator=draw)), torch.arange(count).repeat_interleave(
        pictures
    )


def test_figures_are_those_of_all_pairs() -> None:
    embeddings, labels = people(30, 3, 0.15)
    found = accuracy(parse_defense("sign"), embeddings, labels, fmrs=(0.01, 0.1))
    bits = torch.where(embeddings >= 0, 1, -1).tolist()
    genuine, impostor = [], []
    for i in range(90):
        for j in range(i):
            score = sum(a == b for a, b in zip(bits[i], bits[j], strict=True)) / 48
            (genuine if labels[i] == labels[j] else impostor).append(2 * score - 1)
    assert (
        (found.points[0].genuine_pairs, found.points[0].impostor_pairs) == (len(genuine), len(impostor)) == (90, 3915)
    )
    for point in found.points:
        assert point.threshold is not None
        assert sum(s >= point.threshold + 1e-6 for s in impostor) <= point.fmr * len(impostor)
        assert point.tar == sum(s >= point.threshold + 1e-6 for s in genuine) / 90
        below = max(s for s in impostor if s < point.threshold + 1e-6)
        assert sum(s >= below for s in impostor) > point.fmr * len(impostor)
    # At the crossing both errors are the same, up to a step of the Hamming distance.
    errors = [
        (sum(s >= t for s in impostor) / 3915, sum(s < t for s in genuine) / 90) for t in sorted({*genuine, *impostor})
    ]
    low = max(min(pair) for pair in errors)
    high = min(max(pair) for pair in errors)
    assert low <= found.eer <= high


def test_stronger_noise_keeps_less() -> None:
    embeddings, labels = people(60, 3, 0.1)
    rates = [accuracy(parse_defense(spec), embeddings, labels).eer for spec in ("none", "noise:0.1", "noise:0.3")]
    assert rates[0] < rates[1] < rates[2] < 0.5


def test_a_rotation_costs_nothing() -> None:
    embeddings, labels = people(20, 3, 0.2)
    plain, turned = (accuracy(parse_defense(spec), embeddings, labels) for spec in ("none", "rotate:a"))
    assert (plain.eer, [point.tar for point in plain.points]) == (turned.eer, [point.tar for point in turned.points])


def test_too_few_impostors_give_no_rate() -> None:
    found = accuracy(parse_defense("none"), *people(4, 3, 0.2))
    assert [point.tar for point in found.points] == [None, None]


def test_rows_are_of_identities_with_several_up_to_the_limit() -> None:
    labels = torch.tensor([5, 1, 5, 2, 1, 1, 9, 9])
    assert several_of_each(labels).tolist() == [0, 1, 2, 4, 5, 6, 7]
    assert several_of_each(labels, limit=4).tolist() == [0, 1, 2, 4]
    assert several_of_each(labels, limit=5).tolist() == [0, 1, 2, 4, 5]


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [7, 7, 7, 7]])
def test_one_kind_of_pair_is_refused(labels: list[int]) -> None:
    embeddings, _ = people(4, 1, 0.1)
    with pytest.raises(InputError, match="expected"):
        accuracy(parse_defense("none"), embeddings, torch.tensor(labels))
