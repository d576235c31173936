"""Locks between processes, so that two runs do not write to one place; the system frees those of a killed process."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from arcinvert.errors import EnvironmentProblem

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def locked(folder: Path, *, wanted: bool = True) -> Iterator[None]:
    """The folder, made if it is not there; where ``wanted`` and the system has such locks, for one process at a time.

    Raises:
        EnvironmentProblem: another process has it, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY) if wanted and fcntl is not None else None
    except OSError as error:  # raised before the work, not after it
        raise EnvironmentProblem(f"cannot write to {str(folder)!r}: {error.strerror or error}") from None
    try:
        if handle is not None:
            _lock(handle, folder)
        yield
    finally:
        if handle is not None:
            os.close(handle)


@contextlib.contextmanager
def locked_file(path: Path, *, wanted: bool = True) -> Iterator[None]:
    """The right to write ``path``, for one process at a time; held by ``.NAME.lock`` beside it, which goes at the end.

    Raises:
        EnvironmentProblem: another process has it, or the folder cannot be written.
    """
    if not wanted or fcntl is None:
        yield
        return
    lock = path.with_name(f".{path.name}.lock")
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise EnvironmentProblem(f"cannot write to {str(path.parent)!r}: {error.strerror or error}") from None
        try:
            _lock(handle, path)
            if not _is_open(handle, lock):  # its owner removed it between the two calls
                continue
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return
        finally:
            os.close(handle)


def temporary_file(path: Path) -> tuple[Path, int | None]:
    """A new, empty file beside ``path``, to which its next content is written, and the handle that locks it.

    It is ``.NAME.part``, locked while the handle is open: one that a killed writer left is taken over, and one of a
    writer at work is not. While there is such a writer, and where the system has no such locks, the name is random
    and nothing is locked.

    Raises:
        OSError: the folder cannot be written.
    """
    named = path.with_name(f".{path.name}.part")
    if fcntl is not None and len(os.fsencode(named.name)) < 250:
        with contextlib.suppress(OSError):
            handle = os.open(named, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_open(handle, named) and os.fstat(handle).st_nlink == 1:  # its writer may have moved it by now
                    os.ftruncate(handle, 0)
                    return named, handle
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    os.close(handle)
    return Path(name), None


def _lock(handle: int, path: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise EnvironmentProblem(f"{str(path)!r} is locked: another process writes to it") from None
    except OSError:  # of a file system without locks
        return


def _is_open(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
