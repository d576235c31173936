"""Make synthetic people: identities that do not exist, each in several aligned pictures.

    pip install '.[faces]'
    python scripts/make_faces.py --out DIR --identities 100 --pictures 10 --judge RECOGNizER.onnx

1. Draws ``--samples`` random faces and measures yaw, pitch and smile by the detector's landmarks, side light and
   brightness in the crop; ridge regression from the style to these gives a direction for each.
2. An identity is a random style. Its picture 00 has yaw 0 and damped other attributes; every other picture is
   moved to attributes drawn around these, and in six of ten cases takes part of another style into the last twelve
   layers, which changes color and light.
3. Detection and alignment to 112x112. A picture is kept only where recognizers still see the person of picture 00
   (mean cosine of at least ``--least``): those of ``--judge``, any file that ``arcinvert`` reads, or else the shipped
   checkpoint. At most three times ``--pictures`` are tried.

DIR/faces/<identity>/<picture>.jpg are the pictures; DIR/metadata.parquet has a row for each: identity, picture, the
attributes asked for (in standard deviations), the cosine to picture 00, and the seed. ``--shards N`` adds tar shards
(webdataset) of N pictures in DIR/shards, ``--recordio`` DIR/faces.rec with its .idx.

Every draw depends on (seed, identity, attempt) alone. A run that was stopped goes on where it was, and the same
command with more identities adds them.

The generator is a MobileStyleGAN (Belousov 2021). Its package is Apache-2.0; its weights were distilled from
StyleGAN2 trained on FFHQ, whose licenses are non-commercial.
"""

import argparse
import importlib.util
import itertools
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from face_generator import ATTRIBUTES, Directions, Generator, Shot, fit_directions, shoot
from PIL import Image

from arcinvert.checkpoint import atomic_write
from arcinvert.errors import ArcInvertError, EnvironmentProblem, UsageError
from arcinvert.faces.alignment import Detector, RetinaFace
from arcinvert.recognizer import Recognizer
from arcinvert.training.data.containers import convert_images, list_images

CHUNK = 50
"""Samples in a file."""
OWN = (0.0, 0.55, 0.65, 0.4, 1.0)
"""How much of a style's own attributes its person keeps."""
SPREAD = (0.0, 0.55, 0.55, 1.0, 0.3)
"""Standard deviations of the attributes within an identity; yaw is uniform within ``YAW``."""
YAW = 1.9
MIX, OTHER = 0.6, 0.45
"""How often another style has a part in the last layers, and how much."""
LEAST, LEAST_SHIPPED = 0.38, 0.49
"""Least mean cosine to picture 00; the second is the shipped checkpoint's threshold at a false match rate of 1e-2."""
TRIES = 3
"""Attempts for every picture that is wanted."""


