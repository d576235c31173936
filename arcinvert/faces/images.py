"""The one place where image files of others are opened: by content, of the listed formats, with a bounded size.

A file's name says nothing here. Pillow also knows formats that start another program (EPS starts Ghostscript) or that
hardly anybody uses; those are not tried.
"""

import io
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from arcinvert.errors import UnreadableImage

IMAGE_FORMATS: tuple[str, ...] = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "JPEG2000", "PPM")
"""Pillow's names of the formats that are read, everywhere; and HEIF, if the extra ``heic`` is installed."""
try:
    from pillow_heif import register_heif_opener
except ImportError:
    pass
else:
    register_heif_opener()
    IMAGE_FORMATS += ("HEIF",)
MAX_PIXELS = 64_000_000
# What Pillow's readers raise on damaged files; MemoryError from a length in a JPEG 2000 header, before decoding.
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, RuntimeError, MemoryError, OverflowError, struct.error)


class _PillowWarnings:
    """While images are open, in any number of threads, a large image is an error, and odd metadata is no warning."""

    def __init__(self) -> None:
        self._lock, self._open, self._filters = threading.Lock(), 0, warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if not self._open:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.simplefilter("ignore")
                warnings.simplefilter("error", Image.DecompressionBombWarning)
            self._open += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._open -= 1
            if not self._open:
                self._filters.__exit__(None, None, None)


_PILLOW_WARNINGS = _PillowWarnings()


@contextmanager
def open_image(source: Path | str | bytes, name: str | None = None) -> Iterator[Image.Image]:
    """An image of a listed format, opened and not yet decoded; errors of decoding inside the ``with`` are translated.

    Args:
        source: a path, or the bytes of a file.
        name: for error messages; default: the path.

    Raises:
        UnreadableImage: no regular file (a folder, a pipe, a device), not an image of :data:`IMAGE_FORMATS`, damaged,
            or of more than ``MAX_PIXELS``, which is checked before anything is decoded.
    """
    shown = repr(str(source) if name is None else name)
    if not isinstance(source, bytes) and not Path(source).is_file():
        raise UnreadableImage(f"expected an image file, found none at {shown}")
    try:
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        with _PILLOW_WARNINGS, Image.open(file, formats=IMAGE_FORMATS) as pil:
            if pil.width * pil.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            yield pil
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        reason = f"expected at most {MAX_PIXELS:,} pixels, got more"
    except UnidentifiedImageError:
        reason = f"expected an image ({', '.join(IMAGE_FORMATS)}), got something else"
    except DAMAGED as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
    else:
        return
    raise UnreadableImage(f"cannot read the image {shown}: {reason}")
