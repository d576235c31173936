"""Forms of an embedding as text: JSON, what print shows of numpy and torch, decimal commas. Nothing is evaluated."""

import base64
import binascii
import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arcinvert.audit.stores.columns import VECTOR_NAMES, guess

TEXT = 1 << 20
"""Largest text of one embedding, in characters."""
CODED = 32
"""Fewest characters of coded bytes; shorter text may be a word."""
DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+(?:[eE][-+]?\d+)?")
_CALL = re.compile(r"[A-Za-z_][\w.]{0,40}\(\s*(?=\[)")
_TAIL = re.compile(r"\s*(?:,[^\[\]]*)?\)")
_SCALAR = re.compile(r"\b(?:(?:np|numpy)\.\w{1,10}|(?:torch\.)?tensor|float|Decimal)\(([^(),]*)(?:,[^()]*)?\)")
_HEX = re.compile(r"(?:\\x|0x)?((?:[0-9a-fA-F]{2})+)")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")


def numbers_in(text: str) -> NDArray[np.generic]:
    """The numbers of one cell, (D,) or (1, D).

    Raises:
        ValueError: it is not a row of numbers.
    """
    inner = text.strip()
    if len(inner) > TEXT:
        raise ValueError("a long text")
    call = _CALL.match(inner)  # array([...], dtype=float32), tensor([...], device='cuda:0')
    if call is not None:
        end = inner.rfind("]") + 1
        if _TAIL.fullmatch(inner, end) is None:
            raise ValueError("not a row of numbers")
        inner = inner[call.end() : end]
    if "(" in inner[1:]:
        inner = _SCALAR.sub(r"\1", inner)  # np.float32(0.1)
    if inner.startswith(("[[", "{")):
        try:
            return _of_json(json.loads(inner))
        except (json.JSONDecodeError, TypeError, RecursionError, OverflowError):
            inner = inner[1:-1] if inner[:2] == "[[" and inner[-2:] == "]]" else inner
    if inner[:1] + inner[-1:] in ("[]", "()", "{}"):
        inner = inner[1:-1]
    if '"' in inner or "'" in inner:
        inner = inner.replace('"', "").replace("'", "")
    return np.array(_parts(inner), np.float64)


def _parts(inner: str) -> list[str]:
    """Numbers between commas, as JSON and PostgreSQL write them, or between blanks, as numpy does."""
    if ";" in inner:
        parts = [part.strip() for part in inner.split(";")]
        return [part.replace(",", ".") for part in parts]
    if "," not in inner:
        return inner.split()
    if "." not in inner:
        for parts in (inner.split(), inner.split(", ")):
            if len(parts) > 1 and all(map(DECIMAL_COMMA.fullmatch, parts)):
                return [part.replace(",", ".") for part in parts]
    return inner.split(",")


def _of_json(value: Any) -> NDArray[np.generic]:
    return np.asarray(value[list_of(value)] if isinstance(value, dict) else value, np.float64)


def list_of(value: dict[str, Any]) -> str:
    """The key of an object under which its list of numbers stands.

    Raises:
        ValueError: there is none, or several that might be meant.
    """
    lists = [key for key, entry in value.items() if isinstance(entry, list)]
    key = guess(lists, VECTOR_NAMES) or (lists[0] if len(lists) == 1 else None)
    if key is None:
        raise ValueError("an object without a list of numbers")
    return key


def coding_of(texts: Sequence[str]) -> str | None:
    """``hex`` or ``base64`` if most texts are bytes coded so."""
    for coding, pattern in (("hex", _HEX), ("base64", _BASE64)):
        fitting = [text for text in texts if len(text) >= CODED and pattern.fullmatch("".join(text.split()))]
        if 2 * len(fitting) > len(texts) and any(re.search("[A-Za-df-z]", text) for text in fitting):
            return coding
    return None


def coded_bytes(text: str, coding: str) -> bytes:
    """The bytes of text in ``coding``.

    Raises:
        ValueError: it is not so coded.
    """
    if len(text) > TEXT:
        raise ValueError("a long text")
    plain = "".join(text.split())
    try:
        if coding == "hex":
            return bytes.fromhex(plain.removeprefix("\\x").removeprefix("0x"))
        padded = plain.rstrip("=") + "=" * (-len(plain.rstrip("=")) % 4)
        return base64.b64decode(padded.translate(str.maketrans("-_", "+/")), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"no {coding}") from None


def text_of(blob: bytes) -> str | None:
    """The text of bytes that hold JSON or another list; None if they hold numbers."""
    inner = blob[:TEXT].strip()
    if (inner[:1] + inner[-1:]) not in (b"[]", b"{}", b"()") or len(blob) > TEXT:
        return None
    return inner.decode() if inner.isascii() and b"\0" not in inner else None


def shown(value: object) -> str:
    """A value for a message: its kind and its beginning."""
    if isinstance(value, str):
        return repr(value[:40]) + (" ..." if len(value) > 40 else "")
    if isinstance(value, bytes | bytearray | memoryview):
        content = bytes(value)
        return f"{len(content)} bytes that begin with {content[:8].hex(' ') or 'none'}"
    if isinstance(value, list | tuple | np.ndarray):
        return f"{len(value) if np.ndim(value) else 0} entries, the first {repr(value[0])[:40]}" if len(value) else "[]"
    return f"{type(value).__name__} {repr(value)[:40]}"
