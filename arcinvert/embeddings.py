"""Reading embeddings from untrusted files, and normalizing them.

``.npy`` and ``.npz`` only; nothing is unpickled, and nothing is allocated before the header has been
checked against the size of the file.
"""

import io
import math
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from arcinvert.errors import InputError
from arcinvert.formats import open_checkpoint

LIMIT = 4 << 30
"""Bytes: an array, or standard input, larger than this is refused."""
RATIO, SLACK = 100, 1 << 20
"""A member of an archive that unpacks to more than RATIO times its size plus SLACK bytes counts as a zip bomb."""
MAX_AXES = 8
LIKELY = {128: " (dlib, FaceNet or MobileFaceNet y1?)", 256: " (MobileFace?)", 512: " (ArcFace?)", 2048: " (ResNet?)"}
"""Models by the dimension of their embeddings."""
# What numpy raises on a damaged header, which it passes to Python's parser.
DAMAGED = (ValueError, TypeError, SyntaxError, EOFError, OverflowError, RecursionError, MemoryError, TokenError)


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Normalized embeddings.

    Attributes:
        rows: (N, D) float32, unit norm.
        norms: (N,) float64, before normalization.
    """

    rows: NDArray[np.float32]
    norms: NDArray[np.float64]

    def note(self) -> str | None:
        """A message about their norms; None if they were unit norm."""
        if np.allclose(self.norms, 1, atol=1e-2):
            return None
        low, high = self.norms.min(), self.norms.max()
        return f"{len(self.norms)} embeddings had norms {low:.3g} to {high:.3g}; they were normalized"


def read_embeddings(source: str, *, size: int, key: str | None = None, model: str = "the recognizer") -> Embeddings:
    """Read (D,), (1, D), (N, D) or (N, 1, D) from a ``.npy`` or ``.npz`` file, or ``-`` for standard input.

    Args:
        source: a path, or ``-``.
        size: the expected D.
        key: name of an array in an ``.npz``.
        model: name in messages of what expects D.

    Raises:
        InputError: not such a file, a header that does not fit it, another shape or dimension,
            rows that are NaN, infinite or zero. Nothing is allocated or run before the header is checked.
    """
    if source == "-":
        content = sys.stdin.buffer.read(LIMIT + 1)
        return check_embeddings(_from_stream(io.BytesIO(content), len(content), "standard input", key), size, model)
    path = Path(source)
    if path.exists() and not path.is_file():  # to open a pipe would wait for its writer
        raise InputError(f"cannot read the embeddings {source!r}: no regular file; a pipe is read as -")
    try:
        with open(path, "rb") as file:
            return check_embeddings(_from_stream(file, path.stat().st_size, repr(source), key), size, model)
    except OSError as error:
        raise InputError(f"cannot read the embeddings {source!r}: {error.strerror or error}") from None


def check_embeddings(array: NDArray[np.generic], size: int, model: str = "the recognizer") -> Embeddings:
    """Squeeze, cast and normalize an array of embeddings.

    Args:
        array: (D,), (1, D), (N, D) or (N, 1, D); floating or integer, of any byte order.
        size: the expected D.
        model: name in messages of what expects D.

    Raises:
        InputError: another kind, shape or dimension; a row that is NaN, infinite or zero.
    """
    if array.dtype.kind not in "fiu":
        raise InputError(f"expected numbers, got an array of {array.dtype}")
    if array.size == 0:
        raise InputError(f"expected embeddings, got an empty array of shape {array.shape}")
    shaped = array[:, 0] if array.ndim == 3 and array.shape[1] == 1 else array
    shaped = shaped[None] if shaped.ndim == 1 else shaped
    if shaped.ndim != 2:
        raise InputError(f"expected embeddings (N, {size}), got shape {array.shape}")
    if shaped.shape[1] != size:
        if shaped.shape[0] == size:
            raise InputError(f"expected embeddings (N, {size}), got {array.shape}: transposed? (save the array's .T)")
        got = shaped.shape[1]
        known = LIKELY.get(got, "")
        raise InputError(f"the embeddings are {got}-d{known}, {model} is {size}-d: another network made them")
    with np.errstate(over="ignore", invalid="ignore"):
        wide = shaped.astype(np.float64)
    finite = np.isfinite(wide).all(1)
    if not finite.all():
        raise InputError(f"expected finite numbers, got NaN or infinity in {_rows(~finite)}")
    largest = np.abs(wide).max(1)
    if (largest == 0).any():
        raise InputError(f"expected embeddings with a direction, got zeros in {_rows(largest == 0)}")
    # Scaled by the largest entry first: the square of 1e200 is not a number.
    scaled = wide / largest[:, None]
    lengths = np.sqrt((scaled * scaled).sum(1))
    with np.errstate(over="ignore"):
        norms = lengths * largest
        columns = np.linalg.norm(wide, axis=0)
    if len(wide) == size and np.ptp(columns) < 1e-3 * columns.max() and np.ptp(norms) > 1e-2 * norms.max():
        raise InputError(
            f"expected embeddings ({size}, {size}), got columns of norm {columns[0]:.3g} and rows of norms "
            f"{norms.min():.3g} to {norms.max():.3g}: transposed? (save the array's .T)"
        )
    return Embeddings((scaled / lengths[:, None]).astype(np.float32), norms)


def class_centers(checkpoint: Path, identities: Sequence[int] | None = None) -> Embeddings:
    """Class centers of a checkpoint, as targets.

    Args:
        checkpoint: one that keeps its head; see ``keep_head`` in training.
        identities: numbers of classes, from 0; None is all of them.

    Raises:
        InputError: it does not keep them, has several for each class, or has fewer classes.
    """
    centers = open_checkpoint(checkpoint).section("head").get("centers")
    if centers is None:
        raise InputError(f"{str(checkpoint)!r} does not keep its class centers; train with keep_head = true")
    if centers.ndim != 2:
        raise InputError(f"{str(checkpoint)!r} keeps {centers.shape[1]} sub-centers for each class, expected one")
    identities = range(len(centers)) if identities is None else identities
    unknown = [number for number in identities if not 0 <= number < len(centers)]
    if unknown or not identities:
        raise InputError(f"expected identities from 0 to {len(centers) - 1}, got {unknown[:5]}")
    return check_embeddings(centers[list(identities)].float().numpy(), centers.shape[1])


def _from_stream(file: BinaryIO, size: int, name: str, key: str | None) -> NDArray[np.generic]:
    if size > LIMIT:
        raise InputError(f"{name} is larger than {LIMIT >> 30} GiB")
    magic = file.read(6)
    file.seek(0)
    if magic.startswith(b"PK"):
        return _from_archive(file, name, key)
    if magic != b"\x93NUMPY":
        kind = "a pickle; pickles run code and are not read" if magic[:1] == b"\x80" else "neither .npy nor .npz"
        raise InputError(f"{name} is {kind}; save it with numpy.save")
    return read_array(file, lambda start: size - start, name)


def _from_archive(file: BinaryIO, name: str, key: str | None) -> NDArray[np.generic]:
    try:
        with zipfile.ZipFile(file) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            if key is None and len(members) != 1:
                listed = ", ".join(list(members)[:10])
                raise InputError(f"{name} holds {len(members)} arrays ({listed}); choose one with --array")
            if key is not None and key not in members:
                raise InputError(f"{name} holds no array {key!r}, but {', '.join(list(members)[:10])}")
            member = members[key] if key is not None else next(iter(members.values()))
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise InputError(f"{name} is compressed in a way that numpy does not write")
            if member.file_size > LIMIT:
                raise InputError(f"an array of {name} is larger than {LIMIT >> 30} GiB")
            if is_bomb(member):
                raise InputError(f"an array of {name} unpacks to {member.file_size} bytes: a zip bomb?")
            with archive.open(member) as stream:
                # The header must agree with the unpacked size.
                return read_array(stream, lambda start: member.file_size - start, name)  # type: ignore[arg-type]
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, UnicodeError) as error:
        raise InputError(f"{name} is not a whole .npz file: {error}") from None


def read_header(stream: BinaryIO) -> tuple[tuple[int, ...], bool, "np.dtype[Any]"]:
    """Shape, Fortran order and type of a ``.npy``; the stream then stands where the numbers begin.

    Raises:
        ValueError: or another of :data:`DAMAGED`: no such header.
    """
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"format version {version}")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a header of Python 2 is read, and warned of
        shape, fortran, dtype = read(stream)
    if not all(type(side) is int and 0 <= side <= sys.maxsize for side in shape):
        raise ValueError("the shape is not one")
    return shape, bool(fortran), dtype


def read_array(stream: BinaryIO, remaining: Callable[[int], int], name: str) -> NDArray[np.generic]:
    """The array of a ``.npy`` that is as long as its header says.

    Args:
        stream: of the file.
        remaining: the bytes behind a place in it.
        name: names it in errors.

    Raises:
        InputError: damaged, or an array of pickled objects.
    """
    try:
        shape, fortran, dtype = read_header(stream)
        if len(shape) > MAX_AXES:
            raise ValueError("the shape is not one")
        start = stream.tell()
    except DAMAGED as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{name} has a damaged .npy header: {reason[:200]}") from None
    if dtype.hasobject:
        raise InputError(f"{name} holds pickled objects; pickles run code and are not read")
    expected = math.prod(shape) * dtype.itemsize
    if expected != remaining(start):
        raise InputError(f"{name} declares shape {shape} of {dtype}, {expected} bytes, but holds {remaining(start)}")
    content = stream.read(expected)
    if len(content) != expected:
        raise InputError(f"{name} ends early: {len(content)} of {expected} bytes")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def is_bomb(member: zipfile.ZipInfo) -> bool:
    """Whether a member of an archive unpacks to far more than arrays of embeddings do."""
    return member.file_size > RATIO * member.compress_size + SLACK


def _rows(mask: Any) -> str:
    numbers = np.flatnonzero(mask)
    more = f" and {len(numbers) - 5} more" if len(numbers) > 5 else ""
    return f"row{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers[:5]))}{more}"
