"""Tiny trainings that several test files share."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from arcinvert.checkpoint import load_checkpoint
from arcinvert.training.config import TrainConfig
from arcinvert.training.data.faces import FaceDataset

CPU = torch.device("cpu")
# Of six identities with six images each, two are held out: 3 steps an epoch.
TINY = TrainConfig(width=0.05, embedding_size=16, scale=16.0, epochs=2, batch_size=8, lr=0.05, held_out=2)


class KilledError(Exception):
    """Stands in for the signal that ends a run."""


def kill_at(step: int) -> Callable[[int, int, str], None]:
    """A progress callback that ends the run after a step."""

    def progress(done: int, total: int, text: str) -> None:
        if done == step:
            raise KilledError

    return progress


def state_of(out: Path) -> Path:
    """The state beside a checkpoint."""
    return out.with_name(out.name + ".state")


def made_up_faces(identities: int = 4, each: int = 6) -> FaceDataset:
    """Noise, as a data set."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (identities * each, 112, 112, 3), generator=generator)
    files = tuple(f"{i}/{k}.png" for i in range(identities) for k in range(each))
    labels = torch.arange(identities).repeat_interleave(each)
    return FaceDataset(files, images.to(torch.uint8), labels, tuple(map(str, range(identities))), "digest")


def assert_same_tensors(found: Path | dict[str, Tensor], expected: Path | dict[str, Tensor]) -> None:
    """Two checkpoints (paths or tensors) are equal to the bit."""
    first, second = (load_checkpoint(each).tensors if isinstance(each, Path) else each for each in (found, expected))
    assert set(first) == set(second)
    for key, value in second.items():
        assert torch.equal(first[key], value), key
