"""Scalars for TensorBoard, where it is installed."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from arcinvert.errors import EnvironmentProblem

Scalars = Callable[[int, dict[str, float]], None]
"""Called with (step, name -> value)."""


@contextlib.contextmanager
def open_scalars(folder: Path | None, *, after: int = 0) -> Iterator[Scalars]:
    """What writes scalars to a folder of event files; with no folder they go nowhere.

    Args:
        folder: for ``tensorboard --logdir``.
        after: a run that is resumed begins after this step; what another one wrote beyond it is hidden.

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
