"""The journal of a job's folder, by which a job that was killed resumes where it was.

An image is written whole or not at all; then its row is appended to ``journal.RANK.jsonl``, whose
first line names the job it belongs to. At the end ``manifest.json`` holds the rows of all images, and the
journals are removed.
"""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arcinvert.checkpoint import file_digest
from arcinvert.errors import EnvironmentProblem, UsageError
from arcinvert.inversion.reconstruct import Job
from arcinvert.locking import locked as locked

Row = dict[str, Any]
"""The row of an image in the manifest."""
Run = Mapping[str, Any]
"""The identity of a job: version, targets, checkpoint and settings, as JSON."""

MANIFEST, SHEET = "manifest.json", "sheet.png"
_IMAGE = re.compile(r"\d{4,}_\d{2,}(\.png|\.webp|\.plot\.png)")
_JOURNAL = re.compile(r"journal\.\d+\.jsonl")
_TEMPORARY = re.compile(rf"\.([a-z0-9_]{{8}}|{_IMAGE.pattern}|{SHEET}|{MANIFEST})\.part")


def stem(job: Job) -> str:
    """``TTTT_VV``, the beginning of the names of an image's files."""
    return f"{job[0]:04d}_{job[1]:02d}"


def refuse_other_run(out: Path, run: Run) -> None:
    """Check the folder, and change nothing.

    Raises:
        UsageError: the folder's manifest or a journal belongs to another job, or cannot be read.
    """
    others = [_read_manifest(out / MANIFEST)[0]] if (out / MANIFEST).is_file() else []
    others += [found for path in _matching(out, _JOURNAL) if (found := _read_journal(path)[0]) is not None]
    for other in others:
        if other != run:
            old = isinstance(other, dict) and "targets" in other and other.get("version") != run.get("version")
            what = "a job of another version of arcinvert" if old else "the images of another job"
            raise UsageError(f"{str(out)!r} holds {what}; choose another folder, or --force")


def clear(out: Path, *, all_of_it: bool) -> None:
    """Remove what a killed process left half written; with ``all_of_it`` everything that a job writes.

    The manifest, which names the job of the images, goes last.
    """
    for path in _matching(out, _TEMPORARY):
        path.unlink()
    if all_of_it:
        for path in (*_matching(out, _IMAGE), out / SHEET):
            path.unlink(missing_ok=True)
        close(out)
        (out / MANIFEST).unlink(missing_ok=True)


def close(out: Path) -> None:
    """Remove the journals."""
    for path in _matching(out, _JOURNAL):
        path.unlink()


def finished(out: Path, run: Run, *, check: bool = True) -> dict[Job, Row]:
    """The images of a job that are there, by its manifest and journals.

    Args:
        out: the folder.
        run: lines of any other are left out.
        check: leave out those whose file is missing or not the one that was written.
    """
    found: dict[Job, Row] = {}
    sources = [_read_manifest(out / MANIFEST)] if (out / MANIFEST).is_file() else []
    for other, rows in (*sources, *map(_read_journal, _matching(out, _JOURNAL))):
        found |= {(row["target"], row["variation"]): row for row in rows if other == run and _whole(row)}
    return {job: row for job, row in found.items() if not check or _there(out / f"{stem(job)}.png", row["sha256"])}


def append(out: Path, rank: int, run: Run, row: Row) -> None:
    """Add a line to the journal of a rank, and see it on the disk; a torn line before it is cut off.

    Raises:
        EnvironmentProblem: it cannot be written.
    """
    path = out / f"journal.{rank}.jsonl"
    try:
        with open(path, "ab+") as file:
            whole = file.seek(0, os.SEEK_END)
            file.seek(max(0, whole - 1))
            if file.read(1) not in (b"\n", b""):
                file.seek(0)
                whole = file.read().rfind(b"\n") + 1
                file.truncate(whole)
            lines = [] if whole else [{"run": run}]
            file.write(b"".join(json.dumps(line).encode() + b"\n" for line in (*lines, row)))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise EnvironmentProblem(f"cannot write {str(path)!r}: {error.strerror or error}") from None


def _matching(out: Path, pattern: re.Pattern[str]) -> list[Path]:
    return sorted(path for path in out.iterdir() if pattern.fullmatch(path.name)) if out.is_dir() else []


def _read_manifest(path: Path) -> tuple[object, list[Any]]:
    """Run and rows; of a file that is no manifest of ours an empty run."""
    try:
        manifest = json.loads(path.read_bytes())
        return manifest.get("run", {}), list(manifest.get("results", []))
    except (ValueError, AttributeError, TypeError, RecursionError):
        return {}, []


def _read_journal(path: Path) -> tuple[object, list[Any]]:
    """Run and rows; the run is None where not even the first line was finished, and empty where it is not ours."""
    lines = []
    for line in path.read_bytes().split(b"\n")[:-1]:  # a last line without its end was torn off
        try:
            lines.append(json.loads(line))
        except (ValueError, RecursionError):
            lines.append(None)
    if not lines:
        return None, []
    return lines[0].get("run", {}) if isinstance(lines[0], dict) else {}, lines[1:]


def _whole(row: object) -> bool:
    kinds = {"target": int, "variation": int, "sha256": str}
    return isinstance(row, dict) and all(type(row.get(key)) is kind for key, kind in kinds.items())


def _there(path: Path, digest: str) -> bool:
    return path.is_file() and file_digest(path) == digest
