"""What the page knows of this machine: its recognizers, loaded once, and the work that each visitor has begun."""

import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from arcinvert.app.targets import EXAMPLE, Target, read_target
from arcinvert.app.task import Task
from arcinvert.audit.judges import Judge, Threshold, make_judge, prior_faces
from arcinvert.calibration.cache import find_calibration, load_calibration
from arcinvert.errors import CheckpointError, InputError
from arcinvert.evaluation.self_test import describe
from arcinvert.faceprior.prior import FacePrior, default_face_prior
from arcinvert.formats.hub import KNOWN_MODELS, PACKS, locate
from arcinvert.inverter import Inverter
from arcinvert.progress import Progress, silent
from arcinvert.recognizer import Recognizer, default_checkpoint

Result = TypeVar("Result")


@dataclass(frozen=True)
class Known:
    """A recognizer's file on this machine.

    Attributes:
        name: in the page, different for each.
        path: of the file.
        origin: why it is listed, in words.
    """

    name: str
    path: Path
    origin: str


class Studio:
    """Recognizers by name, each loaded on first use; and one piece of work at a time.

    Args:
        checkpoint: the recognizer that is chosen at first; None is the one that ships with arcinvert.
        judges: more recognizers to list.
        device: for all networks.
        prior: the face prior; None is the one that ships with arcinvert.

    Attributes:
        folder: for what the page writes; gone after :meth:`close`.
    """

    def __init__(
        self,
        checkpoint: Path | None = None,
        judges: Sequence[Path] = (),
        *,
        device: torch.device | str = "cpu",
        prior: FacePrior | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.prior = (default_face_prior() if prior is None else prior).to(self.device)
        self._known: dict[str, Known] = {}
        self._loaded: dict[str, Recognizer] = {}
        self._inverters: dict[str, Inverter] = {}
        self._judges: dict[str, Judge] = {}
        self._examples: dict[str, Target] = {}
        self._tasks: dict[str, Task[Any]] = {}
        self._engine, self._loading = threading.Lock(), threading.RLock()
        if checkpoint is not None:
            self.add(checkpoint, "named on the command line")
        self.add(default_checkpoint(), "ships with arcinvert", name="default")
        for judge in judges:
            self.add(judge, "named on the command line")
        for known in sorted({*PACKS, *KNOWN_MODELS}):
            self._add_installed(known)
        self._temporary = tempfile.TemporaryDirectory(prefix="arcinvert-app-")
        self.folder = Path(self._temporary.name)

    def _add_installed(self, name: str) -> None:
        try:
            path = locate(name)
        except CheckpointError:
            return  # not on this machine
        if path.is_file() and path not in {known.path for known in self._known.values()}:
            self.add(path, "installed on this machine", name=name)

    def add(self, path: Path | str, origin: str, *, name: str | None = None) -> str:
        """List a recognizer; its name in the page.

        Raises:
            CheckpointError: no such file or name.
        """
        found = locate(path)
        for known in self._known.values():
            if known.path.resolve() == found.resolve():
                return known.name
        base = name or found.stem
        number = 1
        while (title := base if number == 1 else f"{base} ({number})") in self._known:
            number += 1
        self._known[title] = Known(title, found, origin)
        return title

    @property
    def names(self) -> list[str]:
        """Of all recognizers, the one that is chosen at first in front."""
        return list(self._known)

    def known(self, name: str) -> Known:
        """By its name.

        Raises:
            InputError: no such recognizer.
        """
        if name not in self._known:
            raise InputError(f"this page knows no recognizer {name!r}; choose one of its list")
        return self._known[name]

    def recognizer(self, name: str) -> Recognizer:
        """Loaded on first use.

        Raises:
            CheckpointError: the file is no recognizer.
        """
        with self._loading:
            if name not in self._loaded:
                self._loaded[name] = Recognizer.load(self.known(name).path, device=self.device)
            return self._loaded[name]

    def calibrated(self, name: str) -> bool:
        """Whether an inversion can begin at once."""
        return find_calibration(self.recognizer(name), self.prior) is not None

    def inverter(self, name: str, progress: Progress = silent) -> Inverter:
        """The inverter of a recognizer; its calibration is made and kept if there is none yet."""
        if name not in self._inverters:
            calibration = load_calibration(self.recognizer(name), self.prior, progress=progress)
            self._inverters[name] = Inverter(self.recognizer(name), self.prior, calibration)
        return self._inverters[name]

    def thresholds(self, name: str) -> tuple[Threshold, ...]:
        """Those that the recognizer's file states, else those that :meth:`judge` has fixed; () if none are known."""
        stated = describe(self.recognizer(name), self.prior)["thresholds"]
        if stated:
            return tuple(Threshold(float(t["fmr"]), t["threshold"], int(t["impostor_pairs"])) for t in stated)
        return self._judges[name].thresholds if name in self._judges else ()

    def judge(self, name: str, *, progress: Progress = silent) -> Judge:
        """A recognizer with thresholds fixed on the face prior's faces, on first use."""
        if name not in self._judges:
            self._judges[name] = make_judge(name, self.recognizer(name), prior_faces(self.prior), progress=progress)
        return self._judges[name]

    def example(self, name: str) -> Target:
        """The synthetic photo that ships with the page, as a recognizer sees it."""
        if name not in self._examples:
            self._examples[name] = read_target(EXAMPLE, self.recognizer(name))
        return self._examples[name]

    def described(self, name: str) -> dict[str, Any]:
        """What ``arcinvert checkpoint info`` says."""
        return describe(self.recognizer(name), self.prior)

    # --- work

    def begin(self, visitor: str, work: Callable[[Task[Result]], Result]) -> Task[Result]:
        """Begin a visitor's work; what the visitor had begun before ends."""
        self.leave(visitor)
        task = Task(self._engine, work)
        self._tasks[visitor] = task
        return task

    def task(self, visitor: str) -> Task[Any] | None:
        """What a visitor has begun last."""
        return self._tasks.get(visitor)

    def leave(self, visitor: str) -> None:
        """End a visitor's work."""
        task = self._tasks.pop(visitor, None)
        if task is not None:
            task.end()

    def close(self) -> None:
        """End all work, and remove what was written."""
        for visitor in list(self._tasks):
            self.leave(visitor)
        self._temporary.cleanup()
