"""Make synthetic people: identities that do not exist, each in several aligned pictures.

    pip install '.[faces]'
    python scripts/make_faces.py --out DIR --identities 100 --pictures 10 --judge RECOGNISER.onnx

1. Draws ``--samples`` random faces and measures yaw, pitch and smile by the detector's landmarks, side light and
   brightness in the crop; ridge regression from the style to these gives a direction for each.
2. An identity is a random style. Its picture 00 has yaw 0 and damped other attributes; every other picture is
   moved to attributes drawn around the identity's own, and in six of ten cases takes part of another style into
   the last twelve layers, which changes colour and light.
3. Detection and alignment to 112x112; with ``--judge`` a picture is kept only where that recogniser still sees the
   person of picture 00.

DIR/faces/<identity>/<picture>.jpg are the pictures; DIR/metadata.parquet has a row for each: identity, picture,
the attributes asked for (in standard deviations), the cosine to picture 00, and the seed. As tar shards or
RecordIO: ``arcinvert data convert DIR/faces -o SHARDS`` (or ``-o FILE.rec``).

Every draw depends on (seed, identity, picture) alone. A run that was stopped goes on where it was.

The generator is a MobileStyleGAN (Belousov 2021). Its package is Apache-2.0; its weights were distilled from
StyleGAN2 trained on FFHQ, whose licences are non-commercial.
"""

import argparse
import importlib.util
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from arcinvert.alignment import RetinaFace, align, picture_of

ATTRIBUTES = ("yaw", "pitch", "smile", "side_light", "brightness")
TRUNCATION = 0.85
LATE_LAYERS = 12
"""How many of the last layers of the generator take the other style."""
CHUNK = 50


class Generator:
    """The two networks of the package ``random-face``: a normal vector -> style (512) -> picture."""

    def __init__(self, threads: int) -> None:
        import openvino

        spec = importlib.util.find_spec("random_face")
        if spec is None or spec.origin is None:
            raise SystemExit("the generator is missing: pip install openvino random-face")
        data = Path(spec.origin).parent / "data"
        core = openvino.Core()
        settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
        self.mapping = core.compile_model(data / "MappingNetwork.xml", "CPU", settings)
        synthesis = core.read_model(data / "SynthesisNetwork.xml")
        _split_style(synthesis)
        self.synthesis = core.compile_model(synthesis, "CPU", settings)
        rng = np.random.default_rng(0)
        self.mean = np.mean([self.mapping(rng.standard_normal((1, 512), np.float32))[0][0] for _ in range(4096)], 0)

    def style(self, rng: np.random.Generator) -> np.ndarray:
        """(512,) of a random person."""
        style = self.mapping(rng.standard_normal((1, 512), np.float32))[0][0]
        return np.asarray(self.mean + TRUNCATION * (style - self.mean))

    def picture(self, style: np.ndarray, late: np.ndarray | None = None) -> np.ndarray:
        """(512, 512, 3) uint8 RGB."""
        late = style if late is None else late
        image = self.synthesis({"style": style[None], "late": late[None]})[0][0]
        pixels = (np.clip((image.transpose(1, 2, 0) + 1) / 2, 0, 1) * 255 + 0.5).astype(np.uint8)
        return np.array(picture_of(pixels).reduce(2))


def _split_style(network: Any) -> None:
    """Give the last layers an input of their own, named ``late``."""
    import openvino

    opset = openvino.opset13
    style = network.input("style")
    users = [user for user in style.get_target_inputs() if user.get_node().get_type_name() != "ShapeOf"]
    users.sort(key=lambda user: int(user.get_node().get_friendly_name().split("_")[1].split("/")[0]))  # Gemm_NUMBER/...
    late = opset.parameter([1, 512], np.float32, name="late")
    late.output(0).set_names({"late"})
    for user in users[-LATE_LAYERS:]:
        user.replace_source_output(late.output(0))
    network.add_parameters([late])


@dataclass(frozen=True)
class Shot:
    """An aligned picture and what was measured on it."""

    crop: np.ndarray
    attributes: np.ndarray


