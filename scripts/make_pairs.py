"""Make pairs of style vectors and the face that the generator draws from them, to train a small decoder on.

    pip install '.[faces]'
    python scripts/make_pairs.py --out DIR --shards 10

1. Draws a truncation between 0.5 and 1 and a random style. The layers of the generator are in three groups: early
   (pose and shape), middle (features) and late (color and light). In half of the pictures all three take the same
   style, in the others each takes a random one of its own.
2. Draws the picture, finds the largest face and aligns it to 256x256: the ArcFace template at twice its size, with
   16 pixels of margin on every side.
3. Writes 500 pictures to a file. A picture without a face is left out; its index is in ``missing``.

DIR/00000.npz and so on hold, for N pictures:

    jpeg       the JPEG files one after another, uint8; file i is jpeg[offsets[i]:offsets[i + 1]]
    offsets    (N + 1,) int64
    styles     (N, 3, 512) float16: early, middle, late, just as the generator got them
    landmarks  (N, 5, 2) float32 in pixels of the crop
    psi        (N,) float32, the truncation
    index      (N,) int64 of the picture
    missing    (M,) int64, the indices of pictures without a face
    seed       int64

Every draw depends on (seed, index) alone, and file k holds the indices from 500 k on. A file that is there is
skipped, so a run that was stopped resumes.

Whose the generator's weights are: see ``make_faces.py``.
"""

import argparse
import io
import time
from pathlib import Path

import numpy as np
from face_generator import Generator
from make_faces import same_settings
from PIL import Image

from arcinvert.checkpoint import atomic_write
from arcinvert.errors import ArcInvertError, InputError
from arcinvert.faces.alignment import SIZE, TEMPLATE, Detector, RetinaFace, similarity, to_pil, warp

PER_SHARD = 500
PSI = (0.5, 1.0)
MIXED = 0.5
"""How often the three groups of layers take styles of their own."""
SCALE, MARGIN = 2, 16
SIDE = SCALE * SIZE + 2 * MARGIN
TARGET = (TEMPLATE + 0.5) * SCALE - 0.5 + MARGIN
"""(5, 2) where the crop has eyes, nose and mouth corners."""


def draw(generator: Generator, seed: int, index: int) -> tuple[np.ndarray, float]:
    """Styles (3, 512) float16 of the early, middle and late layers, and their truncation."""
    rng = np.random.default_rng([seed, 3, index])
    psi = rng.uniform(*PSI)
    mixed = rng.uniform() < MIXED
    styles = [generator.style(rng, psi) for _ in range(3 if mixed else 1)]
    return np.array(styles if mixed else styles * 3, np.float16), psi


def crop(picture: np.ndarray, detector: Detector) -> tuple[np.ndarray, np.ndarray] | None:
    """The largest face, (256, 256, 3) uint8, and its (5, 2) landmarks there; None without one."""
    faces = detector.detect(picture)
    if not faces:
        return None
    points = faces[0].landmarks
    try:
        matrix = similarity(points, TARGET)
    except InputError:  # the points of something that is no face
        return None
    return warp(to_pil(picture), matrix, SIDE, SIDE), points @ matrix[:, :2].T + matrix[:, 2]


def as_jpeg(image: np.ndarray) -> bytes:
    """A JPEG file of quality 95, its colors at full resolution."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()


def shard(generator: Generator, detector: Detector, seed: int, number: int) -> dict[str, np.ndarray]:
    """The arrays of one file."""
    found, missing = [], []
    for index in range(number * PER_SHARD, (number + 1) * PER_SHARD):
        styles, psi = draw(generator, seed, index)
        early, middle, late = styles.astype(np.float32)
        face = crop(generator.picture(early, late, middle), detector)
        if face is None:
            missing.append(index)
        else:
            found.append((as_jpeg(face[0]), styles, face[1], psi, index))
    files = [row[0] for row in found]
    return {
        "jpeg": np.frombuffer(b"".join(files), np.uint8),
        "offsets": np.cumsum([0, *map(len, files)], dtype=np.int64),
        "styles": np.array([row[1] for row in found], np.float16).reshape(-1, 3, 512),
        "landmarks": np.array([row[2] for row in found], np.float32).reshape(-1, 5, 2),
        "psi": np.array([row[3] for row in found], np.float32),
        "index": np.array([row[4] for row in found], np.int64),
        "missing": np.array(missing, np.int64),
        "seed": np.array(seed, np.int64),
    }


def make(options: argparse.Namespace) -> None:
    """Every file that is asked for and not there yet."""
    same_settings(options.out, {"seed": options.seed})
    generator, detector = Generator(options.threads), RetinaFace(views=(480,))
    for number in range(options.first_shard, options.first_shard + options.shards):
        path = options.out / f"{number:05d}.npz"
        if path.exists():
            continue
        start = time.monotonic()
        arrays = shard(generator, detector, options.seed, number)
        with atomic_write(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)
        each = (time.monotonic() - start) / PER_SHARD
        kept, missing = len(arrays["index"]), len(arrays["missing"])
        print(f"{path.name}: {kept} pictures, {missing} without a face, {each:.2f} s a picture", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--first-shard", type=int, default=0, help="number of the first file")
    parser.add_argument("--shards", type=int, default=1, help="how many files")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=0, help="0: all")
    options = parser.parse_args()
    for name, least in (("first-shard", 0), ("shards", 1), ("seed", 0), ("threads", 0)):
        if getattr(options, name.replace("-", "_")) < least:
            parser.error(f"expected --{name} of at least {least}")
    try:
        make(options)
    except ArcInvertError as error:
        raise SystemExit(f"make_pairs: {error}") from None


if __name__ == "__main__":
    main()
