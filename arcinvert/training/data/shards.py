"""Webdataset shards: tar files in which ``KEY.jpg`` stands next to ``KEY.cls`` (a whole number) or ``KEY.json``.

Of the JSON object, ``identity`` (a name) or else ``label`` (a whole number) is the identity. Nothing is ever
unpacked: listing reads the tar's headers and labels, and an image is read from its place in the file.
"""

import io
import json
import logging
import os
import tarfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from arcinvert.checkpoint import atomic_write
from arcinvert.errors import InputError
from arcinvert.faces.listing import START, Skipped, not_an_image
from arcinvert.training.data.image_files import MAX_CONTENT, ImageFile, ImageFiles, decode, identity_name, sort_images

log = logging.getLogger(__name__)

_MAX_LABEL = 1 << 16
_BLOCK = tarfile.BLOCKSIZE
_LABELS = ("json", "cls")


class _Field(NamedTuple):
    """A file of a shard: where its bytes are, and the first of them."""

    place: int
    size: int
    start: bytes


_Samples = dict[str, dict[str, _Field]]
"""Key -> {what follows its dot: the file}."""


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
    skipped: list[Skipped] = []
    for shard in shards:
        for key, fields in _samples(shard).items():
            others = {name: not_an_image(field.start) for name, field in fields.items() if name not in _LABELS}
            images = sorted((name for name, reason in others.items() if reason is None), key=lambda name: "." in name)
            if not images:
                reasons = others or dict.fromkeys(fields, "a label without an image")
                skipped += [(f"{shard}/{key}.{name}".rstrip("."), reason or "") for name, reason in reasons.items()]
                continue
            suffix = images[0]
            identity = _identity(shard, key, fields)
            file = key.removeprefix(f"{identity}/").replace("/", "_")
            size = fields[suffix].size
            if size > MAX_CONTENT:
                raise InputError(f"{key}.{suffix} in {str(shard)!r} has {size} bytes; no face has")
            found.append(ImageFile(identity, f"{identity}/{file}.{suffix}", len(sizes)))
            sizes[len(sizes)] = (shard, fields[suffix].place, size)
            skipped += [(f"{shard}/{key}.{name}", f"a second image beside .{suffix}") for name in images[1:]]

    def read(entry: ImageFile) -> bytes:
        return _content(*sizes[entry.place])

    return sort_images(source, found, read, skipped)


def write_shards(folder: Path, images: ImageFiles, *, per_shard: int = 10_000) -> None:
    """Write ``000000.tar``, ``000001.tar``, ... with ``IDENTITY/NAME.jpg``, ``.cls`` and ``.json`` for each image.

    Labels are 0, 1, ... in the identities' sorted order. The same images give the same bytes. A dot inside a name
    would end the key, so it is written as ``_``.

    Raises:
        InputError: an image that cannot be trained on, or two of one name.
    """
    dotted = [entry.file for entry in images.entries if "." in _base(entry)]
    if dotted:
        log.info("%d names with dots are written with _ in their place, such as %r", len(dotted), dotted[0])
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
                key = f"{entry.identity}/{_base(entry).replace('.', '_')}"
                suffix = os.path.splitext(entry.file)[1]
                if key in keys:
                    raise InputError(f"cannot name {where!r} in a shard: {key!r} stands there already")
                keys.add(key)
                label = labels[entry.identity]
                described = json.dumps({"identity": entry.identity, "label": label}).encode()
                for name, value in ((suffix, content), (".cls", str(label).encode()), (".json", described)):
                    member = tarfile.TarInfo(key + name.lower())
                    member.size = len(value)
                    tar.addfile(member, io.BytesIO(value))


def _base(entry: ImageFile) -> str:
    """The name of an image without its folder and suffix."""
    return os.path.splitext(entry.file.rpartition("/")[2])[0]


def _samples(shard: Path) -> _Samples:
    """Every file in a shard. A key ends at the first dot of a name; at the last one where a label has that key."""
    samples: _Samples = {}
    try:
        with tarfile.open(shard, "r:") as tar, open(shard, "rb") as stream:
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
                more, dot, ending = kind.rpartition(".")
                kind = more + dot + ending.lower()
                if kind in fields:
                    raise InputError(f"{str(shard)!r} has {member.name!r} twice")
                stream.seek(member.offset_data)
                fields[kind] = _Field(member.offset_data, member.size, stream.read(min(START, member.size)))
                tar.members = []  # type: ignore[attr-defined]  # none of the millions is needed again
            end = tar.offset
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise InputError(f"cannot read the shard {str(shard)!r}: {error}") from None
    # tarfile takes a damaged header after the first for the end; a whole tar ends with a block of zeros.
    if _content(shard, end, _BLOCK) != bytes(_BLOCK):
        raise InputError(f"the shard {str(shard)!r} is damaged at byte {end}")
    return _with_dots(samples)


def _with_dots(samples: _Samples) -> _Samples:
    """The same with the keys that have a dot: of ``a.b.jpg`` and ``a.b.cls`` the key is ``a.b``, not ``a``."""
    found: _Samples = {}
    for key, fields in samples.items():
        beside = Counter(name.rpartition(".")[0] for name in fields)
        for name, field in fields.items():
            more, _, ending = name.rpartition(".")
            labeled = more and beside[more] > 1 and any(f"{more}.{label}" in fields for label in _LABELS)
            inner, kind = (f"{key}.{more}", ending) if labeled else (key, name)
            found.setdefault(inner, {})[kind] = field
    return found


def _content(shard: Path, place: int, size: int) -> bytes:
    with open(shard, "rb") as stream:
        stream.seek(place)
        content = stream.read(size)
    if len(content) < size:
        raise InputError(f"the shard {str(shard)!r} is cut off at byte {place + len(content)}")
    return content


def _identity(shard: Path, key: str, fields: Mapping[str, _Field]) -> str:
    kind = next((name for name in _LABELS if name in fields), None)
    where = f"{key!r} in {str(shard)!r}"
    if kind is None:
        raise InputError(f"expected a label (.cls or .json) beside the image {where}")
    if fields[kind].size > _MAX_LABEL:
        raise InputError(f"expected a label, got {fields[kind].size} bytes for {where}")
    try:
        value = json.loads(_content(shard, fields[kind].place, fields[kind].size))
    except (ValueError, RecursionError) as error:
        raise InputError(f"cannot read the label of {where}: {' '.join(str(error).split())}") from None
    if kind == "json":
        value = value.get("identity", value.get("label")) if isinstance(value, dict) else None
    elif not isinstance(value, int):
        raise InputError(f"expected a whole number in the .cls of {where}, got {value!r}")
    return identity_name(value, where)
