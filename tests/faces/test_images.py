"""Which image files are opened: by content, of the listed formats, and no others, whatever their names."""

import contextlib
import io
import os
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from arcinvert.errors import InputError, UnreadableImage
from arcinvert.evaluation.readers.crops import read_crop
from arcinvert.faces.alignment import read_photo
from arcinvert.faces.images import IMAGE_FORMATS, open_image
from arcinvert.faces.photos import align_folder, list_photos
from arcinvert.training.data.faces import load_faces
from arcinvert.training.data.image_files import decode

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 112 112\n%%EndComments\nshowpage\n%%EOF\n"


def encoded(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", IMAGE_FORMATS)
def test_every_listed_format_is_read_by_content(tmp_path: Path, kind: str) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    (tmp_path / "picture.png").write_bytes(encoded(kind))
    assert read_photo(tmp_path / "picture.png").shape == decode(encoded(kind), "x").shape == (112, 112, 3)


def test_a_picture_of_postscript_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow would hand it to the program gs, found on PATH."""
    program, trace = tmp_path / "bin" / "gs", tmp_path / "ran"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {trace}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    picture = tmp_path / "id" / "a.png"
    picture.parent.mkdir()
    picture.write_bytes(EPS)
    for read in (read_photo, read_crop, lambda path: decode(path.read_bytes(), str(path))):
        with pytest.raises(InputError, match=r"a\.png.*expected an image \(JPEG"):
            read(picture)
    assert not trace.exists()


@pytest.mark.parametrize("kind", ["PSD", "ICO", "PDF", "TGA", "SGI", "PCX", "EPS"])
def test_other_formats_of_pillow_are_not_tried(kind: str) -> None:
    content = {"PSD": b"8BPS\0\1" + bytes(40)}.get(kind) or encoded(kind)
    with pytest.raises(InputError, match="got something else"), open_image(content, "x.png"):
        pass


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_a_damaged_avif_is_an_error_of_ours() -> None:
    content = bytearray(encoded("AVIF"))
    start = content.index(b"mdat") + 4
    content[start : start + 200] = bytes(200)
    with pytest.raises(InputError, match=r"cannot read the image 'x\.avif'"):
        decode(bytes(content), "x.avif")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_pipes_and_devices_are_not_opened(tmp_path: Path) -> None:
    """To open a pipe that nobody writes to would wait for ever."""
    os.mkfifo(tmp_path / "a.png")
    for path in (tmp_path / "a.png", Path("/dev/zero")):
        with pytest.raises(InputError, match="expected an image file"):
            read_photo(path)
        with pytest.raises(InputError, match="found nothing"):
            list_photos([path])
    with pytest.raises(InputError, match="found none"):
        align_folder(tmp_path, tmp_path / "out")
    with pytest.raises(InputError, match="no regular file"):
        load_faces(tmp_path.parent, [tmp_path.name])


def test_threads_leave_the_filters_of_warnings_as_they_were(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    before, started = list(warnings.filters), threading.Barrier(3)

    def read(_: int) -> None:
        with open_image(tmp_path / "a.png") as image:
            started.wait(10)
            image.load()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(read, range(3)))
    assert warnings.filters == before


def test_remarks_of_pillow_are_not_shown(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.tif", description="x" * 100)
    (tmp_path / "a.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:-40])
    with contextlib.suppress(UnreadableImage), open_image(tmp_path / "a.tif") as image:
        image.load()
