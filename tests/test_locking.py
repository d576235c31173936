import os
from pathlib import Path

import pytest

from arcinvert import locking
from arcinvert.errors import EnvironmentProblem
from arcinvert.locking import locked_file, temporary_file

pytestmark = pytest.mark.skipif(locking.fcntl is None, reason="no locks on this system")


def test_one_run_writes_a_file_and_nothing_stays(tmp_path: Path) -> None:
    out = tmp_path / "new" / "net"
    with locked_file(out):
        with pytest.raises(EnvironmentProblem, match="net' is locked"), locked_file(out):
            pass
        with locked_file(out, wanted=False), locked_file(out.with_name("other")):
            pass
    assert list(out.parent.iterdir()) == []


def test_the_lock_of_a_killed_run_does_not_hold(tmp_path: Path) -> None:
    (tmp_path / ".net.lock").touch()
    with pytest.raises(ValueError, match="of the run"), locked_file(tmp_path / "net"):
        raise ValueError("of the run")
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_was_removed_meanwhile_is_taken_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, seen = locking._lock, []

    def removed_first(handle: int, path: Path) -> None:
        if not seen:
            (tmp_path / ".net.lock").unlink()
        seen.append(path)
        lock(handle, path)

    monkeypatch.setattr(locking, "_lock", removed_first)
    with locked_file(tmp_path / "net"):
        assert len(seen) == 2
        assert (tmp_path / ".net.lock").exists()


def test_the_temporary_file_of_a_killed_writer_is_taken_over_and_that_of_another_is_not(tmp_path: Path) -> None:
    (tmp_path / ".net.part").write_bytes(b"left")
    first, handle = temporary_file(tmp_path / "net")
    assert (first.name, first.read_bytes()) == (".net.part", b"")
    first.write_bytes(b"mine")
    second, none = temporary_file(tmp_path / "net")
    assert second != first
    assert none is None
    assert first.read_bytes() == b"mine"
    assert handle is not None
    os.close(handle)
    third, handle = temporary_file(tmp_path / "net")
    assert third == first
    os.close(handle or -1)


@pytest.mark.parametrize("kind", [os.symlink, os.link])
def test_a_link_in_place_of_the_temporary_file_is_not_written(tmp_path: Path, kind: object) -> None:
    (tmp_path / "kept").write_bytes(b"kept")
    kind(tmp_path / "kept", tmp_path / ".net.part")  # type: ignore[operator]
    path, handle = temporary_file(tmp_path / "net")
    assert path.name != ".net.part"
    assert handle is None
    assert (tmp_path / "kept").read_bytes() == b"kept"


def test_a_temporary_file_that_its_writer_moved_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flock = locking.fcntl.flock

    def after_the_writer(handle: int, how: int) -> None:
        (tmp_path / "net").write_bytes(b"")
        os.replace(tmp_path / ".net.part", tmp_path / "net")
        (tmp_path / "net").write_bytes(b"complete")
        flock(handle, how)

    monkeypatch.setattr(locking.fcntl, "flock", after_the_writer)
    path, handle = temporary_file(tmp_path / "net")
    assert handle is None
    path.write_bytes(b"other")
    assert (tmp_path / "net").read_bytes() == b"complete"
