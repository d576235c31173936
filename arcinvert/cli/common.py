"""What all commands share: common options, the device, messages on stderr and the progress line."""

import json
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from arcinvert.errors import without_passwords

if TYPE_CHECKING:
    import torch
    from rich.progress import Progress

    from arcinvert.distributed import Processes
    from arcinvert.inverter import Inverter
    from arcinvert.recognizer import Recognizer

REDRAW = 0.1
"""Seconds between two drawings of the bar on a terminal."""

Checkpoint = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint",
        envvar="ARCINVERT_CHECKPOINT",
        help="Weight file or name of the recognizer; the shipped checkpoint if left out.",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        envvar="ARCINVERT_DEVICE",
        help="Device that computes: cpu, cuda:0 or mps; auto takes a GPU if there is one.",
    ),
]
Detector = Annotated[
    str,
    typer.Option(metavar="retinaface|FILE", help="Find faces with retinaface, or with the SCRFD in this ONNX file."),
]
Face = Annotated[
    str,
    typer.Option(
        metavar="main|largest|central|N",
        help="Take this face where a photo shows several: the largest; the one nearest to the middle; of those of "
        "similar size the one nearest to the middle (main); or a number, 0 for the largest.",
    ),
]
GrayBits = Annotated[
    int | None,
    typer.Option(
        min=8,
        max=16,
        help="Read the values of 16-bit gray images as so many bits; default: 8 or 12 if all of them fit, else 16.",
    ),
]
Strict = Annotated[
    bool,
    typer.Option("--strict", help="Refuse files that cannot be read as an image; else they are left out, exit code 4."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]


log = logging.getLogger("arcinvert.cli")


@dataclass
class State:
    """The options given before the command's name, the progress line now on the terminal, and all arguments."""

    quiet: bool = False
    debug: bool = False
    arguments: tuple[str, ...] = ()
    line: "ProgressLine | None" = None


state = State()


def device(name: str) -> "torch.device":
    """The device of that name; ``auto`` is a GPU if the machine has one, else the CPU.

    Raises:
        UsageError: the name is not that of a device, or the machine has no such device.
    """
    import torch

    from arcinvert.device import choose_device

    torch.set_flush_denormal(True)
    return choose_device(name)


def open_recognizer(checkpoint: Path | None, device_name: str, ranks: "Processes") -> "Recognizer":
    """The recognizer of a checkpoint; each of several processes has a GPU of its own."""
    import torch

    from arcinvert.recognizer import Recognizer

    chosen = device(device_name)
    if ranks.world_size > 1 and chosen == torch.device("cuda"):
        chosen = torch.device("cuda", ranks.local_rank % torch.cuda.device_count())
    return Recognizer.load(checkpoint, device=chosen)


def open_inverter(recognizer: "Recognizer", ranks: "Processes") -> "Inverter":
    """The inverter of a recognizer; the first process calibrates for all, which may take minutes."""
    from arcinvert.inverter import Inverter

    if ranks.rank:
        ranks.wait()  # for the first process to calibrate, if that is to be done
    inverter = Inverter.of(recognizer, progress=ProgressLine("face"))
    if not ranks.rank:
        ranks.wait()
    return inverter


class _Stderr(logging.Handler):
    """Prints each message as a line on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        print(printable(record.getMessage()), file=sys.stderr)


def log_to_stderr(*, quiet: bool) -> None:
    """Print the package's log messages on stderr; with ``quiet`` only errors."""
    package = logging.getLogger("arcinvert")
    if not any(isinstance(handler, _Stderr) for handler in package.handlers):
        package.addHandler(_Stderr())
    package.setLevel(logging.ERROR if quiet else logging.INFO)


def printable(line: str) -> str:
    """The line without passwords, its control characters escaped: file names must not steer the terminal."""
    line = without_passwords(line)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def answer(line: str) -> None:
    """Print a command's result on stdout."""
    typer.echo(printable(line))


def answer_json(command: str, result: object) -> None:
    """Print a command's result as JSON on stdout; `arcinvert schema COMMAND` describes it."""
    answer(dumped(command, result))


def dumped(command: str, result: object) -> str:
    """The result as JSON, one line; tests hold it to the schema of the command."""
    return json.dumps(result)


def skipped_entries(skipped: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """Files that were left out, each with the reason, as JSON has them."""
    return [{"file": path, "reason": reason} for path, reason in skipped]


class ProgressLine:
    """Progress callback that draws on stderr: a bar on a terminal, else one line every few seconds.

    The rate is measured from the first call on, because a resumed run begins in the middle. A call with another
    total, or with fewer items done than before, begins a new measurement.

    Args:
        unit: what is counted, such as ``photo``; empty if the text of each stage says it.
        every: seconds between two lines where stderr is no terminal.
    """

    def __init__(self, unit: str, *, every: float = 10.0) -> None:
        self.unit, self.every = unit, every
        self.bar: Progress | None = None
        self.started = self.drawn = time.monotonic()
        self.first = self.done = self.total = 0

    def __call__(self, done: int, total: int, text: str) -> None:
        if state.quiet:
            return
        now, terminal = time.monotonic(), sys.stderr.isatty()
        if total != self.total or done < self.done:
            self.close()
            self.first, self.total, self.started = done, total, now
        self.done = done
        if done < total and now - self.drawn < (REDRAW if terminal else self.every):
            return
        self.drawn = now
        rate = (done - self.first) / max(now - self.started, 1e-9)
        pace = f"{rate:.2f}/s, {(total - done) / rate:.0f} s left, " if rate > 0 else ""
        counted = f"{done}/{total} {self.unit}".rstrip()
        line = printable(f"{counted}, {pace}{text}")
        if terminal:
            self._draw(line)
        else:
            print(line, file=sys.stderr, flush=True)

    def _draw(self, line: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        if self.bar is None:
            columns = BarColumn(), TextColumn("{task.description}", markup=False)
            # No thread of its own, which might draw while a worker process is forked. Results stay on stdout.
            self.bar = Progress(*columns, console=Console(stderr=True), auto_refresh=False, redirect_stdout=False)
            self.bar.add_task(line, total=self.total)
            self.bar.start()
            state.line = self
        self.bar.update(self.bar.task_ids[0], completed=self.done, description=line, refresh=True)
        if self.done >= self.total:
            self.close()

    def close(self) -> None:
        """Leave the bar on the terminal as it is, and give the cursor back."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = state.line = None
