"""Scalars for TensorBoard, an optional dependency."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from arcinvert.errors import EnvironmentProblem

Scalars = Callable[[int, dict[str, float]], None]
"""Called with (step, name -> value)."""


@contextlib.contextmanager
def open_scalars(folder: Path | None, *, after: int = 0) -> Iterator[Scalars]:
    """A function that writes scalars to a folder of event files; without a folder it does nothing.

    Args:
        folder: for ``tensorboard --logdir``.
        after: the step from which a run resumes; scalars of later steps that the folder holds are hidden.

    Raises:
        EnvironmentProblem: TensorBoard is not installed.
    """
    if folder is None:
        yield lambda step, values: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise EnvironmentProblem("TensorBoard is not installed: pip install 'arcinvert[tensorboard]'") from None
    writer = SummaryWriter(str(folder), purge_step=after + 1 if after else None)

    def write(step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)

    try:
        yield write
    finally:
        writer.close()
