"""The files of an audit: ``report.html``, ``report.json``, perhaps ``faces/``; and ``attack/`` while it runs."""

import contextlib
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from arcinvert.audit import attack
from arcinvert.audit.page import page, sweep_page
from arcinvert.audit.report import LeakageReport
from arcinvert.checkpoint import atomic_write
from arcinvert.errors import UsageError
from arcinvert.synthesis.sheets import write_png

HTML, SWEEP, JSON, FACES, ATTACK = "report.html", "sweep.html", "report.json", "faces", "attack"


def existing(out: Path, fingerprint: str, *, before: str | None = None) -> LeakageReport | None:
    """The report of this very audit, if the folder has it.

    Args:
        out: the folder.
        fingerprint: of the audit.
        before: of an earlier step of it, whose report is to be replaced.

    Raises:
        UsageError: it has the report of another one.
    """
    path = out / JSON
    if not path.is_file():
        return None
    report = LeakageReport.read(path)
    if report.run.fingerprint == before != fingerprint:
        return None
    if report.run.fingerprint != fingerprint:
        raise UsageError(f"{str(out)!r} holds the report of another audit; choose another folder, or --force")
    return report


def write(
    out: Path,
    report: LeakageReport,
    faces: Tensor | None,
    records: Sequence[int],
    enrolled: Sequence[Tensor | None] | None = None,
    *,
    sweep: bool,
) -> LeakageReport:
    """Write the files, ``report.json`` last.

    Args:
        out: the folder.
        report: without the names of the files.
        faces: (N, 112, 112, 3) uint8 to keep, or None.
        records: (N) their positions in the store.
        enrolled: (N) the enrolled crop (112, 112, 3) uint8 of each, None where there is none; the page shows it beside
            the reconstruction, and no other file gets it.
        sweep: whether to write the trade-off page too.

    Returns:
        The report with the names of the files.

    Raises:
        EnvironmentProblem: the folder cannot be written.
    """
    images: dict[str, dict[str, bytes]] = {}
    names = [HTML, *([SWEEP] if sweep else []), JSON]
    for row, (record, face) in enumerate(zip(records, faces if faces is not None else torch.empty(0), strict=False)):
        path = out / FACES / f"{record:08d}.png"
        write_png(path, face)
        photo = None if enrolled is None else enrolled[row]
        before = {} if photo is None else {"enrolled photo": _png(photo)}
        images[f"record {record}"] = before | {"reconstruction": path.read_bytes()}
        names.append(f"{FACES}/{path.name}")
    report = replace(report, files=tuple(names))
    texts = {HTML: page(report, images or None)} | ({SWEEP: sweep_page(report)} if sweep else {})
    for name, text in {**texts, JSON: json.dumps(report.to_json(), indent=2) + "\n"}.items():
        with atomic_write(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return report


def _png(crop: Tensor) -> bytes:
    """A photo, (H, W, 3) uint8, as it is shown: without the remark that reconstructions have."""
    written = io.BytesIO()
    Image.fromarray(crop.numpy()).save(written, format="PNG")
    return written.getvalue()


def clear_attack(out: Path) -> None:
    """Remove the journals and images of the attack."""
    folder = out / ATTACK
    if folder.is_dir():
        for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
            attack.clear(inner)
        with contextlib.suppress(OSError):  # it holds files that are not ours
            folder.rmdir()


def clear(out: Path) -> None:
    """Remove the files of an audit, the report last."""
    clear_attack(out)
    if (out / FACES).is_dir():
        for path in (out / FACES).glob("[0-9]" * 8 + ".png"):
            path.unlink()
        with contextlib.suppress(OSError):
            (out / FACES).rmdir()
    for name in (SWEEP, HTML, JSON):
        (out / name).unlink(missing_ok=True)
