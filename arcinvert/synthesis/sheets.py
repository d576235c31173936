"""Images as files: PNGs that say they are synthetic, and the contact sheet."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, PngImagePlugin
from torch import Tensor

import arcinvert
from arcinvert.checkpoint import atomic_write, file_digest
from arcinvert.inversion.invert import reduced

if TYPE_CHECKING:
    from arcinvert.synthesis.credentials import ContentCredentials

SYNTHETIC = "synthetic face, reconstructed from an embedding by arcinvert; not a photograph"
ROWS = 64
"""Rows of a contact sheet, at most."""
COMPRESSION = 3
"""Of PNGs: 6, the library's default, takes three times as long for a twelfth fewer bytes."""


def columns_for(variations: int, count: int) -> int:
    """A target a row; or eight targets in a row where there is one image each."""
    return variations if variations > 1 else min(8, count)


def contact_sheet(images: Sequence[Tensor | np.ndarray | Image.Image], columns: int, gap: int = 4) -> Tensor:
    """A sheet (H', W', 3) uint8 of images (H, W, 3) uint8, in rows of ``columns``; of eight, if ``columns`` is 1.

    Where the sizes differ, all images are enlarged to the largest.
    """
    tensors = [image if isinstance(image, Tensor) else torch.from_numpy(np.array(image)) for image in images]
    largest = max((tensor.shape[:2] for tensor in tensors), key=lambda shape: shape.numel())
    tensors = [tensor if tensor.shape[:2] == largest else _enlarged(tensor, *largest) for tensor in tensors]
    columns = columns_for(columns, len(images))
    rows = -(-len(images) // columns)
    height, width = tensors[0].shape[:2]
    sheet = torch.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, dtype=torch.uint8)
    for i, image in enumerate(tensors):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet


def _enlarged(image: Tensor, height: int, width: int) -> Tensor:
    pixels = Image.fromarray(image.numpy()).resize((width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(pixels))


def sheet_of_files(
    paths: list[Path], variations: int, out: Path, credentials: "ContentCredentials | None" = None
) -> dict[str, int]:
    """Write the contact sheet of image files, the first :data:`ROWS` rows; returns how many rows of how many."""
    columns = columns_for(variations, len(paths))
    write_png(out, contact_sheet([read_png(path) for path in paths[: ROWS * columns]], variations), credentials)
    rows = -(-len(paths) // columns)
    return {"rows": min(rows, ROWS), "rows_in_all": rows}


def write_png(path: Path, image: Tensor, credentials: "ContentCredentials | None" = None) -> str:
    """(H, W, 3) uint8 -> PNG with a text chunk that says it is synthetic, signed by C2PA credentials if they are given.

    Returns the SHA-256 of the file.
    """
    info = PngImagePlugin.PngInfo()
    info.add_text("Description", SYNTHETIC)
    info.add_text("Software", f"arcinvert {arcinvert.__version__}")
    with atomic_write(path) as temporary:
        Image.fromarray(image.numpy()).save(temporary, format="PNG", pnginfo=info, compress_level=COMPRESSION)
        if credentials is not None:
            credentials.sign(temporary, "image/png")
        return file_digest(temporary)


def read_crop(path: Path) -> Tensor:
    """The same as a recognizer sees it, (112, 112, 3) uint8."""
    return reduced(read_png(path)[None])[0]


def read_png(path: Path) -> Tensor:
    """An image that :func:`write_png` wrote, (H, W, 3) uint8."""
    with Image.open(path, formats=("PNG",)) as image:
        return torch.from_numpy(np.array(image))
