"""Noise, truncation, int8 and sign, against loops."""

import math

import numpy as np
import torch
from torch.nn.functional import normalize

from arcinvert.audit.defenses import parse_defense
from arcinvert.audit.defenses.plain import Noise

ROWS = normalize(torch.randn(40, 64, generator=torch.Generator().manual_seed(5)))


def test_noise_has_its_size_and_belongs_to_the_record() -> None:
    defense = parse_defense("noise:0.1")
    stored = defense.protect(ROWS, range(40))
    torch.testing.assert_close(stored.norm(dim=1), torch.ones(40))
    expected = 1 / math.sqrt(1 + 64 * 0.1**2)
    assert abs(float((stored * ROWS).sum(1).mean()) - expected) < 0.03
    # A record's noise is its own, whatever its neighbors are.
    assert torch.equal(defense.protect(ROWS[7:9], [7, 8]), stored[7:9])
    assert not torch.allclose(defense.protect(ROWS[7:8], [8]), stored[7:8], atol=1e-3)
    assert not torch.allclose(Noise(0.1, seed=1).protect(ROWS, range(40)), stored, atol=1e-3)


def test_truncation_keeps_the_first_elements() -> None:
    defense = parse_defense("truncate:16").fitted(ROWS)
    stored = defense.protect(ROWS, range(40))
    assert torch.equal(stored, ROWS[:, :16])
    a, b = ROWS[0, :16].double().numpy(), ROWS[1, :16].double().numpy()
    expected = a @ b / math.sqrt((a @ a) * (b @ b))
    assert abs(float(defense.compare(stored, stored)[0, 1]) - expected) < 1e-6


def test_int8_is_whole_numbers_up_to_127() -> None:
    stored = parse_defense("int8").protect(ROWS, range(40))
    for row, kept in zip(ROWS.tolist(), stored.tolist(), strict=True):
        factor = 127 / max(abs(x) for x in row)
        assert max(abs(x) for x in kept) == 127
        assert all(x == int(x) and abs(x - factor * y) <= 0.5 + 1e-4 for x, y in zip(kept, row, strict=True))
    assert np.array_equal(stored.numpy().astype(np.int8).astype(np.float32), stored.numpy())


def test_sign_is_scored_by_hamming_distance() -> None:
    defense = parse_defense("sign")
    stored = defense.protect(ROWS, range(40))
    assert set(stored.unique().tolist()) == {-1, 1}
    scores = defense.compare(stored[:5], stored[5:9])
    for i in range(5):
        for j in range(4):
            differ = sum(a != b for a, b in zip(stored[i].tolist(), stored[5 + j].tolist(), strict=True))
            assert abs(float(scores[i, j]) - (1 - 2 * differ / 64)) < 1e-6
