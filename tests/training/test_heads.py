import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import TINY, KilledError, assert_same_tensors, kill_at
from torch.nn.functional import cross_entropy, normalize

from arcinvert.checkpoint import load_checkpoint
from arcinvert.errors import UsageError
from arcinvert.training.config import ExtraLosses, TrainConfig
from arcinvert.training.heads import MarginHead
from arcinvert.training.losses import LOSSES, inter_loss, intra_loss, triplet_loss
from arcinvert.training.margins import ALL_MARGINS, MARGINS, PAST_PI, AdaFace, Margin
from arcinvert.training.trainer import train

CLASSES, SIZE, BATCH = 7, 5, 9


def make(
    margin: Margin | AdaFace | None, *, scale: float = 64.0, seed: int = 0, **settings: Any
) -> tuple[MarginHead, torch.Tensor, torch.Tensor]:
    """A head, features (B, D) of all sorts of norm, labels (B,)."""
    torch.manual_seed(seed)
    head = MarginHead(SIZE, CLASSES, margin=margin, scale=scale, **settings)
    features = torch.randn(BATCH, SIZE) * torch.logspace(-2, 2, BATCH)[:, None]
    return head, features, torch.randint(CLASSES, (BATCH,))


def slow_loss(features: np.ndarray, centers: np.ndarray, label: int, margin: Margin, scale: float) -> float:
    """One image in float64, by angles: no shared line with the head."""
    angles = []
    for center in centers:
        angles.append(np.arccos(features @ center / np.sqrt((features @ features) * (center @ center))))
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
    loss = head(features, labels).loss
    assert (loss.shape, loss.dtype) == ((BATCH,), torch.float32)
    centers = head.centers.detach().numpy().astype(np.float64)
    for row, label, value in zip(features.numpy().astype(np.float64), labels.tolist(), loss.tolist(), strict=True):
        assert value == pytest.approx(slow_loss(row, centers, label, MARGINS[name], scale), rel=1e-4, abs=1e-4)


def test_the_angles_of_the_reference_test_reach_beyond_the_turn() -> None:
    """Without such a row the test above would not see the fallback of arcface."""
    head, features, labels = make(MARGINS["arcface"])
    cosine = (normalize(features) @ normalize(head.centers).T)[torch.arange(BATCH), labels]
    assert cosine.min() < np.cos(np.pi - 0.5)
    assert cosine.max() > 0


@pytest.mark.parametrize("name", sorted(set(MARGINS) - {"softmax"}))
def test_a_margin_makes_it_harder(name: str) -> None:
    head, features, labels = make(MARGINS[name], scale=8.0)
    plain, _, _ = make(MARGINS["softmax"], scale=8.0)
    assert torch.equal(plain.centers, head.centers)
    assert (head(features, labels).loss > plain(features, labels).loss).all()


def test_only_the_direction_of_features_and_centers_counts() -> None:
    head, features, labels = make(MARGINS["arcface"])
    before = head(features, labels).loss
    with torch.no_grad():
        head.centers.mul_(torch.linspace(1, 50, CLASSES)[:, None])
    torch.testing.assert_close(head(3 * features, labels).loss, before, atol=1e-4, rtol=1e-5)


def test_images_do_not_depend_on_each_other() -> None:
    head, features, labels = make(MARGINS["cm1"])
    together = head(features, labels).loss
    alone = torch.cat([head(features[i : i + 1], labels[i : i + 1]).loss for i in range(BATCH)])
    torch.testing.assert_close(together, alone)


def test_the_input_is_left_as_it_was() -> None:
    head, features, labels = make(MARGINS["arcface"])
    copies = features.clone(), labels.clone(), head.centers.detach().clone()
    head(features, labels).loss.sum().backward()
    assert torch.equal(features, copies[0])
    assert torch.equal(labels, copies[1])
    assert torch.equal(head.centers, copies[2])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_features_are_widened(dtype: torch.dtype) -> None:
    head, features, labels = make(MARGINS["arcface"])
    loss = head(features.to(dtype), labels).loss
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, head(features.to(dtype).float(), labels).loss)


@pytest.mark.parametrize("name", sorted(MARGINS))
def test_gradients_are_finite_for_perfect_and_opposite_images(name: str) -> None:
    head, _, _ = make(MARGINS[name])
    features = torch.cat([head.centers.detach()[:1], -head.centers.detach()[:1]]).requires_grad_()
    head(features, torch.tensor([0, 0])).loss.sum().backward()
    assert features.grad.isfinite().all()
    assert head.centers.grad.isfinite().all()


