"""The containers of training images: folders of identities, a ``.rec`` file, tar shards; listing and conversion."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from arcinvert.errors import InputError, UsageError
from arcinvert.faces.images import IMAGE_FORMATS
from arcinvert.faces.listing import NAMED
from arcinvert.locking import locked
from arcinvert.training.data.folders import folder_images
from arcinvert.training.data.image_files import ImageFiles, decode
from arcinvert.training.data.recordio import MAGIC, record_images, write_record_faces
from arcinvert.training.data.shards import shard_images, write_shards

DAMAGED_SHARE = 0.1
"""Share of damaged images up to which a conversion leaves them out."""
_BESIDE_RECORDS = (".idx", ".lst", ".bin", "property")
"""Files that stand beside a .rec file, by the end of the name or the whole name."""


def list_images(source: Path | Sequence[Path]) -> ImageFiles:
    """List the images of a folder of identities, a ``.rec`` file, or tar shards, which are told apart by their content.

    Args:
        source: a folder of identities; a ``.rec`` file with its ``.idx``; one or several tar files; or
            a folder that holds no folders, but one ``.rec`` file or tar shards.

    Raises:
        InputError: none of these, or damaged.
    """
    if not isinstance(source, Path):
        shards = list(source)
        if not shards or {_kind(path) for path in shards} != {"tar"}:
            raise InputError(f"expected tar shards, got {', '.join(map(str, shards)) or 'none'}")
        return shard_images(shards[0].parent, shards)
    files, others = [source], []
    if source.is_dir():
        inside = sorted(path for path in source.iterdir() if not path.name.startswith("."))
        if any(path.is_dir() for path in inside):
            return folder_images(source)
        archives = {path: path.is_file() and _kind(path) != "other" for path in inside}
        files = [path for path in inside if archives[path] or path.suffix in (".rec", ".tar")]
        if not files:
            return folder_images(source)
        others = [path for path in inside if path not in files and path.name not in _BESIDE_RECORDS]
        others = [path for path in others if path.suffix not in _BESIDE_RECORDS]
    elif not source.is_file():
        raise InputError(f"expected a folder of identities, a .rec file or tar shards, got {str(source)!r}")
    kinds = [_kind(path) for path in files]
    if kinds == ["rec"]:
        images = record_images(files[0])
    elif set(kinds) == {"tar"}:
        images = shard_images(source.parent if source.is_file() else source, files)
    else:
        named = ", ".join(path.name for path in files[:5])
        raise InputError(f"expected one .rec file or uncompressed tar shards in {str(source)!r}, got {named}")
    strange = tuple((str(path), f"expected a {kinds[0]} file") for path in others)
    return replace(images, skipped=(*images.skipped, *strange))


def _kind(path: Path) -> str:
    with open(path, "rb") as stream:
        start = stream.read(512)
    return "rec" if start.startswith(MAGIC) else "tar" if start[257:262] == b"ustar" else "other"


def check_output(out: Path, *, per_shard: int | None = None) -> None:
    """Check that a conversion may write to ``out``.

    Raises:
        UsageError: see :func:`convert_images`.
    """
    if out.suffix == ".rec":
        if per_shard is not None:
            raise UsageError(f"expected a folder for tar shards, got {str(out)!r}")
        if out.exists() or out.with_suffix(".idx").exists():
            raise UsageError(f"{str(out)!r} or its .idx exists already")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"expected a new or empty folder to write to, got {str(out)!r}")


def refuse_many_damaged(images: ImageFiles) -> None:
    """Refuse a set in which the damaged images are not few among many: what is left would be another set.

    Files that are no images count if they are named like one.

    Raises:
        InputError: more than :data:`DAMAGED_SHARE` of the images cannot be read; the message names the first five.
    """
    Image.init()
    endings = {ending for ending, kind in Image.EXTENSION.items() if kind in IMAGE_FORMATS}
    damaged = [(file, reason) for file, reason in images.skipped if Path(file).suffix.lower() in endings]
    if len(damaged) > DAMAGED_SHARE * (len(images) + len(damaged)):
        named = "; ".join(f"{file!r}: {reason}" for file, reason in damaged[:NAMED])
        of = len(images) + len(damaged)
        raise InputError(f"expected at most {DAMAGED_SHARE:.0%} damaged images, got {len(damaged)} of {of}: {named}")


def convert_images(images: ImageFiles, out: Path, *, per_shard: int | None = None) -> str:
    """Write images, their bytes unchanged: RecordIO if ``out`` ends in ``.rec``, else a new folder.

    Args:
        images: what :func:`list_images` returned.
        out: a file, or a folder that does not exist or is empty; it appears whole or not at all.
        per_shard: write a folder of tar shards with this many images each, not one of identities.

    Returns:
        The kind of container that was written: ``rec``, ``shards`` or ``folder``.

    Raises:
        EnvironmentProblem: another process writes ``out``.
        UsageError: ``out`` exists, or ``per_shard`` with a ``.rec`` file.
        InputError: an image that cannot be trained on, or a name that the container cannot hold.
    """
    check_output(out, per_shard=per_shard)
    if out.suffix == ".rec":
        write_record_faces(out, images)
        return "rec"
    part = out.with_name(f".{out.name}.part")  # the same name each time: a run that was killed left it
    with locked(part):
        whole = part / "whole"
        shutil.rmtree(whole, ignore_errors=True)
        try:
            whole.mkdir()
            if per_shard is not None:
                write_shards(whole, images, per_shard=per_shard)
            else:
                for name in images.identities:
                    (whole / name).mkdir()
                for entry in images.entries:
                    content = images.content(entry)
                    decode(content, images.path(entry))
                    (whole / entry.file).write_bytes(content)
            os.replace(whole, out)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return "folder" if per_shard is None else "shards"
