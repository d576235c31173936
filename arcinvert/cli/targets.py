"""The targets of ``arcinvert synth``: embeddings of a file, of photos, of rows of a store, or class centers."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from arcinvert.cli.common import ProgressLine, log
from arcinvert.errors import InputError, UsageError

if TYPE_CHECKING:
    from arcinvert.embeddings import Embeddings
    from arcinvert.recognizer import Recognizer


@dataclass(frozen=True)
class Source:
    """Where the targets are; exactly one of the first four is given.

    Attributes:
        embedding: an ``.npy`` or ``.npz`` file, or ``-``.
        photos: photos, and folders of photos.
        store: a store of embeddings, whose ``rows`` are taken.
        identity: numbers of classes, such as ``17,42``.
        array: of an ``.npz``.
        aligned: the photos are aligned crops.
        rows: numbers of rows from 0, such as ``17,42``.
        table, column: of the store.
    """

    embedding: str | None = None
    photos: tuple[Path, ...] = ()
    store: str | None = None
    identity: str | None = None
    array: str | None = None
    aligned: bool = False
    rows: str | None = None
    table: str | None = None
    column: str | None = None

    def check(self) -> None:
        """Refuse, before anything is loaded, what names no targets or belongs to another command.

        Raises:
            UsageError: none or several sources, an option of another source, numbers that are not such.
            InputError: ``embedding`` is a photo or a store; the message says what takes it.
        """
        given = [
            name
            for name, value in (
                ("--embedding", self.embedding),
                ("--photo", self.photos or None),
                ("--store", self.store),
                ("--identity", self.identity),
            )
            if value is not None
        ]
        if len(given) != 1:
            got = " and ".join(given) or "none"
            raise UsageError(f"expected one of --embedding, --photo, --store and --identity, got {got}")
        for name, value, owner in (
            ("--array", self.array, "--embedding"),
            ("--aligned", self.aligned or None, "--photo"),
            ("--row", self.rows, "--store"),
            ("--table", self.table, "--store"),
            ("--column", self.column, "--store"),
        ):
            if value is not None and given != [owner]:
                raise UsageError(f"{name} goes with {owner}, got it with {given[0]}")
        if self.store is not None and self.rows is None:
            raise UsageError("expected --row N with --store, the number of a row from 0, or several such as 17,42")
        for name, text in (("--identity", self.identity), ("--row", self.rows)):
            if text is not None:
                numbers(name, text)
        if self.embedding not in (None, "-"):
            _refuse_other_kinds(Path(str(self.embedding)))

    def read(self, recognizer: "Recognizer", checkpoint: Path) -> "tuple[Embeddings, int]":
        """The targets, and how many photos or rows could not be used.

        Raises:
            InputError: see :mod:`arcinvert.embeddings`, :mod:`arcinvert.faces.photos` and
                :func:`arcinvert.audit.stores.open_store`; or nothing that could be used.
        """
        from arcinvert.embeddings import class_centers, read_embeddings

        if self.photos:
            return self._of_photos(recognizer)
        if self.store is not None:
            return self._of_store(recognizer)
        if self.identity is not None:
            return class_centers(checkpoint, numbers("--identity", self.identity)), 0
        return read_embeddings(str(self.embedding), size=recognizer.embedding_size, key=self.array), 0

    def _of_photos(self, recognizer: "Recognizer") -> "tuple[Embeddings, int]":
        from arcinvert.embeddings import check_embeddings
        from arcinvert.faces.photos import embed_photos

        rows, found = embed_photos(recognizer, self.photos, aligned=self.aligned, progress=ProgressLine("photo"))
        if len(found.files) + len(found.skipped) > 1:
            for number, file in enumerate(found.files):
                log.info(f"target {number:04d} is {file}")
        return check_embeddings(rows, recognizer.embedding_size), len(found.skipped)

    def _of_store(self, recognizer: "Recognizer") -> "tuple[Embeddings, int]":
        import numpy as np

        from arcinvert.audit.stores import open_store
        from arcinvert.embeddings import check_embeddings

        wanted = numbers("--row", self.rows or "")
        opened = open_store(str(self.store), table=self.table, column=self.column)
        beyond = [number for number in wanted if not 0 <= number < opened.count]
        if beyond:
            raise InputError(f"expected --row from 0 to {opened.count - 1} of {opened.name}, got {beyond[0]}")
        block = opened.take(np.unique(np.asarray(wanted, np.int64)))
        there = {int(position): place for place, position in enumerate(block.positions)}
        lost = [number for number in wanted if number not in there]
        if lost:
            raise InputError(f"expected an embedding in row {lost[0]} of {opened.name}, it holds none that can be read")
        found = check_embeddings(block.templates[[there[number] for number in wanted]], recognizer.embedding_size)
        if len(wanted) > 1:
            for number, row in enumerate(wanted):
                log.info(f"target {number:04d} is row {row}")
        return found, 0


def numbers(option: str, text: str) -> list[int]:
    """``17,42`` -> [17, 42].

    Raises:
        UsageError: something else.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"expected numbers such as 17,42 as {option}, got {text!r}") from None


def _refuse_other_kinds(path: Path) -> None:
    """Raise an InputError that names the right option if the file of ``--embedding`` is a photo or a store."""
    from arcinvert.audit.stores import kind_of
    from arcinvert.faces.listing import is_image

    if not path.is_file() and not path.is_dir():
        return  # the reader says what is wrong
    name = str(path)
    if path.is_file() and is_image(path):
        raise InputError(
            f"expected embeddings, {name!r} is a photo: give it as --photo, or embed it first by `arcinvert embed`"
        )
    try:
        kind = kind_of(path)
    except (InputError, OSError):
        if path.is_dir():
            raise InputError(
                f"expected an .npy or .npz file, {name!r} is a folder: of photos? Give it as --photo"
            ) from None
        return
    if kind not in ("npy", "npz"):
        raise InputError(
            f"expected embeddings as .npy or .npz, {name!r} is a store ({kind}): give it as --store with --row N, "
            "or see what all of it leaks by `arcinvert audit`"
        )
