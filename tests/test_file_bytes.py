import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from arcinvert.audit import report
from arcinvert.audit.diff import read_report
from arcinvert.errors import ArcInvertError
from arcinvert.evaluation.readers import lists, template_lists
from arcinvert.evaluation.readers.ijb_lists import is_published, read_published
from arcinvert.file_bytes import read_bytes
from arcinvert.formats import onnx
from arcinvert.formats.mxnet import params, symbol
from arcinvert.training.data import clean_list

READERS: dict[str, tuple[Callable[[Path], object], object, str]] = {
    "labels": (lists.read_labels, lists, "MAX_TEXT"),
    "template members": (template_lists.read_members, template_lists, "MAX_FILE"),
    "clean list": (clean_list.read_clean_list, clean_list, "MAX_TEXT"),
    "report": (read_report, report, "MAX_BYTES"),
    "onnx": (onnx.read, onnx, "MAX_BYTES"),
    "mxnet symbol": (symbol.read_symbol, symbol, "MAX_BYTES"),
    "mxnet params": (params.read_params, params, "MAX_BYTES"),
}


@contextlib.contextmanager
def pipe(path: Path) -> Iterator[None]:
    """A named pipe; who waits for its content gets none after a second."""
    os.mkfifo(path)
    handle = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    timer = threading.Timer(1, os.close, (handle,))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        with contextlib.suppress(OSError):  # closed by the timer
            os.close(handle)


@pytest.mark.parametrize("name", READERS)
def test_a_pipe_is_refused(name: str, tmp_path: Path) -> None:
    with pipe(tmp_path / "file"), pytest.raises(ArcInvertError, match="no regular file"):
        READERS[name][0](tmp_path / "file")


@pytest.mark.parametrize("name", READERS)
def test_a_large_file_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, module, limit = READERS[name]
    monkeypatch.setattr(module, limit, 3)
    (tmp_path / "file").write_bytes(b"12345")
    with pytest.raises(ArcInvertError, match="expected at most 3 bytes, got 5"):
        read(tmp_path / "file")


def test_a_pipe_is_no_list_of_ijb(tmp_path: Path) -> None:
    (tmp_path / "faces").write_text("0.jpg 1 10\n")
    with pipe(tmp_path / "file"):
        for read in (is_published, lambda path: read_published(tmp_path / "faces", path)):
            with pytest.raises(ArcInvertError, match="no regular file"):
                read(tmp_path / "file")


def test_whole_content_up_to_the_limit(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"123")
    assert read_bytes(tmp_path / "file", 3) == b"123"
    with pytest.raises(IsADirectoryError):
        read_bytes(tmp_path, 3)
    with pytest.raises(OSError, match="no regular file"):
        read_bytes(Path("/dev/zero"), 3)
