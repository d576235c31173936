"""Webdataset shards: tar files in which ``KEY.jpg`` stands next to ``KEY.cls`` (a whole number) or ``KEY.json``.

Of the JSON object, ``identity`` (a name) or else ``label`` (a whole number) is the identity. Nothing is ever
unpacked: listing reads the tar's headers and labels, and an image is read from its place in the file.
"""

import io
import json
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path

from arcinvert.checkpoint import atomic_write
from arcinvert.errors import InputError
from arcinvert.faces.alignment import SUFFIXES
from arcinvert.training.data.image_files import MAX_CONTENT, ImageFile, ImageFiles, decode, identity_name, sort_images

_MAX_LABEL = 1 << 16
_BLOCK = tarfile.BLOCKSIZE


def shard_images(source: Path, shards: Sequence[Path]) -> ImageFiles:
    """The images of tar shards, as ``<identity>/<key>.jpg`` (slashes in a key become ``_``).

    Args:
        source: names them in errors.
        shards: the tar files.

    Raises:
        InputError: cut off, compressed, links or paths that lead out of the tar, an image without a label.
    """
    found: list[ImageFile] = []
    sizes: dict[int, tuple[Path, int, int]] = {}
    for shard in shards:
        samples = _samples(shard)
        for key, fields in samples.items():
            suffix = next((name for name in fields if f".{name}" in SUFFIXES), None)
            if suffix is None:
                continue
            identity = _identity(shard, key, fields)
            file = key.removeprefix(f"{identity}/").replace("/", "_")
            place, size = fields[suffix]
            if size > MAX_CONTENT:
                raise InputError(f"{key}.{suffix} in {str(shard)!r} has {size} bytes; no face has")
            found.append(ImageFile(identity, f"{identity}/{file}.{suffix}", len(sizes)))
            sizes[len(sizes)] = (shard, place, size)

    def read(entry: ImageFile) -> bytes:
        return _content(*sizes[entry.place])

    return sort_images(source, found, read)


def write_shards(folder: Path, images: ImageFiles, *, per_shard: int = 10_000) -> None:
    """Write ``000000.tar``, ``000001.tar``, ... with ``IDENTITY/NAME.jpg``, ``.cls`` and ``.json`` for each image.

    Labels are 0, 1, ... in the identities' sorted order. The same images give the same bytes.

    Raises:
        InputError: an image that cannot be trained on, or a name with a dot inside, which would end the key.
    """
    labels = {name: label for label, name in enumerate(images.identities)}
    keys: set[str] = set()
    for start in range(0, len(images.entries), per_shard):
        with (
            atomic_write(folder / f"{start // per_shard:06d}.tar") as temporary,
            tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as tar,
        ):
            for entry in images.entries[start : start + per_shard]:
                content, where = images.content(entry), images.path(entry)
                decode(content, where)
                key, suffix = os.path.splitext(entry.file)
                if key in keys or "." in key.rpartition("/")[2]:
                    raise InputError(f"cannot name {where!r} in a shard: {key!r} has a dot or stands there already")
                keys.add(key)
                label = labels[entry.identity]
                described = json.dumps({"identity": entry.identity, "label": label}).encode()
                for name, value in ((suffix, content), (".cls", str(label).encode()), (".json", described)):
                    member = tarfile.TarInfo(key + name.lower())
                    member.size = len(value)
                    tar.addfile(member, io.BytesIO(value))


def _samples(shard: Path) -> dict[str, dict[str, tuple[int, int]]]:
    """Key -> {what follows its dot: (first byte, size)} of every file in a shard."""
    samples: dict[str, dict[str, tuple[int, int]]] = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                name = member.name.removeprefix("./")
                if name.startswith("/") or "\\" in name or ".." in name.split("/"):
                    raise InputError(f"{str(shard)!r} has a path that leads out of it: {member.name!r}")
                if member.isdir():
                    continue
                if not member.isreg() or member.issparse():
                    raise InputError(f"{str(shard)!r} has a link or a special file: {member.name!r}")
                parent, slash, base = name.rpartition("/")
                key, _, kind = base.partition(".")
                fields = samples.setdefault(parent + slash + key, {})
                if kind.lower() in fields:
                    raise InputError(f"{str(shard)!r} has {member.name!r} twice")
                fields[kind.lower()] = (member.offset_data, member.size)
                tar.members = []  # type: ignore[attr-defined]  # none of the millions is needed again
            end = tar.offset
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise InputError(f"cannot read the shard {str(shard)!r}: {error}") from None
    # tarfile takes a damaged header after the first for the end; a whole tar ends with a block of zeros.
    if _content(shard, end, _BLOCK) != bytes(_BLOCK):
        raise InputError(f"the shard {str(shard)!r} is damaged at byte {end}")
    return samples


def _content(shard: Path, place: int, size: int) -> bytes:
    with open(shard, "rb") as stream:
        stream.seek(place)
        content = stream.read(size)
    if len(content) < size:
        raise InputError(f"the shard {str(shard)!r} is cut off at byte {place + len(content)}")
    return content


def _identity(shard: Path, key: str, fields: dict[str, tuple[int, int]]) -> str:
    kind = next((name for name in ("json", "cls") if name in fields), None)
    where = f"{key!r} in {str(shard)!r}"
    if kind is None:
        raise InputError(f"expected a label (.cls or .json) beside the image {where}")
    if fields[kind][1] > _MAX_LABEL:
        raise InputError(f"expected a label, got {fields[kind][1]} bytes for {where}")
    try:
        value = json.loads(_content(shard, *fields[kind]))
    except (ValueError, RecursionError) as error:
        raise InputError(f"cannot read the label of {where}: {' '.join(str(error).split())}") from None
    if kind == "json":
        value = value.get("identity", value.get("label")) if isinstance(value, dict) else None
    elif not isinstance(value, int):
        raise InputError(f"expected a whole number in the .cls of {where}, got {value!r}")
    return identity_name(value, where)