def shoot(picture: np.ndarray, detector: RetinaFace) -> Shot | None:
    """Align the largest face; None without one."""
    faces = detector.detect(picture)
    if not faces:
        return None
    points = faces[0].landmarks
    crop = align(picture, points)
    return Shot(crop, measure(points, crop))


def measure(points: np.ndarray, crop: np.ndarray) -> np.ndarray:
    """(5,) the attributes, unstandardised."""
    left, right, nose, mouth_left, mouth_right = points
    across = right - left
    distance = float(np.linalg.norm(across))
    along, down = across / distance, np.array([-across[1], across[0]]) / distance
    middle, mouth = (left + right) / 2, (mouth_left + mouth_right) / 2
    centre = (middle + mouth) / 2
    yaw = float((nose - centre) @ along) / distance
    pitch = float((nose - middle) @ down) / float((mouth - middle) @ down)
    smile = float(np.linalg.norm(mouth_right - mouth_left)) / distance
    grey = crop[30:100, 20:92].mean(2)
    side = float(grey[:, 36:].mean() - grey[:, :36].mean())
    return np.array([yaw, pitch, smile, side, float(grey.mean())])


@dataclass(frozen=True)
class Directions:
    """How a style moves when an attribute moves by one standard deviation.

    Attributes:
        mean, std: (5,) of the measured attributes.
        weight: (512, 5), bias: (5,) of the regression style -> standardised attributes.
        direction: (5, 512).
    """

    weight: np.ndarray
    bias: np.ndarray
    direction: np.ndarray

    def of(self, style: np.ndarray) -> np.ndarray:
        """(5,) the predicted attributes."""
        return np.asarray(style @ self.weight + self.bias)

    def moved(self, style: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """The style at which all five predicted attributes take the wanted values."""
        effect = self.direction @ self.weight
        return np.asarray(style + np.linalg.solve(effect.T, wanted - self.of(style)) @ self.direction)


def fit_directions(styles: np.ndarray, attributes: np.ndarray, ridge: float = 30.0) -> tuple[Directions, np.ndarray]:
    """Ridge regression, and its correlation with the last fifth of the samples when fitted to the others."""

    def fit(rows: slice) -> tuple[np.ndarray, np.ndarray]:
        x, y = styles[rows], standardised[rows]
        centre = x.mean(0)
        scale = x.std(0).mean()
        z = (x - centre) / scale
        weight = np.linalg.solve(z.T @ z + ridge * np.eye(z.shape[1]), z.T @ (y - y.mean(0))) / scale
        return weight, y.mean(0) - centre @ weight

    standardised = (attributes - attributes.mean(0)) / attributes.std(0)
    cut = len(styles) * 4 // 5
    weight, bias = fit(slice(0, cut))
    unseen = styles[cut:] @ weight + bias
    quality = np.array([np.corrcoef(unseen[:, i], standardised[cut:, i])[0, 1] for i in range(len(ATTRIBUTES))])
    weight, bias = fit(slice(None))
    return Directions(weight, bias, (np.cov(styles.T) @ weight).T), quality


def samples(out: Path, generator: Generator, detector: RetinaFace, seed: int, count: int) -> dict[str, np.ndarray]:
    """Random faces: styles, attributes and crops, kept in files of 50."""
    folder = out / "samples"
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for first in range(0, count, CHUNK):
        path = folder / f"{first:06d}.npz"
        if not path.exists():
            rows = []
            for i in range(first, first + CHUNK):
                style = generator.style(np.random.default_rng([seed, 1, i]))
                shot = shoot(generator.picture(style), detector)
                if shot is not None:
                    rows.append((style, shot))
            temporary = path.with_suffix(".tmp.npz")
            np.savez(
                temporary,
                styles=np.stack([style for style, _ in rows]),
                attributes=np.stack([shot.attributes for _, shot in rows]),
                crops=np.stack([shot.crop for _, shot in rows]),
            )
            os.replace(temporary, path)
            print(f"samples: {first + CHUNK} of {count}", flush=True)
        with np.load(path) as stored:
            parts.append({key: stored[key] for key in stored.files})
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def pictures_of(
    generator: Generator, detector: RetinaFace, directions: Directions, seed: int, identity: int, count: int
) -> Iterator[tuple[Shot, np.ndarray]]:
    """The pictures of an identity, 00 first, with the attributes asked for."""
    style = generator.style(np.random.default_rng([seed, 2, identity, 0]))
    own = directions.of(style)
    reference = own * 0.5
    reference[0] = 0
    for picture in range(count):
        rng = np.random.default_rng([seed, 2, identity, 1 + picture])
        wanted = reference
        if picture:
            wanted = own * 0.5 + rng.standard_normal(len(ATTRIBUTES)) * np.array([0, 0.5, 0.7, 0.9, 0.4])
            wanted[0] = rng.uniform(-1.9, 1.9)
        moved = directions.moved(style, wanted)
        late = moved
        if picture and rng.uniform() < 0.6:
            late = 0.55 * moved + 0.45 * generator.style(rng)
        shot = shoot(generator.picture(moved, late), detector)
        if shot is not None:
            yield shot, wanted


class Judge:
    """Any recogniser as ONNX that takes RGB 0..255."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name

    def __call__(self, crop: np.ndarray) -> np.ndarray:
        row = self.session.run(None, {self.input: crop.transpose(2, 0, 1)[None].astype(np.float32)})[0][0]
        return np.asarray(row / np.linalg.norm(row))


def write_metadata(out: Path, seed: int) -> int:
    """All tables that are there as one parquet file; returns its rows."""
    import pyarrow
    import pyarrow.parquet

    rows = [row for table in sorted((out / "tables").glob("*.json")) for row in json.loads(table.read_text())]
    columns: dict[str, list[Any]] = {"identity": [row[0] for row in rows], "picture": [row[1] for row in rows]}
    columns |= {name: [row[2 + i] for row in rows] for i, name in enumerate(ATTRIBUTES)}
    columns |= {"cosine": [row[-1] for row in rows], "seed": [seed] * len(rows)}
    temporary = out / "metadata.tmp"
    pyarrow.parquet.write_table(pyarrow.table(columns), temporary)
    os.replace(temporary, out / "metadata.parquet")
    return len(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--identities", type=int, default=100)
    parser.add_argument("--pictures", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="number of the first identity")
    parser.add_argument("--samples", type=int, default=1500, help="random faces behind the attribute directions")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--judge", type=Path, action="append", default=[], help="recogniser as ONNX, RGB 0..255")
    parser.add_argument("--least", type=float, default=0.38, help="least mean cosine to picture 00")
    parser.add_argument("--threads", type=int, default=0, help="0: all")
    options = parser.parse_args()

    generator, detector = Generator(options.threads), RetinaFace(views=(480,))
    judges = [Judge(path) for path in options.judge]
    drawn = samples(options.out, generator, detector, options.seed, options.samples)
    directions, quality = fit_directions(drawn["styles"], drawn["attributes"])
    print(
        "correlation on unseen samples: " + ", ".join(f"{n} {q:.2f}" for n, q in zip(ATTRIBUTES, quality, strict=True))
    )
    for identity in range(options.first, options.first + options.identities):
        folder = options.out / "faces" / f"{identity:05d}"
        table = options.out / "tables" / f"{identity:05d}.json"
        if table.exists():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        table.parent.mkdir(exist_ok=True)
        rows: list[list[Any]] = []
        reference: list[np.ndarray] = []
        for shot, wanted in pictures_of(generator, detector, directions, options.seed, identity, options.pictures):
            seen = [judge(shot.crop) for judge in judges]
            reference = reference or seen
            cosine = float(np.mean([a @ b for a, b in zip(seen, reference, strict=True)])) if judges else None
            if cosine is not None and cosine < options.least:
                continue
            Image.fromarray(shot.crop).save(folder / f"{len(rows):02d}.jpg", quality=93)
            rows.append([f"{identity:05d}", len(rows), *(round(float(v), 3) for v in wanted), cosine])
        temporary = table.with_suffix(".tmp")
        temporary.write_text(json.dumps(rows))
        os.replace(temporary, table)
        print(f"identity {identity}: {len(rows)} pictures", flush=True)
    print(f"{write_metadata(options.out, options.seed)} pictures in {options.out / 'metadata.parquet'}")


if __name__ == "__main__":
    main()