def slow_cosines(features: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """One image against (N, K, D) centers in float64: the largest cosine of each class."""
    found = []
    for own in centers:
        each = [features @ center / np.sqrt((features @ features) * (center @ center)) for center in own]
        found.append(max(each))
    return np.array(found)


@pytest.mark.parametrize("name", sorted(MARGINS))
def test_subcenters_against_float64_numpy(name: str) -> None:
    head, features, labels = make(MARGINS[name], subcenters=3)
    assert head.centers.shape == (CLASSES, 3, SIZE)
    centers = head.centers.detach().numpy().astype(np.float64)
    losses = head(features, labels).loss.tolist()
    for row, label, value in zip(features.numpy().astype(np.float64), labels.tolist(), losses, strict=True):
        # unit vectors at the angles found, so that the reference of one center per class can judge them
        cosines = slow_cosines(row, centers)
        stand_ins = np.stack([cosines, np.sqrt(1 - cosines**2)], 1)
        assert value == pytest.approx(slow_loss(np.array([1.0, 0.0]), stand_ins, label, MARGINS[name], 64.0), rel=1e-4)


def test_only_the_nearest_subcenter_learns() -> None:
    head, features, labels = make(MARGINS["arcface"], subcenters=3)
    (gradient,) = torch.autograd.grad(head(features[:1], labels[:1]).loss.sum(), head.centers)
    learning = gradient.abs().sum(2) > 0
    cosines = normalize(head.centers, dim=2) @ normalize(features[0], dim=0)
    assert torch.equal(learning, torch.nn.functional.one_hot(cosines.argmax(1), 3).bool())


@pytest.mark.parametrize("subcenters", [1, 3])
def test_plain_softmax_is_a_linear_layer_with_bias(subcenters: int) -> None:
    head, features, labels = make(None, subcenters=subcenters)
    with torch.no_grad():
        head.bias.normal_()
        head.centers.mul_(30)
    losses = head(features, labels).loss.tolist()
    centers = head.centers.detach().double().numpy().reshape(CLASSES, subcenters, SIZE)
    for row, label, value in zip(features.double().numpy(), labels.tolist(), losses, strict=True):
        logits = np.array([max(center @ row for center in own) for own in centers]) + head.bias.detach().numpy()
        assert value == pytest.approx(np.logaddexp.reduce(logits) - logits[label], rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("past_pi", PAST_PI)
def test_past_pi_reaches_the_margin(past_pi: str) -> None:
    head, features, labels = make(MARGINS["arcface"], scale=8.0, past_pi=past_pi)
    cosine = normalize(features) @ normalize(head.centers).T
    rows = torch.arange(BATCH)
    moved = cosine.index_put((rows, labels), MARGINS["arcface"](cosine[rows, labels], past_pi=past_pi))
    expected = cross_entropy(8 * moved, labels, reduction="none")
    torch.testing.assert_close(head(features, labels).loss, expected)


def test_adaface_against_numpy() -> None:
    head, features, labels = make(AdaFace(momentum=0.5))
    norms = np.clip(np.linalg.norm(features.double().numpy(), axis=1), 0.001, 100)
    mean, deviation = 0.5 * 20 + 0.5 * norms.mean(), 0.5 * 100 + 0.5 * norms.std(ddof=1)
    centers = head.centers.detach().double().numpy()
    losses = head(features, labels).loss.tolist()
    assert head.norm_mean.item() == pytest.approx(mean)
    assert head.norm_deviation.item() == pytest.approx(deviation)
    for row, norm, label, value in zip(features.double().numpy(), norms, labels.tolist(), losses, strict=True):
        z = np.clip(0.333 * (norm - mean) / (deviation + 0.001), -1, 1)
        cosines = slow_cosines(row, centers[:, None])
        angle = max(0.0, np.arccos(cosines[label]) - 0.4 * z)
        fallen = np.cos(np.pi + 0.4 * z) - cosines[label]
        cosines[label] = (np.cos(angle) if angle <= np.pi else -1 - fallen) - 0.4 - 0.4 * z
        assert value == pytest.approx(np.logaddexp.reduce(64 * cosines) - 64 * cosines[label], rel=1e-4, abs=1e-3)


def test_adafaces_statistics_stand_still_in_evaluation_and_travel_in_the_state() -> None:
    head, features, labels = make(AdaFace())
    head(features, labels)
    before = {key: value.clone() for key, value in head.state_dict().items()}
    assert set(before) == {"centers", "norm_mean", "norm_deviation"}
    assert before["norm_mean"] != 20
    head.eval()(features, labels)
    assert all(torch.equal(value, before[key]) for key, value in head.state_dict().items())
    other, _, _ = make(AdaFace(), seed=1)
    other.load_state_dict(before)
    torch.testing.assert_close(other.eval()(features, labels).loss, head(features, labels).loss)


def test_extra_losses_are_added_with_their_weights() -> None:
    weights = {"intra": 0.5, "inter": 2.0, "triplet": 0.25, "center": 0.0}
    head, features, labels = make(MARGINS["arcface"], extra_losses=weights)
    bare, _, _ = make(MARGINS["arcface"])
    x, w = normalize(features), normalize(head.centers)
    added = 0.5 * intra_loss(x, labels, w) + 2 * inter_loss(x, labels, w) + 0.25 * triplet_loss(x, labels)
    torch.testing.assert_close(head(features, labels).loss, bare(features, labels).loss + added)
    assert set(head.state_dict()) == {"centers"}  # of weight 0, the center loss keeps no centers


def test_the_center_loss_has_moving_centers_in_the_space_of_the_features() -> None:
    head, features, labels = make(None, extra_losses={"center": 0.003})
    bare, _, _ = make(None)
    squares = features.square().sum(1) / 2  # the centers start at 0
    torch.testing.assert_close(head(features, labels).loss, bare(features, labels).loss + 0.003 * squares)
    for _ in range(60):
        head(features, labels)
    for label in labels.unique().tolist():
        torch.testing.assert_close(head.moving_centers[label], features[labels == label].mean(0), rtol=1e-4, atol=1e-4)
    still = head.moving_centers.clone()
    head.eval()(3 * features, labels)
    assert torch.equal(head.moving_centers, still)
    assert "moving_centers" in head.state_dict()


@pytest.mark.parametrize(
    ("name", "past_pi", "subcenters"),
    [
        *((name, "monotone", k) for name, k in zip(sorted(ALL_MARGINS), (1, 3) * 4, strict=True)),
        *(("arcface", past_pi, 3) for past_pi in PAST_PI if past_pi != "monotone"),
        *(("adaface", past_pi, 3) for past_pi in PAST_PI if past_pi != "monotone"),
    ],
)
def test_gradients_of_the_whole_loss(name: str, past_pi: str, subcenters: int) -> None:
    """In float64, all losses at once, also for images next to their center and next to its opposite."""
    extras = dict.fromkeys(LOSSES, 0.5)
    head, features, labels = make(
        ALL_MARGINS[name], scale=4.0, subcenters=subcenters, past_pi=past_pi, extra_losses=extras
    )
    head = head.double().eval()
    with torch.no_grad():
        head.centers.normal_()
        near = head.centers[labels[:2]].reshape(2, -1, SIZE)[:, 0]
    features, labels = normalize(features.double())[:5], torch.tensor([*labels[:2].tolist(), 1, 1, 2])
    features[:2] = normalize(near) * torch.tensor([[1.0], [-1.0]]) + 1e-3 * features[:2]
    norms = torch.linspace(0.8, 1.2, 5)[:, None]  # fixed: AdaFace sees the norm, but without gradient
    assert torch.autograd.gradcheck(
        lambda x, w: torch.func.functional_call(head, {"centers": w}, (norms * normalize(x), labels)).loss,
        (features.requires_grad_(), head.centers.detach().requires_grad_()),
        eps=1e-7,
        atol=1e-4,
        rtol=1e-3,
    )


@pytest.mark.parametrize("name", sorted(ALL_MARGINS))
@pytest.mark.parametrize("make_image", [lambda w: w, lambda w: -w, torch.zeros_like], ids=["same", "opposite", "zero"])
def test_finite_at_the_ends_with_everything_on(name: str, make_image: Callable[[torch.Tensor], torch.Tensor]) -> None:
    head, _, _ = make(ALL_MARGINS[name], subcenters=2, extra_losses=dict.fromkeys(LOSSES, 1.0))
    features = make_image(head.centers.detach()[:3, 0]).requires_grad_()
    loss = head(features, torch.tensor([0, 0, 2])).loss
    loss.sum().backward()
    assert loss.isfinite().all()
    assert features.grad.isfinite().all()
    assert head.centers.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["arcface", "adaface", "softmax-bias"])
def test_autocast_does_not_reach_the_loss(name: str, dtype: torch.dtype) -> None:
    head, features, labels = make(ALL_MARGINS[name], subcenters=2, extra_losses=dict.fromkeys(LOSSES, 1.0))
    features = features.to(dtype)
    expected = head.eval()(features, labels).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = head(features, labels).loss
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"past_pi": "hard"}, "expected past_pi out of"),
        ({"subcenters": 0}, "at least 1 sub-center"),
        ({"extra_losses": {"outer": 1.0}}, "expected losses out of intra, inter, triplet, center"),
        ({"extra_losses": {"intra": -1.0}}, "weight >= 0; got 'intra': -1"),
        ({"extra_losses": {"intra": float("nan")}}, "weight >= 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make(MARGINS["arcface"], **settings)


@pytest.mark.parametrize("name", ["adaface", "softmax-bias"])
def test_a_run_with_everything_on_trains_resumes_and_is_stored(tiny_faces: Path, tmp_path: Path, name: str) -> None:
    losses = ExtraLosses(intra=1.0, inter=1.0, triplet=1.0, center=0.003)
    config = replace(TINY, keep_head=True, margin=name, subcenters=2, extra_losses=losses, past_pi="easy")
    out, cut = tmp_path / "whole", tmp_path / "cut"
    header = train(tiny_faces, out, config=config)
    assert TrainConfig.from_mapping(json.loads(json.dumps(header["training"]))) == config
    centers = load_checkpoint(out).tensors["head.centers"].float()
    torch.testing.assert_close(centers.norm(dim=1), torch.ones(4), atol=1e-3, rtol=0)  # the dominant sub-centers
    with pytest.raises(KilledError):
        train(tiny_faces, cut, config=config, save_every=0, progress=kill_at(4))
    train(tiny_faces, cut, config=config)
    assert_same_tensors(cut, out)