def samples(
    out: Path, generator: Generator, detector: Detector, seed: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Random faces, kept in files of 50: styles (N, 512) and attributes (N, 5) of at least ``count`` attempts."""
    folder = out / "samples"
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for first in range(0, count, CHUNK):
        path = folder / f"{first:06d}.npz"
        if not path.exists():
            found = []
            for i in range(first, first + CHUNK):
                style = generator.style(np.random.default_rng([seed, 1, i]))
                shot = shoot(generator.picture(style), detector)
                found += [] if shot is None else [(style, shot.attributes)]
            styles = np.array([style for style, _ in found]).reshape(-1, 512)
            attributes = np.array([row for _, row in found]).reshape(-1, len(ATTRIBUTES))
            with atomic_write(path) as temporary, open(temporary, "wb") as file:
                np.savez(file, styles=styles, attributes=attributes)
            print(f"samples: {first + CHUNK} of {count}", flush=True)
        with np.load(path) as stored:
            parts.append((stored["styles"], stored["attributes"]))
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def shots(
    generator: Generator, detector: Detector, directions: Directions, seed: int, identity: int
) -> Iterator[tuple[Shot | None, np.ndarray]]:
    """Pictures of an identity without end, the reference first, each with the attributes asked for; None: no face."""
    rng = np.random.default_rng([seed, 2, identity, 0])
    reference = None
    while reference is None:  # hardly ever twice: nearly every picture shows a face
        style = generator.style(rng)
        own = wanted = directions.of(style) * np.array(OWN)
        reference = shoot(generator.picture(directions.moved(style, wanted)), detector)
    yield reference, wanted
    for attempt in itertools.count(1):
        rng = np.random.default_rng([seed, 2, identity, 1 + attempt])
        wanted = own + rng.standard_normal(len(ATTRIBUTES)) * np.array(SPREAD)
        wanted[0] = rng.uniform(-YAW, YAW)
        moved = late = directions.moved(style, wanted)
        if rng.uniform() < MIX:
            late = (1 - OTHER) * moved + OTHER * generator.style(rng)
        yield shoot(generator.picture(moved, late), detector), wanted


def kept_of(
    attempts: Iterator[tuple[Shot | None, np.ndarray]], judges: Sequence[Recognizer], count: int, least: float
) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """The first ``count`` pictures in which the judges see the person of the first one.

    Returns:
        The crop, the attributes asked for, and the judges' mean cosine to the first picture, of each.
    """
    found: list[tuple[np.ndarray, np.ndarray, float]] = []
    reference: list[torch.Tensor] = []
    for shot, wanted in itertools.islice(attempts, TRIES * count):
        if shot is None:
            continue
        seen = [judge.embed(torch.from_numpy(shot.crop).permute(2, 0, 1)[None])[0] for judge in judges]
        reference = reference or seen
        cosine = float(np.mean([float(a @ b) for a, b in zip(seen, reference, strict=True)]))
        if cosine >= least:
            found.append((shot.crop, wanted, cosine))
        if len(found) == count:
            break
    return found


def write_identity(out: Path, name: str, found: Sequence[tuple[np.ndarray, np.ndarray, float]]) -> None:
    """A folder of pictures, that appears whole, then its table."""
    part, folder = out / "faces" / f".{name}.part", out / "faces" / name
    for left in (part, folder):  # of a run that was killed here
        shutil.rmtree(left, ignore_errors=True)
    part.mkdir(parents=True)
    for number, (crop, _, _) in enumerate(found):
        Image.fromarray(crop).save(part / f"{number:02d}.jpg", quality=93)
    os.replace(part, folder)
    rows = [[name, n, *(round(float(v), 3) for v in wanted), round(c, 4)] for n, (_, wanted, c) in enumerate(found)]
    with atomic_write(out / "tables" / f"{name}.json") as temporary:
        temporary.write_text(json.dumps(rows))


def same_settings(out: Path, settings: dict[str, Any]) -> None:
    """Refuse a folder of another run; its settings are in ``settings.json``.

    Raises:
        UsageError: they differ.
    """
    path = out / "settings.json"
    if not path.exists():
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(settings, indent=2) + "\n")
    there = json.loads(path.read_text())
    if other := [f"{key} {there.get(key)}, not {value}" for key, value in settings.items() if there.get(key) != value]:
        raise UsageError(f"{str(out)!r} holds faces made with {'; '.join(other)}: take another folder")


def write_metadata(out: Path, seed: int) -> int:
    """All tables that are there as one parquet file; returns its rows."""
    import pyarrow
    import pyarrow.parquet

    rows = [row for table in sorted((out / "tables").glob("*.json")) for row in json.loads(table.read_text())]
    columns: dict[str, list[Any]] = {"identity": [row[0] for row in rows], "picture": [row[1] for row in rows]}
    columns |= {name: [row[2 + i] for row in rows] for i, name in enumerate(ATTRIBUTES)}
    columns |= {"cosine": [row[-1] for row in rows], "seed": [seed] * len(rows)}
    with atomic_write(out / "metadata.parquet") as temporary:
        pyarrow.parquet.write_table(pyarrow.table(columns), temporary)
    return len(rows)


def make(options: argparse.Namespace) -> None:
    """Everything that is asked for and not there yet."""
    out: Path = options.out
    if importlib.util.find_spec("pyarrow") is None:
        raise EnvironmentProblem("the metadata needs pyarrow: pip install 'arcinvert[faces]'")
    judges = [Recognizer.load(path) for path in options.judge or [None]]
    least = options.least if options.least is not None else LEAST if options.judge else LEAST_SHIPPED
    settings = {name: getattr(options, name) for name in ("seed", "samples", "pictures")}
    same_settings(out, settings | {"least": least, "judges": [judge.digest[:12] for judge in judges]})
    generator, detector = Generator(options.threads), RetinaFace(views=(480,))
    directions, quality = fit_directions(*samples(out, generator, detector, options.seed, options.samples))
    known = ", ".join(f"{name} {value:.2f}" for name, value in zip(ATTRIBUTES, quality, strict=True))
    print(f"correlation on unseen samples: {known}", flush=True)
    for identity in range(options.first, options.first + options.identities):
        name = f"{identity:05d}"
        if (out / "tables" / f"{name}.json").exists():
            continue
        attempts = shots(generator, detector, directions, options.seed, identity)
        found = kept_of(attempts, judges, options.pictures, least)
        write_identity(out, name, found)
        print(f"identity {identity}: {len(found)} pictures", flush=True)
    print(f"{write_metadata(out, options.seed)} pictures in {out / 'metadata.parquet'}")
    if options.shards:
        shutil.rmtree(out / "shards", ignore_errors=True)
        convert_images(list_images(out / "faces"), out / "shards", per_shard=options.shards)
    if options.recordio:
        for path in (out / "faces.rec", out / "faces.idx"):
            path.unlink(missing_ok=True)
        convert_images(list_images(out / "faces"), out / "faces.rec")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--identities", type=int, default=100)
    parser.add_argument("--pictures", type=int, default=10, help="of an identity")
    parser.add_argument("--first", type=int, default=0, help="number of the first identity")
    parser.add_argument("--samples", type=int, default=1200, help="random faces behind the attribute directions")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--judge", type=Path, action="append", help="a recognizer; may be repeated")
    parser.add_argument("--least", type=float, help=f"default: {LEAST}, or {LEAST_SHIPPED} by the shipped checkpoint")
    parser.add_argument("--shards", type=int, help="also write tar shards of so many pictures")
    parser.add_argument("--recordio", action="store_true", help="also write a .rec file")
    parser.add_argument("--threads", type=int, default=0, help="0: all")
    options = parser.parse_args()
    for name, least in (("identities", 1), ("pictures", 1), ("first", 0), ("samples", 20), ("seed", 0), ("threads", 0)):
        if getattr(options, name) < least:
            parser.error(f"expected --{name} of at least {least}")
    if options.shards is not None and options.shards < 1:
        parser.error("expected --shards of at least 1")
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        make(options)
    except ArcInvertError as error:
        raise SystemExit(f"make_faces: {error}") from None


if __name__ == "__main__":
    main()
