"""The text lists of IJB-B and IJB-C as they are published, without headers.

Faces (``ijbc_face_tid_mid.txt``): lines ``image template media``, in the order of the embeddings.
Pairs (``ijbc_template_pair_label.txt``): lines ``template template 0|1``; 1 means one person.
Scores (``ijbc_name_5pts_score.txt``): lines ``image x1 y1 ... x5 y5 score``, in the order of the faces.
Sets of 1:N (``ijbc_1N_probe_mixed.csv``, ``ijbc_1N_gallery_G1.csv``): a header, then lines ``template,subject,...``,
one a face; only the first two columns are read.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arcinvert.errors import InputError
from arcinvert.evaluation.allpairs.search import Floats, Index, Labels
from arcinvert.evaluation.protocols.templates import Members
from arcinvert.evaluation.readers.template_lists import MAX_FILE
from arcinvert.file_bytes import check_regular


def is_published(path: Path) -> bool:
    """Whether the first line is ``image template media`` between blanks, rather than a header between commas."""
    try:
        check_regular(path, MAX_FILE)
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


def read_scores(path: Path, count: int) -> Floats:
    """(N,) the detector score of each face.

    Raises:
        InputError: no such file, not such a list, a negative score, or not one for each of ``count`` faces.
    """
    layout = "image x1 y1 x2 y2 x3 y3 x4 y4 x5 y5 score"
    scores = _loaded(path, layout, np.float64, (11,))[:, 0]
    if len(scores) != count:
        raise InputError(f"expected a score for each of {count} faces in {str(path)!r}, got {len(scores)}")
    wrong = np.flatnonzero(~((scores >= 0) & (scores < np.inf)))
    if len(wrong):
        raise InputError(f"{str(path)!r}, face {wrong[0] + 1}: expected a score of at least 0, got {scores[wrong[0]]}")
    return scores


def read_published_sets(paths: Sequence[Path], faces: Path) -> tuple[Labels, Index, tuple[Index, ...]]:
    """(T,) subjects of the templates by 1:N lists, the probes, and a gallery for each other list.

    A list whose name has ``probe`` in it names probes. Templates in none of the lists keep subjects of their own.

    Args:
        paths: of the lists.
        faces: the list of faces, which says which templates there are.

    Raises:
        InputError: not such lists, no probes or no gallery, a template without faces, or one of two subjects.
    """
    known = np.unique(_numbers(faces, (1,), "image template media"))
    subjects: dict[int, int] = {}
    sets: list[Index] = []
    probes: list[Index] = []
    for path in paths:
        rows = np.unique(_loaded(path, "template,subject,...", np.int64, (0, 1), delimiter=",", skiprows=1), axis=0)
        positions = np.searchsorted(known, rows[:, 0])
        lost = np.flatnonzero(known[np.minimum(positions, len(known) - 1)] != rows[:, 0])
        if len(lost):
            raise InputError(f"{str(path)!r}: no face makes template {rows[lost[0], 0]}")
        for position, (template, subject) in zip(positions.tolist(), rows.tolist(), strict=True):
            if subjects.setdefault(position, subject) != subject:
                raise InputError(
                    f"{str(path)!r}: template {template} is of subjects {subjects[position]} and {subject}"
                )
        (probes if "probe" in path.name else sets).append(np.unique(positions))
    if not probes or not sets:
        missing = "probes (a file with `probe` in its name)" if not probes else "a gallery"
        raise InputError(f"expected lists of probes and of galleries, got no list of {missing}")
    names = [("listed", subjects[n]) if n in subjects else ("other", n) for n in range(len(known))]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    found = np.array([numbers[name] for name in names], np.int64)
    return found, np.unique(np.concatenate(probes)), tuple(sets)


def _numbers(path: Path, columns: tuple[int, ...], layout: str) -> Index:
    return _loaded(path, layout, np.int64, columns)


def _loaded(path: Path, layout: str, kind: type, columns: tuple[int, ...], **form: Any) -> NDArray[Any]:
    """The wanted columns of a text of numbers, as (N, columns)."""
    try:
        check_regular(path, MAX_FILE)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy warns of a file without lines
            found = np.loadtxt(path, kind, comments=None, usecols=columns, ndmin=2, encoding="utf-8", **form)
    except OSError as error:
        raise InputError(f"cannot read {str(path)!r}: {error.strerror or error}") from None
    except (ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"expected lines {layout!r} in {str(path)!r}: {reason}") from None
    if not len(found):
        raise InputError(f"expected lines {layout!r} in {str(path)!r}, found none")
    return np.asarray(found)


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
