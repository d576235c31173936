"""Images, and the containers of training images."""

import io
import json
import pickle
import struct
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from fuzz_target import Target
from PIL import Image

from arcinvert.errors import InputError
from arcinvert.evaluation.readers.bin_files import read_bin
from arcinvert.evaluation.readers.crops import read_crop
from arcinvert.faces.alignment import read_photo
from arcinvert.faces.images import IMAGE_FORMATS
from arcinvert.faces.listing import is_image, unreadable
from arcinvert.training.data import list_images, read_clean_list
from arcinvert.training.data.image_files import decode
from arcinvert.training.data.recordio import Record, write_records
from arcinvert.training.data.streaming import readable
from arcinvert.training.purify import read_true_labels


def _pixels(side: int = 112) -> np.ndarray:
    """A smooth picture, which compresses to few bytes in every format."""
    steps = np.linspace(0, 255, side)
    return np.stack(np.broadcast_arrays(steps[:, None], steps[None], 128.0), 2).astype(np.uint8)


def _encoded(kind: str, mode: str = "RGB", **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(_pixels()).convert(mode).save(file, format=kind, **options)
    return file.getvalue()


JPEG = _encoded("JPEG", quality=30)


def _images(folder: Path) -> Sequence[bytes]:
    seeds = [_encoded(kind) for kind in IMAGE_FORMATS if kind not in ("BMP", "TIFF", "PPM", "PNG")]
    for kind in ("BMP", "TIFF", "PPM", "PNG"):
        file = io.BytesIO()
        Image.fromarray(_pixels(16)).save(file, format=kind)
        seeds.append(file.getvalue())
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = io.BytesIO()
    Image.fromarray((np.arange(256).reshape(16, 16) * 256).astype(np.uint16)).save(deep, format="PNG")
    more = [_encoded("JPEG", "CMYK"), _encoded("JPEG", exif=exif), _encoded("PNG", "P"), _encoded("PNG", "RGBA")]
    more += [_encoded("TIFF", compression="tiff_lzw"), _encoded("TIFF", compression="jpeg"), _encoded("GIF", "L")]
    return [*seeds, *more, deep.getvalue()]


def _read_image(path: Path) -> None:
    """As a photo, as a crop and as a training image."""
    is_image(path)
    unreadable([path])
    for read in (read_photo, read_crop, lambda file: decode(file.read_bytes(), str(file))):
        try:
            read(path)
        except InputError:
            continue


def _records(folder: Path) -> tuple[bytes, bytes]:
    """A .rec and its .idx."""
    images = [Record((float(label),), JPEG, id=key) for key, label in enumerate((0, 0, 1), 1)]
    ranges = [Record((1.0, 3.0), is_array=True, id=4), Record((3.0, 4.0), is_array=True, id=5)]
    write_records(folder / "faces.rec", [Record((4.0, 6.0), is_array=True), *images, *ranges])
    return (folder / "faces.rec").read_bytes(), (folder / "faces.idx").read_bytes()


def _shard(folder: Path) -> Sequence[bytes]:
    seeds = []
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=form) as tar:
            for name, content in (
                *(("a/x.jpg", JPEG), ("a/x.cls", b"0"), ("a/x.json", json.dumps({"identity": "a"}).encode())),
                *(("b.c.jpg", JPEG), ("b.c.cls", b"1")),
            ):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        seeds.append(file.getvalue())
    return seeds


def _read_container(path: Path) -> None:
    images, _ = readable(list_images(path))
    for entry in images.entries:
        decode(images.content(entry), images.path(entry))


def _bins(folder: Path) -> Sequence[bytes]:
    arrays = [np.frombuffer(JPEG, np.uint8)] * 2
    seeds = [pickle.dumps(([JPEG] * 2, [True]), protocol) for protocol in (2, 4)]
    return [*seeds, pickle.dumps((arrays, np.array([True]))), struct.pack("<I", 0)]


def _clean(folder: Path) -> Sequence[bytes]:
    return [b"# kept\na/x.jpg\na/y.jpg\nb/z.png\n"]


def _true(folder: Path) -> Sequence[bytes]:
    return [b"a/x.jpg\ta\na/y.jpg\tb\n"]


TARGETS = [
    Target("image", "image", _images, _read_image),
    Target("bin of pairs", "pairs.bin", _bins, read_bin),
    Target("rec", "faces.rec", lambda folder: [_records(folder)[0]], _read_container),
    Target("idx of a rec", "faces.idx", lambda f: [_records(f)[1]], lambda p: _read_container(p.with_suffix(".rec"))),
    Target("tar shard", "000000.tar", _shard, _read_container),
    Target("clean list", "clean.txt", _clean, read_clean_list),
    Target("true labels", "true.tsv", _true, lambda path: read_true_labels(path, ["a/x.jpg", "a/y.jpg"])),
]
