"""Compare generated faces with given ones: two folders in, a table out.

    python benchmarks/compare_faces.py --given FACES --made DIR --judge A.onnx --judge B.onnx [--sheet sheet.jpg]

Both are folders ``<identity>/<image>`` of aligned crops, or the output of ``make_faces.py``. The table has each figure
for all generated faces and for all given ones that are read (the first ``--identities``), and the limits of 95 % of
random sets of given identities of the same size as the generated one: a figure outside them differs by more than
chance. Measured are

- the cosine of each image to the first one of its identity, and between identities, by each judge;
- yaw and pitch from the detector's points, without unit, and the share of images in which it finds a face;
- brightness, contrast (0 to 255), red over blue, and sharpness (mean difference of neighboring pixels);
- Frechet and kernel distance (KID) in each judge's space, from generated to given and from given to other given
  identities. Sets are small, so both Frechet distances are too large, by the same amount; KID has no such bias.

``--sheet`` draws ten identities of each, one per column, the given ones above.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from arcinvert.checkpoint import atomic_write
from arcinvert.errors import ArcInvertError, InputError, UsageError
from arcinvert.evaluation.embedding import embed_images
from arcinvert.evaluation.generation.distances import cosine_features, frechet_distance, squared_mmd
from arcinvert.evaluation.readers.crops import identity_files, read_crop
from arcinvert.faces.alignment import Detector, landmark_pose
from arcinvert.recognizer import Recognizer
from arcinvert.synthesis.robustness import BORDER, crop_detector
from arcinvert.synthesis.sheets import contact_sheet

COLUMNS, ROWS = 10, 4
"""Size of the sheet: identities, and images of each."""
Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Measured:
    """Measurements of N images.

    Attributes:
        images: (N, 112, 112, 3) uint8.
        labels: (N,) int64 identities from 0, ascending.
        pose: (N, 2) yaw and pitch, NaN where no face is found.
        tone: name -> (N,).
        seen: judge -> embeddings (N, D), unit norm.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    pose: Doubles
    tone: dict[str, Doubles]
    seen: dict[str, NDArray[np.floating]]

    @property
    def people(self) -> int:
        return int(self.labels[-1]) + 1

    def rows(self, people: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of the images of these identities."""
        return np.flatnonzero(np.isin(self.labels, people))


def measure(folder: Path, judges: dict[str, Recognizer], detector: Detector, most: int) -> Measured:
    """Read the first ``most`` identities of a folder, and measure each image.

    Raises:
        InputError: not such a folder, an image that is no crop, or fewer than two identities.
    """
    files, labels, _ = identity_files(folder / "faces" if (folder / "faces").is_dir() else folder)
    labels = labels[labels < most]
    if labels[-1] < 1:
        raise InputError(f"expected several identities in {str(folder)!r}, got one")
    images = np.stack([read_crop(path) for path in files[: len(labels)]])
    color = images.astype(np.float64)
    gray = color.mean(3)
    tone = {
        "brightness": gray.mean((1, 2)),
        "contrast": gray.std((1, 2)),
        "red over blue": color[..., 0].mean((1, 2)) - color[..., 2].mean((1, 2)),
        "sharpness": np.abs(np.diff(gray, axis=2)).mean((1, 2)),
    }
    pose = np.array([_pose(image, detector) for image in images])
    return Measured(images, labels, pose, tone, {name: embed_images(judge, images) for name, judge in judges.items()})


def _pose(image: NDArray[np.uint8], detector: Detector) -> tuple[float, float]:
    faces = detector.detect(np.pad(image, ((BORDER, BORDER), (BORDER, BORDER), (0, 0)), mode="edge"))
    return landmark_pose(faces[0].landmarks) if faces else (np.nan, np.nan)


def figures(faces: Measured, rows: NDArray[np.int64]) -> dict[str, float]:
    """Each figure of the images ``rows``, which show at least two identities."""
    labels, pose = faces.labels[rows], faces.pose[rows]
    same = labels[:, None] == labels
    starts = np.searchsorted(labels, labels)  # the first picture of the same person
    further = starts != np.arange(len(rows))
    found = {"pictures an identity": len(rows) / len(np.unique(labels)), "face found": float(np.isfinite(pose).mean())}
    for name, seen in faces.seen.items():
        cosine = seen[rows] @ seen[rows].T
        first = cosine[np.arange(len(rows)), starts][further]
        if len(first):
            found[f"to the first picture, mean ({name})"] = float(first.mean())
            found[f"to the first picture, lowest tenth below ({name})"] = float(np.quantile(first, 0.1))
        found[f"between people, mean ({name})"] = float(cosine[~same].mean())
        found[f"between people, highest hundredth above ({name})"] = float(np.quantile(cosine[~same], 0.99))
    there = pose[np.isfinite(pose[:, 0])]
    for axis, name in enumerate(("yaw", "pitch") if len(there) else ()):
        found |= {f"{name}, mean": float(there[:, axis].mean()), f"{name}, sd": float(there[:, axis].std())}
    for name, values in faces.tone.items():
        found |= {f"{name}, mean": float(values[rows].mean()), f"{name}, sd": float(values[rows].std())}
    return found


def distances(given: Measured, rows: NDArray[np.int64], other: Measured, others: NDArray[np.int64]) -> dict[str, float]:
    """Distances of two sets of images in each judge's space."""
    found = {}
    for name in given.seen:
        a, b = given.seen[name][rows], other.seen[name][others]
        found[f"Frechet distance ({name})"] = frechet_distance(a, b)
        found[f"KID ({name})"] = squared_mmd(cosine_features(a), cosine_features(b))
    return found


def compare(given: Measured, made: Measured, *, draws: int = 200, seed: int = 0) -> dict[str, dict[str, float]]:
    """Figure -> ``given``, ``made``, ``low``, ``high``; the last two limit 95 % of random given sets.

    Sets have as many identities as the generated one. For a distance, ``made`` is its mean over such sets and ``given``
    the mean from one such set to another without a common identity.

    Raises:
        InputError: fewer than twice as many given identities as generated ones.
    """
    size, rng = made.people, np.random.default_rng(seed)
    if given.people < 2 * size:
        raise InputError(f"expected at least {2 * size} given identities beside {size} made ones, got {given.people}")
    everything = np.arange(len(made.labels))
    sets = [rng.permutation(given.people)[: 2 * size] for _ in range(draws)]
    drawn = [figures(given, given.rows(chosen[:size])) for chosen in sets]
    plain = figures(given, np.arange(len(given.labels)))
    all_made = figures(made, everything)
    known = [name for name in all_made if all(name in row for row in (plain, *drawn))]  # no face, no pose
    found = {name: _row(plain[name], all_made[name], [row[name] for row in drawn]) for name in known}
    ours = [distances(given, given.rows(chosen[:size]), made, everything) for chosen in sets]
    theirs = [distances(given, given.rows(chosen[:size]), given, given.rows(chosen[size:])) for chosen in sets]
    for name in ours[0]:
        among = [row[name] for row in theirs]
        found[name] = _row(float(np.mean(among)), float(np.mean([row[name] for row in ours])), among)
    return found


def _row(given: float, made: float, drawn: Sequence[float]) -> dict[str, float]:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"given": given, "made": made, "low": float(low), "high": float(high)}


