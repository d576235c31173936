"""Number formats of an embedding in bytes, and the evidence for each."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from arcinvert.errors import InputError

Array = NDArray[np.generic]

NUMBERS = {
    "float32": "<f4", "float64": "<f8", "float16": "<f2", "bfloat16": "bf2", "big-endian-float32": ">f4",
    "big-endian-float64": ">f8", "int8": "|i1", "uint8": "|u1",
}  # fmt: skip
"""Names of the formats that ``--numbers`` takes."""
GUESSED = ("float32", "float64", "float16", "bfloat16", "big-endian-float32", "big-endian-float64")
FEW = 8
"""Phases with fewer numbers than this say nothing."""
ALIKE, ZEROS, SPREAD = 2.5, 0.2, 0.8
"""At every phase of eight bytes the numbers of an embedding have shares of zeros within ZEROS, and log2 of their
magnitudes has medians and deviations within ALIKE. That deviation is 1.6 for normal numbers, 1.4 for uniform ones, and
at least SPREAD."""


def decode(blob: bytes, kind: str) -> Array:
    """The numbers (D,) of bytes; ``kind`` is a value of :data:`NUMBERS`.

    Raises:
        ValueError: the number of bytes does not fit.
    """
    if kind == "bf2":
        return (np.frombuffer(blob, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(blob, kind)


def number_format(blobs: Sequence[bytes], name: str) -> str:
    """The format whose numbers look like embeddings: a value of :data:`NUMBERS`.

    A smaller format wins: numbers of eight bytes read as four, or of four as two, have a low half that is zero or of
    any magnitude, while a pair of small numbers always makes a larger one.

    Raises:
        InputError: none does, or two of one size do.
    """
    likely = [label for label in GUESSED if 2 * sum(_likely(blob, NUMBERS[label]) for blob in blobs) > len(blobs)]
    even = [label for label in likely if _even(blobs, NUMBERS[label])] or likely[:1]
    if not even:
        formats = ", ".join(GUESSED[:4])
        raise InputError(
            f"{name} holds blobs of {len(blobs[0])} bytes that are no {formats} numbers; "
            f"the first begins with {blobs[0][:8].hex(' ')}; choose with --numbers"
        )
    least = min(_bytes(label) for label in even)
    fitting = [label for label in even if _bytes(label) == least]
    if len(fitting) > 1:
        fitting = [label for label in fitting if _spread(blobs, NUMBERS[label]) >= SPREAD] or fitting
    if len(fitting) > 1:
        readings = " or ".join(f"{label} ({float(decode(blobs[0], NUMBERS[label])[0]):.4g}, ...)" for label in fitting)
        raise InputError(f"the blobs of {len(blobs[0])} bytes of {name} may be {readings}; choose with --numbers")
    return NUMBERS[fitting[0]]


def _bytes(label: str) -> int:
    return int(NUMBERS[label][-1])


def _magnitudes(blob: bytes, kind: str) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):
        return np.abs(decode(blob, kind).astype(np.float64))


def _likely(blob: bytes, kind: str) -> bool:
    """Whether the numbers are finite and of similar magnitude; bytes read as a wrong type seldom are."""
    if len(blob) % int(kind[-1]):
        return False
    wide = _magnitudes(blob, kind)
    if not np.isfinite(wide).all() or not wide.any():
        return False
    typical = float(np.median(wide[wide > 0]))
    return 1e-5 < typical < 1e3 and float(wide.max()) < 1e3 * typical


def _even(blobs: Sequence[bytes], kind: str) -> bool:
    """Whether numbers at every phase of eight bytes are alike."""
    phases = 8 // int(kind[-1])
    parts = []
    for blob in blobs:
        if _likely(blob, kind):
            wide = _magnitudes(blob, kind)
            parts.append(wide[: len(wide) // phases * phases].reshape(-1, phases))
    table = np.concatenate(parts)
    if len(table) < FEW:
        return True
    zeros = (table == 0).mean(0)
    if zeros.max() - zeros.min() > ZEROS + len(table) ** -0.5 or (zeros == 1).any():
        return False
    logs = [np.log2(column[column > 0]) for column in table.T]
    return all(np.ptp([measure(column) for column in logs]) <= ALIKE for measure in (np.median, np.std))


def _spread(blobs: Sequence[bytes], kind: str) -> float:
    wide = np.concatenate([_magnitudes(blob, kind) for blob in blobs if _likely(blob, kind)])
    return float(np.log2(wide[wide > 0]).std())
