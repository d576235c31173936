"""What is fuzzed: a reader of files of others, and small files that it reads."""

import contextlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Target:
    """A reader and its seeds.

    Attributes:
        name: of the target.
        file: path of the mutated file inside a folder of its own, or a pattern of it where the seeds' writer names it.
        seeds: writes what lies beside the file into the folder, and returns contents of the file.
        read: reads the file at this path as a user's command would.
        needs: modules without which it is left out.
        native: the reader runs foreign code that may crash; it does so in a process of its own, which is forked here.
    """

    name: str
    file: str
    seeds: Callable[[Path], Sequence[bytes]]
    read: Callable[[Path], object]
    needs: tuple[str, ...] = ()
    native: bool = False

    def missing(self) -> list[str]:
        """The modules that are not installed."""
        return [name for name in self.needs if importlib.util.find_spec(name) is None]

    def place(self, folder: Path) -> tuple[Path, Sequence[bytes]]:
        """Writes the surroundings of the file; its path, and the seeds."""
        seeds = self.seeds(folder)
        return next(folder.glob(self.file), folder / self.file), seeds


@contextlib.contextmanager
def folder_of_tests(name: str) -> Iterator[None]:
    """Makes the helpers of other tests importable, as pytest does."""
    sys.path.insert(0, str(TESTS / name))
    try:
        yield
    finally:
        sys.path.remove(str(TESTS / name))


def saved(path: Path, write: Callable[[Path], Any]) -> bytes:
    """The bytes of the file that ``write`` writes to ``path``, which is removed again."""
    write(path)
    content = path.read_bytes()
    path.unlink()
    return content
