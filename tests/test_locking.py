from pathlib import Path

import pytest

from arcinvert import locking
from arcinvert.errors import EnvironmentProblem
from arcinvert.locking import locked_file

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
