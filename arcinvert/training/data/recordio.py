"""MXNet's RecordIO (``train.rec`` with ``train.idx``), as InsightFace packs face datasets in it; without mxnet.

A record is ``magic, flag and length, payload, padding to 4 bytes``, little-endian uint32. Where the payload
itself holds the magic number at a multiple of 4, the record is split there and that number left out. The
payload is a header (flag, label, id, id2; with flag > 0 as many float32 labels follow) and an image.
The index has a line ``key<TAB>offset`` per record.

Face layout: record 0 has no image, but two labels: images are records 1 to label[0] - 1, identities the
records label[0] to label[1] - 1, each of which has the range of its images as labels. Without such a
record 0 every record is an image.
"""

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from arcinvert.checkpoint import atomic_write
from arcinvert.errors import InputError
from arcinvert.training.data.image_files import MAX_CONTENT, ImageFile, ImageFiles, decode, identity_name, sort_images

MAGIC = struct.pack("<I", 0xCED7230A)
_HEADER = struct.Struct("<IfQQ")
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
_HEAD = 96  # bytes of a payload that hold the header, its few labels, and the first bytes of the image
_MAX_RECORDS = 1 << 24  # above it float32, in which the layout writes them, skips numbers
_STARTS = {b"\x89PNG": ".png", b"RIFF": ".webp", b"BM": ".bmp"}


@dataclass(frozen=True)
class Record:
    """One record.

    Attributes:
        labels: one label, or an array of them (float32 in the file).
        content: the bytes of the image file; may be empty.
        is_array: the labels stand behind the header, as an array.
        id, id2: uint64.
    """

    labels: tuple[float, ...]
    content: bytes = b""
    is_array: bool = False
    id: int = 0
    id2: int = 0


def pack(record: Record) -> bytes:
    """The payload: header, labels and content."""
    if not record.is_array:
        return _HEADER.pack(0, record.labels[0], record.id, record.id2) + record.content
    count = len(record.labels)
    head = _HEADER.pack(count, 0.0, record.id, record.id2)
    return head + struct.pack(f"<{count}f", *record.labels) + record.content


def unpack(payload: bytes, where: str) -> Record:
    """What :func:`pack` packed.

    Raises:
        InputError: shorter than its header says.
    """
    if len(payload) < _HEADER.size:
        raise InputError(f"expected a header of {_HEADER.size} bytes in {where}, got {len(payload)}")
    count, label, number, number2 = _HEADER.unpack_from(payload)
    if count == 0:
        return Record((label,), payload[_HEADER.size :], False, number, number2)
    start = _HEADER.size + 4 * count
    if start > len(payload):
        raise InputError(f"{where} claims {count} labels, but has {len(payload)} bytes")
    return Record(struct.unpack_from(f"<{count}f", payload, _HEADER.size), payload[start:], True, number, number2)


def encode(payload: bytes) -> bytes:
    """The bytes of a record in the file."""
    parts, start = [], 0
    at = payload.find(MAGIC)
    while at >= 0:
        if at % 4 == 0:
            parts.append(payload[start:at])
            start = at + 4
            at = payload.find(MAGIC, start)
        else:
            at = payload.find(MAGIC, at + 1)
    parts.append(payload[start:])
    flags = [_WHOLE] if len(parts) == 1 else [_FIRST, *[_MIDDLE] * (len(parts) - 2), _LAST]
    return b"".join(
        MAGIC + struct.pack("<I", flag << 29 | len(part)) + part + b"\0" * (-len(part) % 4)
        for flag, part in zip(flags, parts, strict=True)
    )


def read_payload(stream: BinaryIO, offset: int, size: int, where: str, limit: int = MAX_CONTENT) -> bytes:
    """The payload of the record at ``offset`` of a file of ``size`` bytes; its first ``limit`` bytes at least.

    Raises:
        InputError: no record there, cut off, or larger than any image.
    """
    payload, expected = b"", (_WHOLE, _FIRST)
    while True:
        stream.seek(offset)
        frame = stream.read(8)
        if len(frame) < 8:
            raise InputError(f"{where} is cut off: a record at byte {offset} of {size}")
        flag, length = divmod(int.from_bytes(frame[4:], "little"), 1 << 29)
        if frame[:4] != MAGIC or flag not in expected:
            raise InputError(f"{where} has no record at byte {offset}: got {frame.hex()}")
        if offset + 8 + length > size:
            raise InputError(f"{where} is cut off: a record of {length} bytes at byte {offset} of {size}")
        if len(payload) + length > MAX_CONTENT:
            raise InputError(f"{where} has a record of more than {MAX_CONTENT} bytes at byte {offset}; no face has")
        payload += stream.read(min(length, limit))
        if flag in (_WHOLE, _LAST) or len(payload) >= limit:
            return payload
        payload, expected = payload + MAGIC, (_MIDDLE, _LAST)
        offset += 8 + length + -length % 4


