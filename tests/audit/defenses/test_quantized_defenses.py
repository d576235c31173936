"""Product quantization against a search by hand, and k-means against what it must do."""

import pytest
import torch
from torch.nn.functional import normalize

from arcinvert.audit.defenses import parse_defense
from arcinvert.audit.defenses.quantize import ProductQuantization, lloyd, nearest
from arcinvert.errors import UsageError

ROWS = normalize(torch.randn(500, 24, generator=torch.Generator().manual_seed(3)))


def fitted(parts: int) -> ProductQuantization:
    found = parse_defense(f"pq:{parts}").fitted(ROWS)
    assert isinstance(found, ProductQuantization)
    return found


def test_a_code_is_the_nearest_codeword_of_each_part() -> None:
    defense = fitted(6)
    assert defense.codewords is not None
    assert defense.codewords.shape == (6, 256, 4)
    fresh = normalize(torch.randn(9, 24, generator=torch.Generator().manual_seed(4)))
    codes = defense.protect(fresh, range(9))
    assert codes.shape == (9, 6)
    for row, code in zip(fresh, codes.tolist(), strict=True):
        for part in range(6):
            piece = row[4 * part : 4 * part + 4]
            distances = [float((piece - word).square().sum()) for word in defense.codewords[part]]
            assert distances[int(code[part])] <= min(distances) + 1e-6
    whole = defense.values(codes)
    for part in range(6):
        torch.testing.assert_close(whole[2, 4 * part : 4 * part + 4], defense.codewords[part, int(codes[2, part])])


def test_fewer_parts_lose_more() -> None:
    fresh = normalize(torch.randn(60, 24, generator=torch.Generator().manual_seed(4)))
    likeness = []
    for parts in (12, 6, 2):
        defense = fitted(parts)
        back = defense.values(defense.protect(fresh, range(60)))
        likeness.append(float(torch.cosine_similarity(back, fresh).mean()))
    assert likeness[0] > 0.99
    assert likeness[0] > likeness[1] + 0.02 > likeness[2] + 0.04


def test_few_faces_give_few_codewords() -> None:
    defense = parse_defense("pq:4").fitted(ROWS[:20])
    assert isinstance(defense, ProductQuantization)
    assert defense.codewords is not None
    assert defense.codewords.shape == (4, 20, 6)


def test_what_has_not_learnt_refuses() -> None:
    with pytest.raises(UsageError, match="fitted"):
        parse_defense("pq:4").protect(ROWS, range(500))


def test_k_means_finds_clumps_and_leaves_unused_words() -> None:
    centers = torch.tensor([[0.0, 0], [10, 0], [0, 10]])
    rows = (centers[:, None] + 0.1 * torch.randn(3, 50, 2, generator=torch.Generator().manual_seed(0))).flatten(0, 1)
    start = torch.cat([centers + 2, torch.tensor([[90.0, 90]])])
    words = lloyd(rows, start)
    torch.testing.assert_close(words[:3], rows.view(3, 50, 2).mean(1))
    assert words[3].tolist() == [90, 90]
    assert torch.equal(nearest(rows, words), torch.arange(3).repeat_interleave(50))
