"""Where in the 112x112 crop does the box of FaceNet's detector lie?

    pip install --no-deps facenet-pytorch
    python benchmarks/mtcnn_box.py --photos FOLDER [--people 400] [--json OUT.json]

One photo of each person (``FOLDER/<person>/<photo>``, seeded choice of people): the box of MTCNN, of the package
facenet-pytorch, with its default settings, and the five points of RetinaFace, whose similarity to the template takes
the box into the crop. Medians and standard deviations of width, height and middle, in pixels of the crop from its upper
left corner. These are :data:`arcinvert.preprocessing.MTCNN_BOX`.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from facenet_pytorch import MTCNN

from arcinvert.faces.alignment import RetinaFace, read_photo, similarity
from arcinvert.faces.choice import choose


def box_in_crop(photo: Path, mtcnn: MTCNN, detector: RetinaFace) -> list[float] | None:
    """Width, height and middle; None where either detector finds no face."""
    image = read_photo(photo)
    boxes, _ = mtcnn.detect(image)
    faces = detector.detect(image)
    if boxes is None or not faces:
        return None
    boxes = np.asarray(boxes, np.float64)
    face, _ = choose(faces, image)
    matrix = similarity(face.landmarks)
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    nearest = np.hypot(*(middles - np.asarray(face.landmarks).mean(0)).T).argmin()
    width, height = (boxes[nearest, 2:] - boxes[nearest, :2]) * np.hypot(*matrix[:, 0])
    # A point of the alignment is the middle of its pixel, a box counts from the pixel's corner.
    x, y = matrix[:, :2] @ (middles[nearest] - 0.5) + matrix[:, 2] + 0.5
    return [float(number) for number in (width, height, x, y)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--people", type=int, default=400)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    folders = sorted(folder for folder in options.photos.iterdir() if folder.is_dir())
    chosen = np.random.default_rng(0).permutation(len(folders))[: options.people]
    mtcnn, detector = MTCNN(device="cpu"), RetinaFace()
    photos = [min(folders[number].glob("*.jpg")) for number in chosen]
    found = [box for photo in photos if (box := box_in_crop(photo, mtcnn, detector))]
    rows = np.array(found)
    names = ("width", "height", "x", "y")
    report = {
        "photos": len(photos),
        "found": len(rows),
        "median": dict(zip(names, np.median(rows, 0).round(2).tolist(), strict=True)),
        "standard deviation": dict(zip(names, rows.std(0).round(2).tolist(), strict=True)),
        "height over width, 10 and 90 %": np.percentile(rows[:, 1] / rows[:, 0], [10, 90]).round(3).tolist(),
    }
    print(json.dumps(report, indent=1))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
