"""``arcinvert app``, without a browser."""

import sys
from pathlib import Path

import pytest

from arcinvert.cli import run


def test_without_gradio_it_says_what_to_install(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "arcinvert.app.page", raising=False)
    assert run(["app", "--checkpoint", str(tiny_checkpoint)]) == 5
    said = capsys.readouterr().err.splitlines()
    assert "arcinvert[app]" in said[-1]


def test_a_checkpoint_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["app", "--checkpoint", str(tmp_path / "none.onnx")]) == 3
    assert "found none" in capsys.readouterr().err
    assert run(["app", "--port", "0"]) == 2
