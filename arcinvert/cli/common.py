"""What the commands share: the quiet and debug flags, the device, the progress line."""

import logging
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import torch

    from arcinvert.distributed import Ranks
    from arcinvert.inverter import Inverter

Checkpoint = Annotated[
    Path | None, typer.Option("--checkpoint", envvar="ARCINVERT_CHECKPOINT", help="A recognizer; default: our own.")
]
Device = Annotated[str, typer.Option("--device", envvar="ARCINVERT_DEVICE", help="auto, cpu, cuda:0 or mps.")]
Json = Annotated[bool, typer.Option("--json", help="Print the summary as JSON on stdout.")]


@dataclass
class State:
    """Options that stand before the command."""

    quiet: bool = False
    debug: bool = False


state = State()


def device(name: str) -> "torch.device":
    """``auto`` takes a GPU where there is one.

    Raises:
        UsageError: not a device, or not one of this machine.
    """
    import torch

    from arcinvert.device import choose_device

    torch.set_flush_denormal(True)
    return choose_device(name)


def open_inverter(checkpoint: Path | None, device_name: str, ranks: "Ranks") -> "Inverter":
    """The inverter of a checkpoint, each process on a GPU of its own; the first process calibrates for all."""
    import torch

    from arcinvert.inverter import Inverter
    from arcinvert.recognizer import Recognizer

    chosen = device(device_name)
    if ranks.world > 1 and chosen == torch.device("cuda"):
        chosen = torch.device("cuda", ranks.local % torch.cuda.device_count())
    recognizer = Recognizer.load(checkpoint, device=chosen)
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
    """Send the package's messages to stderr; with ``quiet`` errors alone."""
    package = logging.getLogger("arcinvert")
    if not any(isinstance(handler, _Stderr) for handler in package.handlers):
        package.addHandler(_Stderr())
    package.setLevel(logging.ERROR if quiet else logging.INFO)


def say(line: str) -> None:
    """Log a message of the command line."""
    logging.getLogger("arcinvert.cli").info("%s", line)


def printable(line: str) -> str:
    """Control characters of file names and headers are shown, never sent to the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def answer(line: str) -> None:
    """The result of a command, on stdout."""
    typer.echo(printable(line))


class ProgressLine:
    """Draws ``(done, total, text)`` on stderr with rate and ETA: a bar on a terminal, else a line now and then."""

    def __init__(self, unit: str, *, every: float = 10.0) -> None:
        self.unit, self.every = unit, every
        self.bar: Any = None
        self.started = self.last = time.monotonic()
        self.first = 0

    def __call__(self, done: int, total: int, text: str) -> None:
        if state.quiet:
            return
        if sys.stderr.isatty():
            self._draw(done, total, text)
            return
        now = time.monotonic()
        if done >= total or now - self.last >= self.every:
            self.last = now
            rate = (done - self.first) / max(now - self.started, 1e-9)
            left = (total - done) / rate if rate > 0 else 0.0
            line = f"{done}/{total} {self.unit}, {rate:.2f}/s, {left:.0f} s left, {text}"
            print(line, file=sys.stderr, flush=True)

    def _draw(self, done: int, total: int, text: str) -> None:
        from tqdm import tqdm

        if self.bar is None or self.bar.total != total:
            self.close()
            self.bar = tqdm(total=total, initial=done - 1, unit=self.unit, file=sys.stderr, dynamic_ncols=True)
        self.bar.set_postfix_str(text, refresh=False)
        self.bar.update(done - self.bar.n)
        if done >= total:
            self.close()

    def close(self) -> None:
        """Leave the bar as it is."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
