"""Readers in a process of their own: one that does not answer is ended, and the file is refused."""

import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from writing import write_store

from arcinvert.audit.stores import child, faiss_reader, lance_reader, open_store
from arcinvert.errors import InputError


@pytest.fixture
def stalls(tmp_path: Path) -> Path:
    program = tmp_path / "stalls.py"
    program.write_text("import time\ntime.sleep(60)\n")
    return program


def test_a_reader_that_does_not_answer_is_ended(stalls: Path) -> None:
    started = time.monotonic()
    reader = child.Child(str(stalls), [], "the index 'x'", 1 << 30, 0.2)
    with pytest.raises(InputError, match=r"the index 'x' cannot be read: .*after 0\.2 s without a reply"):
        reader.reply()
    assert time.monotonic() - started < 30
    assert reader.process.poll() is not None


def test_a_reply_in_parts_has_to_be_whole_in_time(tmp_path: Path) -> None:
    program = tmp_path / "slow.py"
    head = '{"kind": "reply", "value": 1, "bytes": 9}'
    program.write_text(f"import time\nprint('{head}', flush=True)\nprint('abc', end='', flush=True)\ntime.sleep(60)\n")
    with pytest.raises(InputError, match=r"after 1\.5 s"):
        child.Child(str(program), [], "a file", 1 << 30, 1.5).reply()


@pytest.mark.parametrize(("kind", "reader"), [("faiss", faiss_reader), ("lancedb", lance_reader)])
def test_a_store_whose_reader_stalls_is_refused(
    kind: str, reader: ModuleType, stalls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = write_store(kind, tmp_path, np.eye(4, dtype=np.float32), None)
    monkeypatch.setattr(reader, "__file__", str(stalls))
    monkeypatch.setattr(child, "SECONDS", 0.2)
    with pytest.raises(InputError, match="was ended after 0"):
        open_store(str(place))


def test_a_large_file_has_more_time() -> None:
    assert child.seconds_for(0) == child.SECONDS
    assert child.seconds_for(10**9) >= child.SECONDS + 60
