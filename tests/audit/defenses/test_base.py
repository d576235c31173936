"""The interface of all defenses: the term, the estimate, and the straight-through gradients."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from arcinvert.audit.defenses import SCHEMES, parse_defense
from arcinvert.audit.defenses.base import sign, straight_through
from arcinvert.errors import InputError, UsageError
from arcinvert.recognizer import Trace

SIZE = 32
SPECS = [
    "none",
    "noise:0.05",
    "truncate:20",
    "int8",
    "pq:8",
    "sign",
    "rotate:a",
    "biohash:a",
    "polyprotect:a",
    "mlphash:a",
]


def faces(count: int, seed: int = 0) -> Tensor:
    """Embeddings that, as those of faces, do not fill their space evenly."""
    draw = torch.Generator().manual_seed(seed)
    mixing = torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(99)) / torch.arange(1, SIZE + 1)
    return normalize(torch.randn(count, SIZE, generator=draw) @ mixing + 0.1)


def traced(embedding: Tensor) -> Trace:
    return Trace(torch.zeros(len(embedding), 3, 112, 112), embedding)


def test_every_scheme_is_named_once() -> None:
    assert {spec.partition(":")[0] for spec in SPECS} == {name.partition(":")[0] for name in SCHEMES}


@pytest.mark.parametrize("spec", SPECS)
def test_a_spec_is_read_as_it_is_written(spec: str) -> None:
    assert parse_defense(spec).spec == spec


@pytest.mark.parametrize(
    "spec",
    [
        *("", ":1", "nothing:1", "noise", "noise:", "noise:x", "noise:-1", "noise:0", "noise:nan", "noise:inf"),
        *(
            "truncate:0",
            "truncate:1.5",
            "pq",
            "pq:0",
            "pq:a",
            "int8:3",
            "sign:1",
            "Sign",
            "rotate",
            "rotate:",
            "biohash:",
        ),
    ],
)
def test_nonsense_is_a_usage_error(spec: str) -> None:
    with pytest.raises(UsageError, match=r"^expected .*") as caught:
        parse_defense(spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spec", ["truncate:33", "pq:7", "pq:64"])
def test_what_does_not_fit_the_embeddings_is_refused(spec: str) -> None:
    with pytest.raises(UsageError, match=spec):
        parse_defense(spec).fitted(faces(300))


@pytest.mark.parametrize("spec", SPECS)
def test_scores_are_cosines_of_what_the_term_follows(spec: str) -> None:
    own, stored = faces(400), faces(6, 1)
    defense = parse_defense(spec).fitted(own)
    templates = defense.protect(stored, range(6))
    scores = defense.compare(templates, templates)
    assert scores.shape == (6, 6)
    torch.testing.assert_close(scores.diagonal(), torch.ones(6))
    assert scores.abs().max() <= 1
    other = faces(6, 2)
    expected = torch.stack(
        [
            1 - torch.cosine_similarity(a, b, dim=0)
            for a, b in zip(defense.soft(other), defense.values(templates), strict=True)
        ]
    )
    torch.testing.assert_close(defense.term(templates)(traced(other)), expected)


@pytest.mark.parametrize("spec", SPECS)
def test_the_attacker_sees_what_is_stored(spec: str) -> None:
    """But for the noise, which he does not know, what he differentiates is what the store computes."""
    own, stored = faces(400), faces(6, 1)
    defense = parse_defense(spec).fitted(own)
    templates = defense.protect(stored, range(6))
    if spec.startswith("noise"):
        torch.testing.assert_close(defense.soft(stored), stored)
    else:
        torch.testing.assert_close(defense.soft(stored), defense.values(templates), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("spec", SPECS)
def test_descent_through_the_defense_finds_a_likely_embedding(spec: str) -> None:
    """Forty Adam steps on the embedding itself lower the cost."""
    own, stored = faces(400), faces(8, 1)
    defense = parse_defense(spec).fitted(own)
    templates = defense.protect(stored, range(8))
    term = defense.term(templates)
    x = normalize(faces(8, 3)).clone().requires_grad_()
    before = term(traced(normalize(x))).detach()
    optimizer = torch.optim.Adam([x], lr=0.02)
    for _ in range(40):
        optimizer.zero_grad()
        term(traced(normalize(x))).sum().backward()
        optimizer.step()
    after = term(traced(normalize(x))).detach()
    assert (after < before).all()
    assert after.mean() < 0.6 * before.mean()


@pytest.mark.parametrize(("spec", "least"), [("none", 1), ("int8", 0.999), ("rotate:a", 0.9999), ("pq:16", 0.9)])
def test_a_guess_is_near_where_little_is_lost(spec: str, least: float) -> None:
    own, stored = faces(400), faces(20, 1)
    defense = parse_defense(spec).fitted(own)
    guess = defense.estimate(defense.protect(stored, range(20)), own)
    torch.testing.assert_close(guess.norm(dim=1), torch.ones(20))
    assert (guess * stored).sum(1).min() > least - 1e-5


@pytest.mark.parametrize("spec", ["noise:0.2", "truncate:8", "sign", "biohash:a", "polyprotect:a", "mlphash:a", "pq:4"])
def test_a_guess_beats_the_mean_face(spec: str) -> None:
    own, stored = faces(400), faces(50, 1)
    defense = parse_defense(spec).fitted(own)
    guess = defense.estimate(defense.protect(stored, range(50)), own)
    mean = normalize(own.mean(0), dim=0)
    assert (guess * stored).sum(1).mean() > (stored @ mean).mean() + 0.1


def test_templates_of_another_shape_are_refused() -> None:
    defense = parse_defense("sign")
    with pytest.raises(InputError, match="expected templates"):
        defense.term(torch.ones(2, 5))(traced(faces(2)))


def test_sign_has_the_slope_of_tanh_at_the_scale_of_the_row() -> None:
    x = torch.tensor([[0.5, -0.5, 0.0, 1.0]], dtype=torch.float64)
    scale = x.square().mean().sqrt()
    hard, soft = x.clone().requires_grad_(), x.clone().requires_grad_()
    result = sign(hard)
    assert result.tolist() == [[1, -1, 1, 1]]
    weights = torch.tensor([[1.0, 2, 3, 4]], dtype=torch.float64)
    (result * weights).sum().backward()
    (torch.tanh(soft / scale) * weights).sum().backward()
    torch.testing.assert_close(hard.grad, soft.grad)


def test_straight_through_keeps_the_result_and_the_gradient() -> None:
    x = torch.tensor([[0.4, 1.6]], requires_grad=True)
    result = straight_through(x, x.round())
    assert result.tolist() == [[0, 2]]
    (result * torch.tensor([3.0, 5.0])).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[3, 5]]
