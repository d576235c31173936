"""The journal of a job's folder."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from arcinvert import locking
from arcinvert.errors import EnvironmentProblem, UsageError
from arcinvert.synthesis.journal import append, clear, finished, locked, refuse_other_run, stem

RUN = {"targets": "a", "seed": 0}


def written(out: Path, target: int, variation: int = 0, content: bytes = b"image") -> dict[str, Any]:
    (out / f"{stem((target, variation))}.png").write_bytes(content)
    return {"target": target, "variation": variation, "sha256": hashlib.sha256(content).hexdigest()}


def names(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir())


def test_rows_of_every_rank_are_found(tmp_path: Path) -> None:
    for target, rank in ((0, 0), (1, 1), (2, 0), (11111, 2)):
        append(tmp_path, rank, RUN, written(tmp_path, target, 3))
    assert sorted(finished(tmp_path, RUN)) == [(0, 3), (1, 3), (2, 3), (11111, 3)]
    lines = (tmp_path / "journal.0.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == {"run": RUN}
    assert [json.loads(line)["target"] for line in lines[1:]] == [0, 2]
    assert finished(tmp_path, {**RUN, "seed": 1}) == {}


def test_a_line_may_be_torn_anywhere(tmp_path: Path) -> None:
    for target in range(3):
        append(tmp_path, 0, RUN, written(tmp_path, target))
    path = tmp_path / "journal.0.jsonl"
    whole = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for length in sorted({*range(0, len(whole), 17), *ends, *(end - 1 for end in ends)}):
        path.write_bytes(whole[:length])
        refuse_other_run(tmp_path, RUN)
        expected = max(0, sum(end <= length for end in ends) - 1)
        assert len(finished(tmp_path, RUN)) == expected
        append(tmp_path, 0, RUN, written(tmp_path, 7))
        assert len(finished(tmp_path, RUN)) == expected + 1
        assert path.read_bytes().startswith(whole[: max(end for end in [0, *ends] if end <= length)])


def test_an_image_that_is_missing_or_changed_is_not_finished(tmp_path: Path) -> None:
    for target in range(3):
        append(tmp_path, 0, RUN, written(tmp_path, target))
    (tmp_path / "0000_00.png").unlink()
    (tmp_path / "0001_00.png").write_bytes(b"another")
    assert list(finished(tmp_path, RUN)) == [(2, 0)]
    assert len(finished(tmp_path, RUN, check=False)) == 3


def test_lines_that_are_no_rows_are_skipped(tmp_path: Path) -> None:
    append(tmp_path, 0, RUN, written(tmp_path, 0))
    with open(tmp_path / "journal.0.jsonl", "ab") as file:
        file.write(b'\0\0\0\n[]\n{"target": "../../x", "variation": 0, "sha256": ""}\n' + b"[" * 100_000 + b"\n")
    append(tmp_path, 0, RUN, written(tmp_path, 1))
    assert list(finished(tmp_path, RUN)) == [(0, 0), (1, 0)]


@pytest.mark.parametrize("first", [b'{"run": {"seed": 1}}\n', b"{}\n", b"mine\n", b"\n", b"[]\nmore"])
def test_a_journal_of_another_job_is_refused(tmp_path: Path, first: bytes) -> None:
    (tmp_path / "journal.3.jsonl").write_bytes(first)
    with pytest.raises(UsageError, match=r"another job.*--force"):
        refuse_other_run(tmp_path, RUN)
    assert finished(tmp_path, RUN) == {}


def test_a_job_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"run": RUN, "results": [written(tmp_path, 0)]}))
    with pytest.raises(UsageError, match=r"another version.*--force"):
        refuse_other_run(tmp_path, {**RUN, "version": 2})
    assert finished(tmp_path, {**RUN, "version": 2}) == {}


def test_rows_of_the_manifest_are_finished(tmp_path: Path) -> None:
    rows = [written(tmp_path, 0)]
    (tmp_path / "manifest.json").write_text(json.dumps({"run": RUN, "results": rows}))
    refuse_other_run(tmp_path, RUN)
    assert finished(tmp_path, RUN) == {(0, 0): rows[0]}


def test_a_folder_that_does_not_exist_holds_no_job(tmp_path: Path) -> None:
    refuse_other_run(tmp_path / "none", RUN)
    assert finished(tmp_path / "none", RUN) == {}
    assert names(tmp_path) == []


def test_clear_removes_our_files_and_no_others(tmp_path: Path) -> None:
    ours = ["0000_00.png", "0001_12.png", "123456_00.png", "0000_00.webp", "0000_00.plot.png", "sheet.png"]
    ours += ["manifest.json", "journal.0.jsonl", "journal.17.jsonl"]
    others = [
        "0000.png",
        "a0000_00.png",
        "0000_00.jpg",
        "0000_00.png.bak",
        "my.part",
        ".my.png.part",
        "journal.jsonl",
        "notes.txt",
    ]
    for name in [*ours, *others, ".abc_1234.part", ".0000_00.png.part", ".manifest.json.part"]:
        (tmp_path / name).write_text("x")
    clear(tmp_path, all_of_it=False)
    assert names(tmp_path) == sorted([*ours, *others])
    clear(tmp_path, all_of_it=True)
    assert names(tmp_path) == sorted(others)


def test_clear_removes_the_manifest_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("0000_00.png", "journal.0.jsonl", "manifest.json", "sheet.png"):
        (tmp_path / name).write_text("x")
    gone: list[str] = []
    unlink = Path.unlink
    monkeypatch.setattr(Path, "unlink", lambda path, **options: (gone.append(path.name), unlink(path, **options)))
    clear(tmp_path, all_of_it=True)
    assert gone == ["0000_00.png", "sheet.png", "journal.0.jsonl", "manifest.json"]


@pytest.mark.skipif(locking.fcntl is None, reason="no locks on this system")
def test_one_process_at_a_time(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from arcinvert.synthesis.journal import locked\nwith locked(pathlib.Path(sys.argv[1])): "
    )
    with locked(tmp_path / "out"):
        other = subprocess.run(
            [sys.executable, "-c", code + "pass", str(tmp_path / "out")], capture_output=True, text=True, check=False
        )
        with pytest.raises(EnvironmentProblem, match="is locked"), locked(tmp_path / "out"):
            pass
        with locked(tmp_path / "out", wanted=False):
            pass
    assert "is locked" in other.stderr
    with locked(tmp_path / "out"):
        assert names(tmp_path / "out") == []


def test_a_journal_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "journal.0.jsonl").mkdir()
    with pytest.raises(EnvironmentProblem, match="cannot write"):
        append(tmp_path, 0, RUN, written(tmp_path, 0))
