"""The state of the page: recognizers of this machine, each loaded once, and the running task of each visitor."""

import hashlib
import shutil
import tempfile
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from arcinvert.app.targets import EXAMPLE, Target, read_target
from arcinvert.app.task import Task
from arcinvert.audit.judges import Judge, make_judge, prior_faces
from arcinvert.audit.thresholds import Threshold, public_thresholds
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
class ListedRecognizer:
    """A recognizer's file on this machine.

    Attributes:
        name: on the page, unique.
        path: of the file.
        origin: where it comes from, in words.
    """

    name: str
    path: Path
    origin: str


class AppState:
    """Recognizers by name, each loaded on first use, and tasks of visitors, of which one runs at a time.

    Args:
        checkpoint: the recognizer that is selected first; None is the one that ships with arcinvert.
        judges: more recognizers to list.
        device: for all networks.
        prior: the face prior; None is the one that ships with arcinvert.
        roots: folders whose files may be named on the page.

    Attributes:
        folder: for files that the page writes; :meth:`close` removes it.
    """

    def __init__(
        self,
        checkpoint: Path | None = None,
        judges: Sequence[Path] = (),
        *,
        device: torch.device | str = "cpu",
        prior: FacePrior | None = None,
        roots: Sequence[Path] = (),
    ) -> None:
        self.device = torch.device(device)
        self.prior = (default_face_prior() if prior is None else prior).to(self.device)
        self._listed: dict[str, ListedRecognizer] = {}
        self._loaded: dict[str, Recognizer] = {}
        self._inverters: dict[str, Inverter] = {}
        self._judges: dict[str, Judge] = {}
        self._examples: dict[str, Target] = {}
        self._tasks: dict[str, Task[Any]] = {}
        self._kept: dict[str, set[Path]] = {}
        self.roots = [root.resolve() for root in roots]
        for root in self.roots:
            if not root.is_dir():
                raise InputError(f"expected a folder as --root, got {str(root)!r}")
        self._lock, self._loading = threading.Lock(), threading.RLock()
        if checkpoint is not None:
            self.add(checkpoint, "named on the command line")
        self.add(default_checkpoint(), "ships with arcinvert", name="default")
        for judge in judges:
            self.add(judge, "named on the command line")
        for known in sorted({*PACKS, *KNOWN_MODELS}):
            self._add_installed(known)
        self._temporary = tempfile.TemporaryDirectory(prefix="arcinvert-app-")
        self.folder = Path(self._temporary.name)
        self.uploads = self.folder / "uploads"

    def _add_installed(self, name: str) -> None:
        try:
            path = locate(name)
        except CheckpointError:
            return  # not on this machine
        if path.is_file() and path not in {listed.path for listed in self._listed.values()}:
            self.add(path, "installed on this machine", name=name)

    def add(self, path: Path | str, origin: str, *, name: str | None = None) -> str:
        """List a recognizer, and return its name on the page.

        Raises:
            CheckpointError: no such file or name.
        """
        found = locate(path)
        for listed in self._listed.values():
            if listed.path.resolve() == found.resolve():
                return listed.name
        base = name or found.stem
        number = 1
        while (title := base if number == 1 else f"{base} ({number})") in self._listed:
            number += 1
        self._listed[title] = ListedRecognizer(title, found, origin)
        return title

    def allowed(self, typed: str) -> Path:
        """A path that was typed into the page, links followed.

        Raises:
            InputError: it does not lie in a folder that the page was started for.
        """
        path = Path(typed).expanduser()
        for found in (path, *(root / path for root in self.roots)):
            if "\0" not in typed and any(found.resolve().is_relative_to(root) for root in self.roots):
                return found.resolve()
        inside = ", ".join(repr(str(root)) for root in self.roots) or "none: start it with --root FOLDER"
        raise InputError(f"expected a path inside the folders of this page ({inside}), got {typed!r}")

    @property
    def names(self) -> list[str]:
        """The names of all recognizers, the first selected one in front."""
        return list(self._listed)

    def listed(self, name: str) -> ListedRecognizer:
        """The file of a recognizer.

        Raises:
            InputError: no such recognizer.
        """
        if name not in self._listed:
            raise InputError(f"no recognizer {name!r}; choose one of the list")
        return self._listed[name]

    def recognizer(self, name: str) -> Recognizer:
        """A recognizer, loaded on first use.

        Raises:
            CheckpointError: the file is not a recognizer.
        """
        with self._loading:
            if name not in self._loaded:
                self._loaded[name] = Recognizer.load(self.listed(name).path, device=self.device)
            return self._loaded[name]

    def is_calibrated(self, name: str) -> bool:
        """Whether an inversion can start without calibration."""
        return find_calibration(self.recognizer(name), self.prior) is not None

    def inverter(self, name: str, progress: Progress = silent) -> Inverter:
        """The inverter of a recognizer; if it has no calibration yet, one is made and kept in the user's cache."""
        if name not in self._inverters:
            calibration = load_calibration(self.recognizer(name), self.prior, progress=progress)
            self._inverters[name] = Inverter(self.recognizer(name), self.prior, calibration)
        return self._inverters[name]

    def thresholds(self, name: str) -> tuple[Threshold, ...]:
        """The thresholds of a recognizer, each with what it rests on (``basis``); () while none are known.

        Those of the public set of photographs that an audit uses, else those that the file states, else those that
        :meth:`judge` has fixed; the last two rest on synthetic faces.
        """
        public = public_thresholds(self.recognizer(name).digest)
        if public is not None:
            return public.thresholds
        stated = describe(self.recognizer(name), self.prior)["thresholds"]
        if stated:
            return tuple(Threshold(float(t["fmr"]), t["threshold"], int(t["impostor_pairs"])) for t in stated)
        return self._judges[name].thresholds if name in self._judges else ()

    def judge(self, name: str, *, progress: Progress = silent) -> Judge:
        """A recognizer with an audit's thresholds: of the public set, else fixed on synthetic faces on first use."""
        if name not in self._judges:
            recognizer = self.recognizer(name)
            public = public_thresholds(recognizer.digest)
            if public is None:
                self._judges[name] = make_judge(name, recognizer, prior_faces(self.prior), progress=progress)
            else:
                none = torch.empty(0, recognizer.embedding_size)
                self._judges[name] = Judge(name, recognizer, False, public.thresholds, none, public.source)
        return self._judges[name]

    def example(self, name: str) -> Target:
        """The synthetic photo that ships with the page, embedded by a recognizer."""
        if name not in self._examples:
            self._examples[name] = read_target(EXAMPLE, self.recognizer(name))
        return self._examples[name]

    def description(self, name: str) -> dict[str, Any]:
        """The output of ``arcinvert checkpoint info``."""
        return describe(self.recognizer(name), self.prior)

    def start(self, visitor: str, work: Callable[[Task[Result]], Result]) -> Task[Result]:
        """Start a visitor's task, and cancel the one before."""
        self.cancel(visitor)
        task = Task(self._lock, work)
        self._tasks[visitor] = task
        return task

    def task(self, visitor: str) -> Task[Any] | None:
        """The last task of a visitor."""
        return self._tasks.get(visitor)

    def cancel(self, visitor: str) -> None:
        """Cancel a visitor's task."""
        task = self._tasks.pop(visitor, None)
        if task is not None:
            task.cancel()

    def keep(self, visitor: str, path: Path) -> Path:
        """Remember an upload or a folder of results, and return it; :meth:`leave` deletes it."""
        self._kept.setdefault(visitor, set()).add(path)
        return path

    def new_folder(self, visitor: str, prefix: str) -> Path:
        """A folder for results, deleted when the visitor leaves."""
        return self.keep(visitor, Path(tempfile.mkdtemp(prefix=prefix, dir=self.folder)))

    def leave(self, visitor: str) -> None:
        """Cancel a visitor's task, and delete the uploads and results once it has ended."""
        task = self._tasks.get(visitor)
        self.cancel(visitor)
        if task is None:
            self._delete(visitor)
        else:
            task.result.add_done_callback(lambda _: self._delete(visitor))

    def _delete(self, visitor: str) -> None:
        """Delete a visitor's files, and the copies that gradio has made of them, but no file that others use too."""
        mine = self._kept.pop(visitor, set())
        others = {path for paths in list(self._kept.values()) for path in paths}
        gone = {_digest(file) for file in _files(mine)} - {_digest(file) for file in _files(others)}
        for file in _files({self.uploads}):
            if _digest(file) in gone:
                file.unlink(missing_ok=True)
        for path in mine:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)

    def close(self) -> None:
        """Cancel all tasks, and remove the folder."""
        for visitor in list(self._tasks):
            self.cancel(visitor)
        self._temporary.cleanup()


def _files(paths: Collection[Path]) -> list[Path]:
    """These files, and those in these folders."""
    return [file for path in paths for file in (path, *path.rglob("*")) if file.is_file()]


def _digest(file: Path) -> bytes:
    try:
        with open(file, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").digest()
    except FileNotFoundError:  # gradio has deleted it meanwhile
        return b""
