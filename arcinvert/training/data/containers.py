"""What kinds of sources training pictures come from: a folder of identities, a ``.rec`` file, tar shards."""

import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from arcinvert.errors import InputError, UsageError
from arcinvert.faces.alignment import SUFFIXES
from arcinvert.training.data.image_files import Picture, Pictures, decode, sort_pictures
from arcinvert.training.data.recordio import MAGIC, record_pictures, write_record_faces
from arcinvert.training.data.shards import shard_pictures, write_shards


def identity_folders(folder: Path) -> list[str]:
    """Names of the identity folders, sorted.

    Raises:
        InputError: no such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise InputError(f"expected a folder of identities, got {str(folder)!r}")
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise InputError(f"expected one sub-folder per identity in {str(folder)!r}, found none")
    return names


def folder_pictures(folder: Path, identities: Sequence[str]) -> Pictures:
    """The pictures of these identity folders.

    Raises:
        InputError: an identity without pictures.
    """
    found = []
    for name in identities:
        pictures = [p.name for p in (folder / name).iterdir() if p.suffix.lower() in SUFFIXES]
        if not pictures:
            raise InputError(f"expected pictures ({', '.join(sorted(SUFFIXES))}) in {str(folder / name)!r}, found none")
        found += [Picture(name, f"{name}/{picture}", 0) for picture in pictures]
    return sort_pictures(folder, found, lambda picture: (folder / picture.file).read_bytes())


def open_pictures(source: Path | Sequence[Path]) -> Pictures:
    """List the pictures of an identity folder, a ``.rec`` file, or tar shards; what it is, its content says.

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
        return shard_pictures(shards[0].parent, shards)
    files = [source]
    if source.is_dir():
        inside = sorted(path for path in source.iterdir() if not path.name.startswith("."))
        files = [path for path in inside if path.suffix in (".rec", ".tar")]
        if any(path.is_dir() for path in inside) or not files:
            return folder_pictures(source, identity_folders(source))
    elif not source.is_file():
        raise InputError(f"expected a folder of identities, a .rec file or tar shards, got {str(source)!r}")
    kinds = [_kind(path) for path in files]
    if kinds == ["rec"]:
        return record_pictures(files[0])
    if set(kinds) == {"tar"}:
        return shard_pictures(source.parent if source.is_file() else source, files)
    named = ", ".join(path.name for path in files[:5])
    raise InputError(f"expected one .rec file or uncompressed tar shards in {str(source)!r}, got {named}")


def _kind(path: Path) -> str:
    with open(path, "rb") as stream:
        start = stream.read(512)
    return "rec" if start.startswith(MAGIC) else "tar" if start[257:262] == b"ustar" else "other"


def convert_pictures(pictures: Pictures, out: Path, *, per_shard: int | None = None) -> str:
    """Write pictures, their bytes unchanged: RecordIO if ``out`` ends in ``.rec``, else a new folder.

    Args:
        pictures: as listed by :func:`open_pictures`.
        out: a file, or a folder that does not exist or is empty; it appears whole or not at all.
        per_shard: the folder is of tar shards with this many pictures, not of identities.

    Returns:
        What was written: ``rec``, ``shards`` or ``folder``.

    Raises:
        UsageError: ``out`` is there already, or shards were asked for in a ``.rec`` file.
        InputError: a picture that cannot be trained on, or a name that the container cannot hold.
    """
    if out.suffix == ".rec":
        if per_shard is not None:
            raise UsageError(f"expected a folder for tar shards, got {str(out)!r}")
        if out.exists() or out.with_suffix(".idx").exists():
            raise UsageError(f"{str(out)!r} or its .idx is there already")
        write_record_faces(out, pictures)
        return "rec"
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"expected a new or empty folder to write to, got {str(out)!r}")
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=".", suffix=".part") as part:
        whole = Path(part) / "whole"
        whole.mkdir()
        if per_shard is not None:
            write_shards(whole, pictures, per_shard=per_shard)
        else:
            for name in pictures.identities:
                (whole / name).mkdir()
            for entry in pictures.entries:
                content = pictures.read(entry)
                decode(content, str(pictures.source / entry.file))
                (whole / entry.file).write_bytes(content)
        os.replace(whole, out)
    return "folder" if per_shard is None else "shards"