def read_index(path: Path, size: int) -> dict[int, int]:
    """Key to offset of every record.

    Args:
        path: the ``.idx`` file.
        size: of the ``.rec`` file; no offset may lie outside.

    Raises:
        InputError: no such file, a line that is not two numbers, an offset outside the file, a key twice.
    """
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the index {str(path)!r} of the .rec file: {error}") from None
    index: dict[int, int] = {}
    for number, line in enumerate(lines, 1):
        parts = line.split()
        if len(parts) != 2 or not all(part.isdecimal() and len(part) < 19 for part in parts):
            raise InputError(f"expected a key and an offset in line {number} of {str(path)!r}, got {line[:60]!r}")
        key, offset = map(int, parts)
        if offset + 8 > size or offset % 4:
            raise InputError(f"line {number} of {str(path)!r} points to byte {offset}: no record of {size} bytes there")
        if key in index:
            raise InputError(f"line {number} of {str(path)!r} names key {key} a second time")
        index[key] = offset
    if not index:
        raise InputError(f"the index {str(path)!r} is empty")
    return index


def record_images(path: Path) -> ImageFiles:
    """The images of a ``.rec`` file, as ``<label>/<key>.jpg`` with leading zeros; of an array, the first label.

    Raises:
        InputError: no index, damaged, or labels that are not whole numbers.
    """
    size, name = os.path.getsize(path), repr(str(path))
    index = read_index(path.with_suffix(".idx"), size)
    found = []
    with open(path, "rb") as stream:
        keys: Iterable[int] = index
        if 0 in index:
            first = unpack(read_payload(stream, index[0], size, name), f"record 0 of {name}")
            if first.is_array and not first.content:
                keys = _image_keys(first, index, name)
        for key in keys:
            head = read_payload(stream, index[key], size, name, _HEAD)
            if int.from_bytes(head[:4], "little") > 8:
                head = read_payload(stream, index[key], size, name)
            record = unpack(head, f"record {key} of {name}")
            identity = identity_name(record.labels[0], f"record {key} of {name}")
            start = record.content[:4]
            suffix = next((kind for magic, kind in _STARTS.items() if start.startswith(magic)), ".jpg")
            found.append(ImageFile(identity, f"{identity}/{key:09d}{suffix}", index[key]))

    def read(entry: ImageFile) -> bytes:
        with open(path, "rb") as stream:
            return unpack(read_payload(stream, entry.place, size, name), name).content

    return sort_images(path, found, read)


def _image_keys(first: Record, index: dict[int, int], name: str) -> range:
    end = first.labels[0]
    if not 1 < end <= len(index) or end != int(end):
        raise InputError(f"record 0 of {name} says the images end before record {end:g}; the index has {len(index)}")
    keys = range(1, int(end))
    missing = next((key for key in keys if key not in index), None)
    if missing is not None:
        raise InputError(f"record 0 of {name} counts image {missing}, which the index does not have")
    return keys


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write records with keys 0, 1, ... to ``path`` and the index beside it (``.idx``)."""
    with (
        atomic_write(path.with_suffix(".idx")) as index,
        atomic_write(path) as temporary,
        open(temporary, "wb") as stream,
        open(index, "w", encoding="ascii") as lines,
    ):
        for key, record in enumerate(records):
            lines.write(f"{key}\t{stream.tell()}\n")
            stream.write(encode(pack(record)))


def write_record_faces(path: Path, images: ImageFiles) -> None:
    """Write images in the face layout; identities become labels 0, 1, ... in sorted order.

    Raises:
        InputError: an image that cannot be trained on, or more records than the layout can count.
    """
    names = images.identities
    end = len(images.entries) + 1
    if end + len(names) > _MAX_RECORDS:
        raise InputError(f"expected fewer than {_MAX_RECORDS} images and identities, got {end + len(names)}")
    labels = {name: label for label, name in enumerate(names)}
    ranges = {name: [end, 0] for name in names}

    def records() -> Iterable[Record]:
        yield Record((float(end), float(end + len(names))), is_array=True)
        for key, entry in enumerate(images.entries, 1):
            content = images.content(entry)
            decode(content, images.path(entry))
            ranges[entry.identity] = [min(key, ranges[entry.identity][0]), key + 1]
            yield Record((float(labels[entry.identity]),), content, id=key)
        for number, name in enumerate(names, end):
            yield Record(tuple(map(float, ranges[name])), is_array=True, id=number)

    write_records(path, records())
