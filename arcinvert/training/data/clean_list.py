"""Clean lists, which name the images to train on; and labels made wrong on purpose, for experiments."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from arcinvert.checkpoint import atomic_write
from arcinvert.errors import InputError, UsageError
from arcinvert.file_bytes import read_bytes

MAX_TEXT = 2 << 30
"""Largest size of a list, in bytes."""


def numbered_lines(path: Path, kind: str) -> Iterator[tuple[int, str]]:
    """The lines of a text and their numbers, without empty lines and those that begin with ``#``.

    Raises:
        InputError: the file cannot be read; the message names its ``kind``.
    """
    try:
        lines = read_bytes(path, MAX_TEXT).decode(errors="surrogateescape").split("\n")
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the {kind} {str(path)!r}: {error}") from None
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            yield number, line.rstrip("\r")


def read_clean_list(path: Path) -> frozenset[str]:
    """The images to keep: one path a line, ``identity/image``, relative to the source.

    Raises:
        InputError: no such file, no line, a duplicate line, or a line that is not such a path.
    """
    kept: set[str] = set()
    for number, file in numbered_lines(path, "clean list"):
        parts = file.split("/")
        if len(parts) != 2 or not all(parts) or parts[0].startswith("."):
            raise InputError(f"expected identity/image in line {number} of {str(path)!r}, got {file[:80]!r}")
        if file in kept:
            raise InputError(f"line {number} of {str(path)!r} is a duplicate: {file[:80]!r}")
        kept.add(file)
    if not kept:
        raise InputError(f"the clean list {str(path)!r} names no image")
    return frozenset(kept)


def write_clean_list(path: Path, files: Iterable[str]) -> None:
    """Write what :func:`read_clean_list` reads, sorted.

    Raises:
        InputError: a name that breaks the line or looks like a comment; nothing is written.
    """
    lines = sorted(files)
    for file in lines:
        if "\n" in file or file.endswith("\r") or file.startswith("#"):
            raise InputError(f"cannot name {file!r} in a clean list")
    with atomic_write(path) as temporary:
        temporary.write_bytes("".join(f"{line}\n" for line in lines).encode(errors="surrogateescape"))


def permute_labels(labels: Tensor, share: float, *, seed: int) -> tuple[Tensor, Tensor]:
    """Permute the labels of a share of the images among themselves, so that each of these gets a wrong one.

    The number of images of each identity does not change.

    Args:
        labels: (N,) int64.
        share: of the images, in [0, 1]; ``round(share * N)`` are mislabeled, never exactly one.
        seed: of the draw.

    Returns:
        (N,) noisy labels, and (N,) bool, True where they are wrong.

    Raises:
        UsageError: a share outside [0, 1], or one that no permutation can reach.
    """
    if not 0 <= share <= 1:
        raise UsageError(f"expected a share of labels in [0, 1], got {share}")
    generator = np.random.default_rng(seed)
    true = labels.numpy()
    rows = generator.choice(len(true), round(share * len(true)), replace=False)
    before = true[rows]
    after = generator.permutation(before)
    for row in generator.permutation(np.flatnonzero(after == before)):
        if after[row] != before[row]:
            continue  # an earlier exchange has made it wrong already
        others = np.flatnonzero((after != before[row]) & (before != after[row]))
        if len(others) == 0:
            raise UsageError(f"cannot mislabel {share:g} of the images: too many show one identity")
        other = generator.choice(others)
        after[[row, other]] = after[[other, row]]
    noisy = true.copy()
    noisy[rows] = after
    return torch.from_numpy(noisy), torch.from_numpy(noisy != true)
