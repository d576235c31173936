"""The variations of a target as a grid: what pose was asked of each and what was measured, and how diverse they are."""

from typing import Any

from arcinvert.app.drawing import PARTS, figure
from arcinvert.app.reconstruction import FinishedReconstruction, LiveReconstruction
from arcinvert.inversion.controls import in_degrees

MEASURES = {
    "lpips": "LPIPS; 0 for equal images",
    "feature_distance": "distance of the attacked network's early activations; 0 for equal images, about 1 for "
    "unrelated ones",
}
"""Measure of diversity -> what it is, in words."""


def grid(run: LiveReconstruction, at: int = -1, found: FinishedReconstruction | None = None) -> str:
    """The images of one frame; with the finished reconstruction also poses and diversity. Empty without a frame."""
    if not run.frames:
        return ""
    frame = run.frames[at]
    rows = [None] * len(frame.images) if found is None else found.manifest["results"]
    figures = []
    for number, (image, cosine, row) in enumerate(zip(frame.images, frame.cosine, rows, strict=True)):
        notes = [f"similarity {cosine:.2f}"]
        notes += [] if row is None else [f"asked: {asked(row)}", f"measured: {measured(row)}"]
        alt = f"Variation {number + 1} after {frame.step} steps"
        figures.append(figure(image, f"Variation {number + 1}", alt, note=notes))
    spread = None if found is None else diversity(found.manifest)
    return str(PARTS.variations(figures, spread, done=found is not None))


def asked(row: dict[str, Any]) -> str:
    """The pose that an image (a row of the manifest) was asked for, in words."""
    found = row.get("attributes", {})
    return (
        _angles(found["yaw"]["asked"], found["pitch"]["asked"]) if "yaw" in found and "pitch" in found else "any pose"
    )


def measured(row: dict[str, Any]) -> str:
    """The pose of an image (a row of the manifest), as a face detector's five points show it, in words."""
    found = row.get("robustness") or {}
    if found.get("yaw") is None or found.get("pitch") is None:
        return "no face found" if found.get("face_found") is False else "not measured"
    angles = in_degrees({"yaw": found["yaw"], "pitch": found["pitch"]})
    return _angles(angles["yaw"], angles["pitch"])


def diversity(manifest: dict[str, Any]) -> str | None:
    """The mean distance of two of the images, and by what measure; None where it was not measured."""
    found = manifest.get("diversity")
    if found is None or found["mean"] is None:
        return None
    return f"Diversity {found['mean']:.2f}: the mean over pairs of these images ({MEASURES[found['measure']]})."


def _angles(yaw: float, pitch: float) -> str:
    turn, nod = round(yaw), round(pitch)
    sideways = "no turn" if turn == 0 else f"{abs(turn)}° {'right' if turn > 0 else 'left'}"
    return f"{sideways}, " + ("level" if nod == 0 else f"{abs(nod)}° {'up' if nod > 0 else 'down'}")
