import math

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from arcinvert.training.losses import (
    LOSSES,
    center_loss,
    class_products,
    inter_loss,
    intra_loss,
    moved_centers,
    own_center,
    triplet_loss,
)

CLASSES, SIZE, BATCH = 5, 4, 12


def made_up(seed: int = 0, subcenters: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Unit embeddings (B, D), labels (B,) and unit centers (N, D) or (N, K, D), float64."""
    torch.manual_seed(seed)
    embeddings = normalize(torch.randn(BATCH, SIZE, dtype=torch.float64))
    shape = (CLASSES, SIZE) if subcenters == 1 else (CLASSES, subcenters, SIZE)
    centers = normalize(torch.randn(shape, dtype=torch.float64), dim=-1)
    return embeddings, torch.randint(CLASSES, (BATCH,)), centers


def radians(first: np.ndarray, second: np.ndarray) -> float:
    """By half the chord: no arccos."""
    return 2 * math.atan2(float(np.linalg.norm(first - second)), float(np.linalg.norm(first + second)))


def slow_own(embedding: np.ndarray, centers: np.ndarray, label: int) -> np.ndarray:
    choice = centers[label].reshape(-1, SIZE)
    return min(choice, key=lambda center: radians(embedding, center))


@pytest.mark.parametrize("subcenters", [1, 3])
def test_class_products_and_own_center_against_loops(subcenters: int) -> None:
    embeddings, labels, centers = made_up(subcenters=subcenters)
    products, own = class_products(embeddings, centers), own_center(embeddings, labels, centers)
    assert (products.shape, own.shape) == ((BATCH, CLASSES), (BATCH, SIZE))
    for row, embedding in enumerate(embeddings.numpy()):
        for label in range(CLASSES):
            nearest = slow_own(embedding, centers.numpy(), label)
            assert products[row, label].item() == pytest.approx(float(embedding @ nearest))
        np.testing.assert_array_equal(own[row].numpy(), slow_own(embedding, centers.numpy(), int(labels[row])))


@pytest.mark.parametrize("subcenters", [1, 3])
def test_intra_against_the_slow_reference(subcenters: int) -> None:
    embeddings, labels, centers = made_up(subcenters=subcenters)
    for row, value in enumerate(intra_loss(embeddings, labels, centers).tolist()):
        own = slow_own(embeddings[row].numpy(), centers.numpy(), int(labels[row]))
        assert value == pytest.approx(radians(embeddings[row].numpy(), own) / math.pi, abs=1e-9)


def test_intra_at_known_angles() -> None:
    centers = torch.eye(2)
    embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.5, 3**0.5 / 2]])
    found = intra_loss(embeddings, torch.zeros(4, dtype=torch.long), centers)
    assert found.tolist() == pytest.approx([0, 1 / 2, 1, 1 / 3], abs=2e-4)


@pytest.mark.parametrize("subcenters", [1, 3])
def test_inter_against_the_slow_reference(subcenters: int) -> None:
    embeddings, labels, centers = made_up(subcenters=subcenters)
    for row, value in enumerate(inter_loss(embeddings, labels, centers).tolist()):
        label = int(labels[row])
        own = slow_own(embeddings[row].numpy(), centers.numpy(), label)
        others = [radians(own, slow_own(own, centers.numpy(), j)) for j in range(CLASSES) if j != label]
        assert value == pytest.approx(-np.mean(others) / math.pi, abs=1e-9)


def test_inter_of_right_angles_opposites_and_of_one_class() -> None:
    embeddings, labels = torch.ones(2, 3), torch.tensor([0, 1])
    assert inter_loss(embeddings, labels, torch.eye(3)).tolist() == pytest.approx([-0.5, -0.5])
    opposite = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
    assert inter_loss(embeddings, labels, opposite).tolist() == pytest.approx([-1, -1], abs=2e-4)
    assert inter_loss(embeddings, torch.tensor([0, 0]), torch.eye(3)[:1]).tolist() == [0, 0]


def slow_triplet(embeddings: np.ndarray, labels: list[int], margin: float) -> list[float]:
    losses = []
    for a, anchor in enumerate(embeddings):
        positives = [radians(anchor, embeddings[p]) for p in range(len(labels)) if labels[p] == labels[a] and p != a]
        negatives = [radians(anchor, embeddings[n]) for n in range(len(labels)) if labels[n] != labels[a]]
        each = []
        for positive in positives:
            if negatives:
                farther = [negative for negative in negatives if negative > positive]
                negative = min(farther) if farther else max(negatives)
                each.append(max(0.0, positive + margin - negative))
        losses.append(sum(each) / max(len(positives), 1))
    return losses


@pytest.mark.parametrize("margin", [0.1, 0.35, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_triplet_against_the_slow_reference(seed: int, margin: float) -> None:
    embeddings, labels, _ = made_up(seed)
    found = triplet_loss(embeddings, labels, margin=margin)
    assert found.tolist() == pytest.approx(slow_triplet(embeddings.numpy(), labels.tolist(), margin), abs=1e-9)
    assert found.max() > 0


def test_the_mining_by_hand() -> None:
    """The anchor's positive is at 30 degrees; negatives at 10 (too hard), 40 (semi-hard) and 60."""
    turn = torch.tensor([0.0, 30.0, -10.0, 40.0, 60.0], dtype=torch.float64).deg2rad()
    embeddings = torch.stack([turn.cos(), turn.sin()], 1)
    found = triplet_loss(embeddings, torch.tensor([0, 0, 1, 2, 3]))
    assert found[0].item() == pytest.approx(0.35 - math.radians(10))
    without = triplet_loss(embeddings[:3], torch.tensor([0, 0, 1]))  # none farther: the farthest
    assert without[0].item() == pytest.approx(0.35 + math.radians(20))
    assert found[2:].tolist() == [0, 0, 0]


def test_a_negative_as_far_as_the_positive_is_not_farther() -> None:
    turn = torch.tensor([0.0, 30.0, -30.0, 40.0], dtype=torch.float64).deg2rad()
    embeddings = torch.stack([turn.cos(), turn.sin()], 1)
    found = triplet_loss(embeddings, torch.tensor([0, 0, 1, 2]))
    assert found[0].item() == pytest.approx(0.35 - math.radians(10))


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [1, 1, 1, 1], [0, 0, 1, 1]], ids=str)
def test_a_batch_without_positives_or_negatives_costs_nothing(labels: list[int]) -> None:
    embeddings = made_up()[0][:4].requires_grad_()
    loss = triplet_loss(embeddings, torch.tensor(labels))
    loss.sum().backward()
    assert embeddings.grad.isfinite().all()
    assert (loss.sum() > 0) == (labels == [0, 0, 1, 1])


