"""The text lists of IJB-B and IJB-C as they are published, without headers.

Faces (``ijbc_face_tid_mid.txt``): lines ``image template media``, in the order of the embeddings.
Pairs (``ijbc_template_pair_label.txt``): lines ``template template 0|1``; 1 means one person.
"""

from pathlib import Path

import numpy as np

from arcinvert.errors import InputError
from arcinvert.evaluation.allpairs.search import Index
from arcinvert.evaluation.protocols.templates import Members
from arcinvert.evaluation.readers.template_lists import MAX_FILE


def is_published(path: Path) -> bool:
    """Whether the first line is ``image template media`` between blanks, rather than a header between commas."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            cells = file.readline(1000).split()
    except OSError as error:
        raise InputError(f"cannot read {str(path)!r}: {error.strerror or error}") from None
    return len(cells) == 3 and all(cell.isascii() and cell.isdigit() for cell in cells[1:])


def read_published(faces: Path, pairs: Path) -> tuple[Members, Index]:
    """The members of the templates, and the pairs (P, 2) of templates.

    The lists name no subjects; templates that genuine pairs join, directly or through others, are of one.

    Raises:
        InputError: no such file, not such a list, a template without faces, or an impostor pair of templates that
            genuine pairs join.
    """
    templates, media = _numbers(faces, (1, 2), "image template media").T
    first, second, labels = _numbers(pairs, (0, 1, 2), "template template 0|1").T
    wrong = np.flatnonzero((labels != 0) & (labels != 1))
    if len(wrong):
        raise InputError(f"{str(pairs)!r}, pair {wrong[0] + 1}: expected 0 or 1, got {labels[wrong[0]]}")
    known, template_of = np.unique(templates, return_inverse=True)
    compared = np.stack([np.searchsorted(known, side) for side in (first, second)], 1)
    for number, side in enumerate((first, second)):
        lost = np.flatnonzero(known[np.minimum(compared[:, number], len(known) - 1)] != side)
        if len(lost):
            raise InputError(f"{str(pairs)!r}, pair {lost[0] + 1}: no face makes template {side[lost[0]]}")
    subjects = _joined(compared[labels == 1], len(known))
    same = subjects[compared[:, 0]] == subjects[compared[:, 1]]
    wrong = np.flatnonzero(same != (labels == 1))
    if len(wrong):
        one, other = first[wrong[0]], second[wrong[0]]
        raise InputError(
            f"{str(pairs)!r}, pair {wrong[0] + 1}: templates {one} and {other} are two people, "
            "but genuine pairs join them"
        )
    medium_of = np.unique(media, return_inverse=True)[1]
    return Members(template_of, medium_of, np.arange(len(template_of)), subjects), compared


def _numbers(path: Path, columns: tuple[int, ...], layout: str) -> Index:
    try:
        if path.stat().st_size > MAX_FILE:
            raise InputError(f"{str(path)!r} is larger than {MAX_FILE >> 30} GiB")
        found = np.loadtxt(path, np.int64, comments=None, usecols=columns, ndmin=2, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read {str(path)!r}: {error.strerror or error}") from None
    except (ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"expected lines {layout!r} in {str(path)!r}: {reason}") from None
    if not len(found):
        raise InputError(f"expected lines {layout!r} in {str(path)!r}, found none")
    return found


def _joined(pairs: Index, count: int) -> Index:
    """(T,) a number for each group of templates that pairs join."""
    parents = list(range(count))

    def root(number: int) -> int:
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = parents[number]
        return number

    for one, other in pairs.tolist():
        parents[root(one)] = root(other)
    return np.array([root(number) for number in range(count)], np.int64)
