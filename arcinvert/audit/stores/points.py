"""Points of Qdrant's local mode, which are pickles, read without unpickling them.

A pickle is a program. This follows the few instructions that such a point is written with, and keeps
plain values; anything else is refused. No name of the file is looked up, nothing is called.
"""

import struct
from typing import Any

import numpy as np

from arcinvert.errors import InputError

POINT = "qdrant_client.http.models.models PointStruct"
DAMAGED = (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, struct.error)
_FIXED = {
    b"N": None, b"\x88": True, b"\x89": False,
}  # fmt: skip
_INTEGERS = {b"K": "<B", b"M": "<H", b"J": "<i", b"G": ">d"}
_LENGTHS = {b"\x8c": "<B", b"X": "<I", b"\x8d": "<Q", b"C": "<B", b"B": "<I", b"\x8e": "<Q", b"\x8a": "<B"}
_FLOAT = 9
"""Bytes of a number: the instruction G, and eight."""


def read_point(content: bytes) -> tuple[object, object]:
    """Vector and payload of one point: lists, dicts, numbers, text, bytes and None.

    Raises:
        ValueError: damaged, or something else.
    """
    try:
        point = _follow(content)
    except DAMAGED as error:
        raise ValueError(f"no point: {error}") from None
    if not isinstance(point, dict) or "vector" not in point:
        raise ValueError("no point")
    return point["vector"], point.get("payload")


def _follow(content: bytes) -> Any:
    stack: list[Any] = []
    below: list[list[Any]] = []
    memo: dict[int, Any] = {}
    at = 0
    while at < len(content):
        code = content[at : at + 1]
        if code == b"G":  # numbers mostly come in long runs
            codes = np.frombuffer(content, np.uint8)[at::_FLOAT] != ord("G")
            count = int(codes.argmax()) if codes.any() else len(codes)
            run = np.frombuffer(content, np.dtype([("code", "u1"), ("value", ">f8")]), count, at)
            stack += run["value"].tolist()
            at += _FLOAT * count
            continue
        at += 1
        if code in _INTEGERS:
            (value,) = struct.unpack_from(_INTEGERS[code], content, at)
            at += struct.calcsize(_INTEGERS[code])
            stack.append(value)
        elif code in _LENGTHS:
            (length,) = struct.unpack_from(_LENGTHS[code], content, at)
            at += struct.calcsize(_LENGTHS[code])
            raw = content[at : at + length]
            if len(raw) != length:
                raise ValueError("cut off")
            at += length
            if code == b"\x8a":
                stack.append(int.from_bytes(raw, "little", signed=True))
            else:
                stack.append(raw if code in (b"C", b"B", b"\x8e") else raw.decode(errors="surrogatepass"))
        elif code in _FIXED:
            stack.append(_FIXED[code])
        elif code == b"(":
            below.append(stack)
            stack = []
        elif code in b"]}":
            stack.append([] if code == b"]" else {})
        elif code in (b")", b"\x8f"):
            stack.append([])  # an empty tuple, or a set whose members nobody asks for
        elif code in (b"e", b"\x90", b"u"):
            items, stack = stack, below.pop()
            if code == b"u":
                stack[-1].update(zip(items[::2], items[1::2], strict=True))
            else:
                stack[-1].extend(items)
        elif code == b"a":
            item = stack.pop()
            stack[-1].append(item)
        elif code == b"s":
            value, key = stack.pop(), stack.pop()
            stack[-1][key] = value
        elif code == b"\x94":
            memo[len(memo)] = stack[-1]
        elif code in (b"h", b"j"):
            kind = "<B" if code == b"h" else "<I"
            stack.append(memo[struct.unpack_from(kind, content, at)[0]])
            at += struct.calcsize(kind)
        elif code == b"\x93":
            attribute, module = stack.pop(), stack.pop()
            if f"{module} {attribute}" != POINT:
                raise ValueError(f"it asks for {module}.{attribute}"[:100])
            stack.append(POINT)
        elif code == b"\x81":
            stack.pop()
            if stack.pop() != POINT:
                raise ValueError("it makes something else")
            stack.append({})
        elif code == b"b":
            state = stack.pop()
            stack[-1].update(state["__dict__"])
        elif code == b".":
            return stack.pop()
        elif code in (b"\x80", b"\x95"):
            at += 1 if code == b"\x80" else 8
        else:
            raise ValueError(f"unexpected instruction {code!r}")
    raise ValueError("it does not end")


def check_first(content: bytes, name: str) -> tuple[object, object]:
    """As :func:`read_point`, of the first point of a store.

    Raises:
        InputError: it is none.
    """
    try:
        return read_point(content)
    except ValueError as error:
        raise InputError(f"{name} does not hold Qdrant's points: {error}; pickles that run code are not read") from None