def table(found: dict[str, dict[str, float]], given: Measured, made: Measured) -> str:
    """Markdown."""
    heads = [f"{faces.people} identities, {len(faces.labels)} pictures" for faces in (given, made)]
    lines = [f"| figure | given: {heads[0]} | 95 % of sets of {made.people} given identities | made: {heads[1]} | |"]
    lines.append("|---|---|---|---|---|")
    for name, row in found.items():
        inside = row["low"] - 1e-9 <= row["made"] <= row["high"] + 1e-9
        show = _places(row)
        limits = f"{show(row['low'])} to {show(row['high'])}"
        said = "" if inside else "differs"
        lines.append(f"| {name} | {show(row['given'])} | {limits} | {show(row['made'])} | {said} |")
    return "\n".join(lines) + "\n"


def _places(row: dict[str, float]) -> Callable[[float], str]:
    digits = 1 if abs(row["given"]) > 9 else 3
    return lambda value: f"{value:.{digits}f}"


def sheet(given: Measured, made: Measured, path: Path) -> None:
    """Draw ten identities of each, one per column, the given ones above; JPEG, at three quarters of the size."""
    parts = []
    for faces in (given, made):
        chosen = [faces.rows([person])[:ROWS] for person in range(min(COLUMNS, faces.people))]
        blank = np.full_like(faces.images[0], 255)
        cells = [faces.images[rows[k]] if k < len(rows) else blank for k in range(ROWS) for rows in chosen]
        parts.append(contact_sheet([torch.from_numpy(cell) for cell in cells], len(chosen), gap=2).numpy())
    width = max(part.shape[1] for part in parts)
    parts = [np.pad(part, ((0, 0), (0, width - part.shape[1]), (0, 0)), constant_values=255) for part in parts]
    whole = Image.fromarray(np.concatenate([parts[0], np.full((16, width, 3), 255, np.uint8), parts[1]]))
    with atomic_write(path) as temporary:
        small = whole.resize((whole.width * 3 // 4, whole.height * 3 // 4), Image.Resampling.LANCZOS)
        small.save(temporary, format="JPEG", quality=75)


def run(options: argparse.Namespace) -> str:
    """The table."""
    judges = {path.stem: Recognizer.load(path) for path in options.judge}
    if len(judges) < len(options.judge):
        raise UsageError("expected judges with different file names")
    detector = crop_detector()
    made = measure(options.made, judges, detector, options.identities)
    given = measure(options.given, judges, detector, options.identities)
    found = compare(given, made, seed=options.seed)
    if options.sheet is not None:
        sheet(given, made, options.sheet)
    if options.json is not None:
        with atomic_write(options.json) as temporary:
            temporary.write_text(json.dumps(found, indent=2) + "\n")
    return table(found, given, made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--given", type=Path, required=True, help="the given faces")
    parser.add_argument("--made", type=Path, required=True, help="the generated faces")
    parser.add_argument("--judge", type=Path, action="append", required=True, help="a recognizer; may be repeated")
    parser.add_argument("--identities", type=int, default=100, help="read at most N identities of each")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random sets")
    parser.add_argument("--sheet", type=Path, help="draw both into this .jpg")
    parser.add_argument("--json", type=Path, help="write the unrounded figures to this file")
    options = parser.parse_args()
    try:
        print(run(options), end="")
    except ArcInvertError as error:
        raise SystemExit(f"compare_faces: {error}") from None


if __name__ == "__main__":
    main()