def test_triplets_of_one_picture_repeated_are_finite() -> None:
    embeddings = torch.ones(4, 3).div(3**0.5).requires_grad_()
    loss = triplet_loss(embeddings, torch.tensor([0, 0, 1, 1]))
    loss.sum().backward()
    assert loss.tolist() == pytest.approx([0.35] * 4)
    assert embeddings.grad.isfinite().all()


def test_center_loss_is_half_the_squared_distance() -> None:
    features, labels, centers = made_up()
    for row, value in enumerate(center_loss(7 * features, labels, centers).tolist()):
        away = 7 * features[row] - centers[labels[row]]
        assert value == pytest.approx(0.5 * sum(part * part for part in away.tolist()))


def test_moved_centers_against_the_algorithm_in_loops() -> None:
    features, labels, centers = made_up()
    labels[labels == 3] = 1
    rows, moved = moved_centers(features, labels, centers, rate=0.3)
    assert rows.tolist() == sorted(set(labels.tolist()))
    for row, value in zip(rows.tolist(), moved, strict=True):
        delta, count = np.zeros(SIZE), 1
        for feature, label in zip(features.numpy(), labels.tolist(), strict=True):
            if label == row:
                delta, count = delta + centers[row].numpy() - feature, count + 1
        np.testing.assert_allclose(value.numpy(), centers[row].numpy() - 0.3 * delta / count)


def test_moving_again_and_again_ends_at_the_mean() -> None:
    features, labels = torch.tensor([[2.0, 0.0], [4.0, 2.0]]), torch.tensor([0, 0])
    centers = torch.zeros(1, 2)
    for _ in range(100):
        rows, moved = moved_centers(features, labels, centers)
        centers[rows] = moved
    torch.testing.assert_close(centers, torch.tensor([[3.0, 1.0]]))


@pytest.mark.parametrize("subcenters", [1, 3])
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_gradients(name: str, subcenters: int) -> None:
    """Exact in float64, also for embeddings a thousandth of a radian from their center and from its opposite."""
    embeddings, labels, centers = made_up(subcenters=subcenters)
    own = own_center(embeddings, labels, centers)
    sideways = normalize(embeddings - (embeddings * own).sum(1, keepdim=True) * own)
    embeddings[0], embeddings[1] = own[0] + 1e-3 * sideways[0], 1e-3 * sideways[1] - own[1]
    given = embeddings.requires_grad_(), centers.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, w: LOSSES[name](normalize(x), labels, normalize(w, dim=-1)), given, eps=1e-7, atol=1e-5, rtol=1e-3
    )


@pytest.mark.parametrize("name", sorted(LOSSES))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_finite_value_per_image_in_the_same_dtype(name: str, dtype: torch.dtype) -> None:
    """Also where embeddings are their center or its opposite, to the bit."""
    embeddings, labels, centers = made_up()
    embeddings[:2] = centers[labels[:2]]
    embeddings[2:4] = -centers[labels[2:4]]
    x, w = embeddings.to(dtype).requires_grad_(), centers.to(dtype).requires_grad_()
    loss = LOSSES[name](x, labels, w)
    assert (loss.shape, loss.dtype) == ((BATCH,), dtype)
    gradients = torch.autograd.grad(loss.sum(), (x, w), allow_unused=True)
    assert loss.isfinite().all()
    assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"triplet"}))
def test_images_do_not_feel_each_other(name: str) -> None:
    embeddings, labels, centers = made_up()
    together = LOSSES[name](embeddings, labels, centers)
    alone = torch.cat([LOSSES[name](embeddings[i : i + 1], labels[i : i + 1], centers) for i in range(BATCH)])
    torch.testing.assert_close(together, alone)
