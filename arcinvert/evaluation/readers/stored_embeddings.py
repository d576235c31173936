"""Embeddings in a ``.npy`` file, with a label file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from arcinvert.checkpoint import file_digest
from arcinvert.embeddings import DAMAGED, read_embeddings, read_header
from arcinvert.errors import InputError
from arcinvert.evaluation.allpairs.search import Labels, Rows
from arcinvert.evaluation.readers.lists import read_labels


@dataclass(frozen=True, eq=False)
class Stored:
    """Embeddings of a file and their labels.

    Attributes:
        rows: (N, D) float32, unit norm.
        labels: (N,) positions in ``names``; 0, 1, 2, ... without a label file.
        names: sorted names of the identities; empty without a label file.
        files: path, SHA-256 and number of rows of each file.
        note: a remark about the norms, or None.
    """

    rows: Rows
    labels: Labels
    names: tuple[str, ...]
    files: tuple[dict[str, Any], ...]
    note: str | None


def read_stored(embeddings: Path, labels: Path | None = None) -> Stored:
    """Read a ``.npy`` of (N, D) embeddings and a text file with one label per line.

    Raises:
        InputError: a file that is missing, damaged or of other content; rows that are NaN, infinite or zero (the
        message
            names them, because an evaluation skips nothing); or a different number of labels and rows.
    """
    found = read_embeddings(str(embeddings), size=_size(embeddings), model="the evaluation")
    count = len(found.rows)
    files = [{**listed(embeddings), "rows": count}]
    if labels is None:
        return Stored(found.rows, np.arange(count), (), tuple(files), found.note())
    numbers, names = read_labels(labels)
    if len(numbers) != count:
        raise InputError(f"{str(embeddings)!r} has {count} rows, but {str(labels)!r} {len(numbers)} labels")
    files.append({**listed(labels), "rows": count, "identities": len(names)})
    return Stored(found.rows, numbers, names, tuple(files), found.note())


def joint_labels(first: Stored, second: Stored) -> tuple[Labels, Labels]:
    """Labels of two files in one numbering: equal where the names are equal."""
    names = {name: number for number, name in enumerate(sorted({*first.names, *second.names}))}
    one, other = (np.array([names[name] for name in stored.names], np.int64) for stored in (first, second))
    return one[first.labels], other[second.labels]


def listed(path: Path) -> dict[str, Any]:
    """Path and SHA-256 of a file, as an entry of the sources of a result."""
    return {"file": str(path), "sha256": file_digest(path)}


def _size(path: Path) -> int:
    """D from the header; 1 without a valid header, so that reading the file reports the error."""
    try:
        with open(path, "rb") as file:
            if file.read(2) == b"PK":
                raise InputError(f"expected one array in a .npy file, got the archive {str(path)!r}; use numpy.save")
            file.seek(0)
            shape, _, _ = read_header(file)
            return shape[-1] if shape and shape[-1] else 1
    except OSError as error:
        raise InputError(f"cannot read the embeddings {str(path)!r}: {error.strerror or error}") from None
    except DAMAGED:
        return 1
