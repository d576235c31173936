"""The head shared by several gloo processes against the head in one process."""

from typing import Any

import pytest
import torch
from processes import on_processes
from torch import Tensor

from arcinvert.distributed import SINGLE_PROCESS, Processes
from arcinvert.training.class_centers import sgd_step_
from arcinvert.training.heads import MarginHead
from arcinvert.training.losses import LOSSES
from arcinvert.training.margins import ALL_MARGINS, PAST_PI

CLASSES, SIZE = 11, 5
EXTRAS = dict.fromkeys(LOSSES, 0.5)
SETTINGS: dict[str, dict[str, Any]] = {
    **{f"{name} K={k}": {"margin": name, "subcenters": k} for name, k in zip(ALL_MARGINS, (1, 3) * 4, strict=True)},
    **{f"extras {name} K={k}": {"margin": name, "subcenters": k, "extra_losses": EXTRAS}
       for name in ("arcface", "adaface", "softmax-bias") for k in (1, 2)},
    **{past_pi: {"margin": "cm1", "past_pi": past_pi} for past_pi in PAST_PI},
    **{f"sampled {name} K={k}": {"margin": name, "subcenters": k, "extra_losses": EXTRAS, "sampling": 0.3}
       for name in ("arcface", "softmax-bias") for k in (1, 2)},
    "sampled thinly": {"margin": "arcface", "sampling": 0.01},
}  # fmt: skip
# How many images each of the (up to three) processes has, in two steps; the second is a last batch.
BATCHES = [[5, 4, 6], [1, 0, 2]]


def head_of(name: str, processes: Processes = SINGLE_PROCESS) -> MarginHead:
    torch.manual_seed(3)
    settings = dict(SETTINGS[name])
    margin = ALL_MARGINS[settings.pop("margin")]
    return MarginHead(SIZE, CLASSES, margin=margin, scale=16.0, processes=processes, **settings)


def batch(step: int) -> tuple[Tensor, Tensor]:
    """Features and labels of all processes, among them an image on its center's opposite and a double identity."""
    generator = torch.Generator().manual_seed(step)
    count = sum(BATCHES[step])
    features = torch.randn(count, SIZE, generator=generator) * torch.linspace(0.5, 20, count)[:, None]
    return features, torch.randint(CLASSES, (count,), generator=generator)


def two_steps(processes: Processes, name: str) -> dict[str, Any]:
    """Losses, gradients and weights of two steps of SGD; of this rank's images and classes."""
    head = head_of(name, processes)
    velocities = {key: torch.zeros_like(value) for key, value in head.named_parameters()}
    found: dict[str, Any] = {}
    for step, counts in enumerate(BATCHES):
        features, labels = batch(step)
        if processes.world_size == 2:
            counts = [counts[0], counts[1] + counts[2]]
        elif processes.world_size == 1:
            counts = [sum(counts)]
        start = sum(counts[: processes.rank])
        mine = slice(start, start + counts[processes.rank])
        own = features[mine].clone().requires_grad_()
        judged = head(own, labels[mine], torch.Generator().manual_seed(step))
        weights = torch.arange(1.0, 1 + len(labels))[mine]  # every image counts differently
        (judged.loss * weights).sum().backward()
        found |= {f"loss {step}": judged.loss.detach(), f"cosine {step}": judged.cosine, f"images {step}": own.grad}
        for key, value in head.named_parameters():
            assert value.grad is not None
            found[f"sharded gradient {key} {step}"] = value.grad.to_dense()
            sgd_step_(value, velocities[key], lr=0.05, momentum=0.9, weight_decay=0.1)
            value.grad = None
    found |= {f"sharded velocity {key}": value for key, value in velocities.items()}
    for key, value in head.state_dict().items():
        found[f"sharded state {key}" if key in head.SHARDED else f"state {key}"] = value
    return found


def all_settings(processes: Processes) -> dict[str, dict[str, Any]]:
    return {name: two_steps(processes, name) for name in SETTINGS}


@pytest.fixture(scope="module")
def alone() -> dict[str, dict[str, Any]]:
    return all_settings(SINGLE_PROCESS)


@pytest.mark.parametrize("world", [2, 3])
def test_loss_gradients_and_steps_are_those_of_one_process(world: int, alone: dict[str, dict[str, Any]]) -> None:
    processes = on_processes(world, all_settings)
    for name, expected in alone.items():
        assert all(set(found[name]) == set(expected) for found in processes)
        for key, value in expected.items():
            parts = [found[name][key] for found in processes]
            if key.startswith("state"):
                assert all(torch.equal(part, parts[0]) for part in parts), (name, key)
                parts = parts[:1]
            joint = torch.cat(parts) if parts[0].ndim else parts[0]
            scale = max(1.0, float(value.abs().max()))
            assert joint.shape == value.shape
            assert (joint - value).abs().max() <= 1e-5 * scale, (name, key)


def test_the_comparison_would_see_a_difference(alone: dict[str, dict[str, Any]]) -> None:
    for name, found in alone.items():
        assert found["loss 0"].min() > 0 or "inter" in name or "extras" in name or "sampled" in name
        assert found["images 1"].abs().max() > 1e-3, name
        assert found["sharded velocity centers"].abs().max() > 1e-3, name


def test_shares_are_contiguous_and_cover_all_classes() -> None:
    for world in (1, 2, 3, 7, 11):
        parts = [Processes(rank, world).share(CLASSES) for rank in range(world)]
        assert [row for part in parts for row in part] == list(range(CLASSES))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
