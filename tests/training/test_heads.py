import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from arcinvert.training.heads import MarginHead
from arcinvert.training.margins import MARGINS, Margin

CLASSES, SIZE, BATCH = 7, 5, 9


def make(margin: Margin, *, scale: float = 64.0, seed: int = 0) -> tuple[MarginHead, torch.Tensor, torch.Tensor]:
    """A head, features (B, D) of all sorts of norm, labels (B,)."""
    torch.manual_seed(seed)
    head = MarginHead(SIZE, CLASSES, margin=margin, scale=scale)
    features = torch.randn(BATCH, SIZE) * torch.logspace(-2, 2, BATCH)[:, None]
    return head, features, torch.randint(CLASSES, (BATCH,))


def slow_loss(features: np.ndarray, centres: np.ndarray, label: int, margin: Margin, scale: float) -> float:
    """One image in float64, by angles: no shared line with the head."""
    angles = []
    for centre in centres:
        angles.append(np.arccos(features @ centre / np.sqrt((features @ features) * (centre @ centre))))
    logits = scale * np.cos(angles)
    angle = margin.m1 * angles[label] + margin.m2
    if angle <= np.pi:
        logits[label] = scale * (np.cos(angle) - margin.m3)
    else:
        fallen = np.cos((np.pi - margin.m2) / margin.m1) - np.cos(angles[label])
        logits[label] = scale * (-1 - fallen - margin.m3)
    return float(np.logaddexp.reduce(logits) - logits[label])


@pytest.mark.parametrize("scale", [1.0, 64.0])
@pytest.mark.parametrize("name", sorted(MARGINS))
def test_loss_per_image_against_float64_numpy(name: str, scale: float) -> None:
    head, features, labels = make(MARGINS[name], scale=scale)
    loss = head(features, labels)
    assert (loss.shape, loss.dtype) == ((BATCH,), torch.float32)
    centres = head.centres.detach().numpy().astype(np.float64)
    for row, label, value in zip(features.numpy().astype(np.float64), labels.tolist(), loss.tolist(), strict=True):
        assert value == pytest.approx(slow_loss(row, centres, label, MARGINS[name], scale), rel=1e-4, abs=1e-4)


def test_the_angles_of_the_reference_test_reach_beyond_the_turn() -> None:
    """Without such a row the test above would not see the fallback of arcface."""
    head, features, labels = make(MARGINS["arcface"])
    cosine = (normalize(features) @ normalize(head.centres).T)[torch.arange(BATCH), labels]
    assert cosine.min() < np.cos(np.pi - 0.5)
    assert cosine.max() > 0


def test_without_margin_it_is_plain_cross_entropy_of_scaled_cosines() -> None:
    head, features, labels = make(MARGINS["softmax"], scale=20.0)
    cosine = torch.cosine_similarity(features[:, None], head.centres[None], dim=2)
    torch.testing.assert_close(head(features, labels), cross_entropy(20 * cosine, labels, reduction="none"))


@pytest.mark.parametrize("name", sorted(set(MARGINS) - {"softmax"}))
def test_a_margin_makes_it_harder(name: str) -> None:
    head, features, labels = make(MARGINS[name], scale=8.0)
    plain, _, _ = make(MARGINS["softmax"], scale=8.0)
    assert torch.equal(plain.centres, head.centres)
    assert (head(features, labels) > plain(features, labels)).all()


def test_only_the_direction_of_features_and_centres_counts() -> None:
    head, features, labels = make(MARGINS["arcface"])
    before = head(features, labels)
    with torch.no_grad():
        head.centres.mul_(torch.linspace(1, 50, CLASSES)[:, None])
    torch.testing.assert_close(head(3 * features, labels), before, atol=1e-4, rtol=1e-5)


def test_images_do_not_feel_each_other() -> None:
    head, features, labels = make(MARGINS["cm1"])
    together = head(features, labels)
    alone = torch.cat([head(features[i : i + 1], labels[i : i + 1]) for i in range(BATCH)])
    torch.testing.assert_close(together, alone)


def test_the_input_is_left_as_it_was() -> None:
    head, features, labels = make(MARGINS["arcface"])
    copies = features.clone(), labels.clone(), head.centres.detach().clone()
    head(features, labels).sum().backward()
    assert torch.equal(features, copies[0])
    assert torch.equal(labels, copies[1])
    assert torch.equal(head.centres, copies[2])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_features_are_widened(dtype: torch.dtype) -> None:
    head, features, labels = make(MARGINS["arcface"])
    loss = head(features.to(dtype), labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, head(features.to(dtype).float(), labels))


def test_autocast_does_not_reach_the_logits() -> None:
    head, features, labels = make(MARGINS["arcface"])
    expected = head(features, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = head(features, labels)
    assert torch.equal(loss, expected)


@pytest.mark.parametrize("name", sorted(MARGINS))
def test_falls_in_a_few_steps_of_sgd(name: str) -> None:
    head, features, labels = make(MARGINS[name], scale=16.0)
    features = normalize(features).requires_grad_()
    optimiser = torch.optim.SGD([features, head.centres], lr=0.02)
    losses = []
    for _ in range(6):
        loss = head(features, labels).mean()
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("name", sorted(MARGINS))
def test_gradients_are_finite_for_perfect_and_opposite_images(name: str) -> None:
    head, _, _ = make(MARGINS[name])
    features = torch.cat([head.centres.detach()[:1], -head.centres.detach()[:1]]).requires_grad_()
    head(features, torch.tensor([0, 0])).sum().backward()
    assert features.grad.isfinite().all()
    assert head.centres.grad.isfinite().all()
