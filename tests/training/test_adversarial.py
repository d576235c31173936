"""Adversarial training images: their direction, and that the perturbation has no side effect."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from runs import TINY
from torch import Tensor, nn

from arcinvert.errors import CheckpointError, UsageError
from arcinvert.faces.augmentation import Augmentation
from arcinvert.training.config import TrainConfig
from arcinvert.training.run import Run
from arcinvert.training.trainer import open_data, train

SIZE = 4 / 255
SETTINGS = replace(TINY, epochs=1, adversarial=SIZE, subcenters=2, augmentation=Augmentation(cutout=0.0))


@pytest.fixture
def run(tiny_faces: Path) -> Run:
    return Run(open_data(tiny_faces, SETTINGS)[0], SETTINGS, torch.device("cpu"))


def test_each_pixel_goes_where_a_linear_networks_loss_rises(run: Run) -> None:
    linear = nn.Sequential(nn.AvgPool2d(28), nn.Flatten(), nn.Linear(48, 16)).double()
    run.network, run.head = linear, run.head.double()
    images, labels = run.data.at(0)
    images = images.double() * 0.5  # nothing is near the edges of the range
    moved = run._perturbed(images, labels)
    step = moved - images
    torch.testing.assert_close(step.abs(), torch.full_like(step, 2 * SIZE))

    def loss(shown: Tensor) -> float:
        return float(run.head(linear(shown), labels).loss.sum().detach())

    for row, channel, y, x in ((0, 0, 3, 90), (3, 1, 60, 60), (7, 2, 100, 20)):
        patch = torch.zeros_like(images)  # the network averages the pixels of one pool
        patch[row, channel, y // 28 * 28 : y // 28 * 28 + 28, x // 28 * 28 : x // 28 * 28 + 28] = 1e-4
        slope = loss(images + patch) - loss(images - patch)
        assert slope * float(step[row, channel, y, x]) > 0
    run.head.eval()
    assert loss(moved) > loss(images)


def test_it_stays_in_range_and_has_no_side_effect(run: Run) -> None:
    images, labels = run.data.at(0)
    before = {key: value.clone() for key, value in {**run.network.state_dict(), **run.head.state_dict()}.items()}
    draws = torch.get_rng_state()
    moved = run._perturbed(images.clamp(-1, 1), labels)
    assert float(moved.abs().max()) <= 1
    assert not moved.requires_grad
    assert all(value.grad is None for value in [*run.network.parameters(), *run.head.parameters()])
    assert run.network.training
    assert run.head.training
    assert torch.equal(torch.get_rng_state(), draws)
    for key, value in {**run.network.state_dict(), **run.head.state_dict()}.items():
        assert torch.equal(value, before[key]), key


def test_it_is_a_setting_of_the_run(tiny_faces: Path, tmp_path: Path) -> None:
    header = train(tiny_faces, tmp_path / "net", config=SETTINGS)
    assert header["training"]["adversarial"] == SIZE
    plain = train(tiny_faces, tmp_path / "plain", config=replace(SETTINGS, adversarial=0.0))
    assert header["history"][-1]["loss"] > plain["history"][-1]["loss"]
    with pytest.raises(CheckpointError, match="adversarial differs"):
        train(tiny_faces, tmp_path / "net", config=replace(SETTINGS, adversarial=0.0))
    with pytest.raises(UsageError, match="adversarial"):
        TrainConfig.from_mapping({"adversarial": -1.0})
