"""Defenses with a key, against plain loops."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from arcinvert.audit.defenses import Defense, parse_defense
from arcinvert.audit.defenses.keyed import generator_of, likelihood, orthogonal, polynomial

ROWS = normalize(torch.randn(30, 24, generator=torch.Generator().manual_seed(3)))
KEYED = ["rotate", "biohash", "polyprotect", "mlphash"]


def test_the_matrix_is_orthogonal_and_drawn_evenly() -> None:
    matrix = orthogonal(generator_of("rotate", "a"), 40)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(40), atol=1e-5, rtol=0)
    # By QR alone the diagonal of R would be of one sign, and the mean of the first element not 0.
    first = [float(orthogonal(np.random.default_rng(i), 3)[0, 0]) for i in range(600)]
    assert abs(np.mean(first)) < 4 / math.sqrt(3 * 600)
    assert abs(np.mean(np.square(first)) - 1 / 3) < 0.06


@pytest.mark.parametrize("scheme", KEYED)
def test_a_key_decides_everything(scheme: str) -> None:
    one, again, other = (parse_defense(f"{scheme}:{key}") for key in ("a", "a", "b"))
    stored = one.protect(ROWS, range(30))
    assert torch.equal(stored, again.protect(ROWS, range(30)))
    assert not torch.allclose(stored, other.protect(ROWS, range(30)), atol=1e-3)
    assert one.keyed
    guess, other_guess = one.without_key(0), one.without_key(1)
    assert guess.without_key(0).spec == guess.spec
    assert len({one.spec, guess.spec, other_guess.spec}) == 3
    assert not torch.allclose(stored, guess.protect(ROWS, range(30)), atol=1e-3)


def test_a_rotation_keeps_all_cosines_and_is_undone_only_by_its_key() -> None:
    defense = parse_defense("rotate:a")
    stored = defense.protect(ROWS, range(30))
    torch.testing.assert_close(defense.compare(stored, stored), ROWS @ ROWS.T, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(defense.estimate(stored, ROWS), ROWS, atol=1e-5, rtol=1e-5)
    guess = defense.without_key(0).estimate(stored, ROWS)
    assert float((guess * ROWS).sum(1).mean()) < 0.3


def test_biohash_is_the_signs_of_orthonormal_projections() -> None:
    stored = parse_defense("biohash:k").protect(ROWS, range(30))
    q = orthogonal(generator_of("biohash", "k"), 24).double().numpy()
    for row, bits in zip(ROWS.double().numpy(), stored.tolist(), strict=True):
        for column in range(24):
            inner = sum(row[i] * q[i, column] for i in range(24))
            assert abs(inner) < 1e-5 or bits[column] == (1 if inner > 0 else -1)


@pytest.mark.parametrize("size", [4, 5, 6, 8, 24, 128])
def test_polyprotect_is_the_sum_written_out(size: int) -> None:
    rows = normalize(torch.randn(7, size, generator=torch.Generator().manual_seed(size)))
    coefficients, exponents = polynomial("k")
    assert sorted(exponents) == [1, 2, 3, 4, 5]
    assert all(c == int(c) and 1 <= abs(c) <= 50 for c in coefficients)
    stored = parse_defense("polyprotect:k").protect(rows, range(7)).double()
    for row, kept in zip(rows.double().tolist(), stored.tolist(), strict=True):
        expected, start = [], 0
        while True:
            window = (row[start : start + 5] + [0] * 5)[:5]
            expected.append(sum(c * v**e for c, v, e in zip(coefficients, window, exponents, strict=True)))
            if start + 5 >= size:
                break
            start += 3  # five elements, two of them shared
        assert kept == pytest.approx(expected, abs=1e-5)


def test_mlphash_is_a_network_layer_by_layer() -> None:
    stored = parse_defense("mlphash:k").protect(ROWS, range(30))
    weights = [orthogonal(generator_of(f"mlphash {layer}", "k"), 48).double().numpy() for layer in range(4)]
    weights[0], weights[3] = weights[0][:24], weights[3][:, :24]
    for row, bits in zip(ROWS.double().numpy(), stored.tolist(), strict=True):
        x = row
        for weight in weights[:3]:
            x = np.array([max(0.0, float(np.dot(x, weight[:, j]))) for j in range(48)])
        x = np.array([float(np.dot(x, weights[3][:, j])) for j in range(24)])
        mean = sum(x) / 24
        assert all(abs(v - mean) < 1e-5 or bit == (1 if v > mean else -1) for v, bit in zip(x, bits, strict=True))


def test_polyprotect_falls_to_a_few_dozen_guesses() -> None:
    draw = torch.Generator().manual_seed(0)
    mixing = torch.randn(60, 60, generator=draw) / torch.arange(1, 61)[:, None]
    faces = normalize(torch.randn(630, 60, generator=draw) @ mixing + 0.3 * torch.randn(60, generator=draw))
    stored, own = faces[:30], faces[30:]
    defense = parse_defense("polyprotect:secret")
    templates = defense.protect(stored, range(30))

    def near(believed: Defense) -> float:
        return float((believed.estimate(templates, own) * stored).sum(1).mean())

    assert near(defense.guessed(templates, own, 0)) > 0.9 * near(defense)
    blind = [near(defense.without_key(seed)) for seed in range(20)]
    assert np.mean(blind) < 0.7 * near(defense)


def test_likelihood_is_that_of_a_normal_distribution() -> None:
    draw = torch.Generator().manual_seed(0)
    known = normalize(torch.randn(500, 3, generator=draw) + torch.tensor([3.0, 0, 0]))
    rows = normalize(torch.randn(9, 3, generator=draw) + torch.tensor([3.0, 0, 0]))
    spread = np.cov(known.double().numpy().T)
    spread = spread + 1e-4 * np.trace(spread) / 3 * np.eye(3)
    apart = rows.double().numpy() - known.double().numpy().mean(0)
    densities = [-0.5 * row @ np.linalg.inv(spread) @ row - 0.5 * np.log(np.linalg.det(spread)) for row in apart]
    assert likelihood(rows, known) == pytest.approx(np.mean(densities), rel=1e-5)


@pytest.mark.parametrize("scheme", ["rotate", "biohash", "mlphash"])
def test_other_keys_are_not_guessed(scheme: str) -> None:
    defense = parse_defense(f"{scheme}:a")
    assert defense.guessed(defense.protect(ROWS, range(30)), ROWS, 3).spec == defense.without_key(3).spec


def test_any_text_is_a_key() -> None:
    for key in ("17", "a:b", " ", "ключ", "\udc80", "x" * 5000):
        assert parse_defense(f"rotate:{key}").protect(ROWS, range(30)).isfinite().all()
