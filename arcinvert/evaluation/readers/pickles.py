"""What a pickle of byte strings, numbers and numpy arrays says, without unpickling it.

The verification sets of face recognition (``lfw.bin``, ``cfp_fp.bin``, ``agedb_30.bin``) are pickles.
A pickle is a program. This decodes its instructions by :mod:`pickletools`, keeps a stack of plain
values, and writes a call down instead of making it: no name of the file is ever looked up.
"""

import codecs
import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pickletools import opcodes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arcinvert.errors import InputError

MAX_STEPS = 5_000_000
"""Instructions of a file; 14,000 pictures as numpy arrays take less than a tenth."""
# What the decoder of the instructions, and the stack below, raise on files that are no such pickle.
DAMAGED = (ValueError, TypeError, IndexError, KeyError, EOFError, OverflowError)
_HOMES = r"numpy\.(_?core)\.(multiarray|numeric)"
_KNOWN = re.compile(
    rf"{_HOMES} (_reconstruct|_frombuffer|scalar)|numpy (ndarray|dtype)|_codecs encode|(__builtin__|builtins) \w*bytes"
    r"|(__builtin__|builtins) bytearray"
)
_NUMBERS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1"}
_TEXTS = {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_BYTES = {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_OPERATIONS = {operation.code: operation for operation in opcodes}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(eq=False)
class Call:
    """A call that a pickle asks for, not made: of what, with what, and the state to be set afterwards."""

    name: str
    arguments: Any
    state: Any = None


@dataclass(frozen=True)
class _Global:
    name: str


def read_pickle(content: bytes, source: str) -> object:
    """The value that a pickle describes: lists, tuples, bytes, str, int, bool, None and :class:`Call`.

    Args:
        content: the whole file, of Python 2 or 3 with any protocol.
        source: names it in errors.

    Raises:
        InputError: cut off, damaged, too long, or it asks for anything but bytes and numpy arrays.
    """
    try:
        return _follow(content)
    except DAMAGED as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{source} is not a whole pickle of pictures and answers: {reason}") from None


def _follow(content: bytes) -> object:
    stack: list[Any] = []
    below: list[list[Any]] = []
    memo: dict[int, Any] = {}
    argument: Any
    for step, (name, argument) in enumerate(_instructions(content)):
        if step >= MAX_STEPS:
            raise ValueError(f"more than {MAX_STEPS:,} instructions")
        if name in _NUMBERS or name in _TEXTS:
            stack.append(argument)
        elif name in _BYTES or name == "STRING":
            stack.append(bytes(argument))
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("BINSTRING", "SHORT_BINSTRING"):  # a str of Python 2
            stack.append(argument.encode("latin-1"))
        elif name == "MARK":
            below.append(stack)
            stack = []
        elif name in ("TUPLE", "LIST", "APPENDS"):
            items, stack = stack, below.pop()
            if name == "APPENDS":
                _list(stack[-1]).extend(items)
            else:
                stack.append(tuple(items) if name == "TUPLE" else items)
        elif name == "APPEND":
            item = stack.pop()
            _list(stack[-1]).append(item)
        elif name in ("EMPTY_LIST", "EMPTY_TUPLE"):
            stack.append([] if name == "EMPTY_LIST" else ())
        elif name in _TUPLES:
            count = _TUPLES[name]
            if len(stack) < count:
                raise ValueError("a tuple of values that are not there")
            stack[-count:] = [tuple(stack[-count:])]
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            if name == "STACK_GLOBAL":
                attribute, module = text(stack.pop()), text(stack.pop())
                argument = f"{module} {attribute}"
            if not _KNOWN.fullmatch(argument):
                raise ValueError(f"it asks for {argument.replace(' ', '.')!r}; pickles that run code are not read")
            stack.append(_Global(argument))
        elif name == "REDUCE":
            arguments, called = stack.pop(), stack.pop()
            if not isinstance(called, _Global) or not isinstance(arguments, tuple):
                raise ValueError("it calls what is no constructor")
            stack.append(Call(called.name, arguments))
        elif name == "BUILD":
            state = stack.pop()
            if not isinstance(stack[-1], Call):
                raise ValueError("it sets the state of what is no object")
            stack[-1].state = state
        elif name == "STOP":
            return stack.pop()
        elif name not in ("PROTO", "FRAME"):
            raise ValueError(f"unexpected instruction {name}")
    raise ValueError("it does not end")


def _instructions(content: bytes) -> Iterator[tuple[str, Any]]:
    """Name and argument of each instruction.

    As ``pickletools.genops``, which takes the text of Python 2's protocol 0 for ASCII, while it holds bytes.
    """
    file = io.BytesIO(content)
    while code := file.read(1):
        if code == b"S":
            line = file.readline().strip()
            if len(line) < 2 or line[:1] not in b"'\"" or line[:1] != line[-1:]:
                raise ValueError("a text without quotes")
            yield "STRING", codecs.escape_decode(line[1:-1])[0]
            continue
        operation = _OPERATIONS.get(code.decode("latin-1"))
        if operation is None:
            raise ValueError(f"unexpected instruction {code!r}")
        yield operation.name, None if operation.arg is None else operation.arg.reader(file)


def items(value: object) -> Iterator[object]:
    """The entries of a list, a tuple, or a row (an array of one axis).

    Raises:
        ValueError: none of these.
    """
    if isinstance(value, list | tuple):
        return iter(value)
    array, objects = _array(value)
    if array is None:
        return iter(objects)
    if array.ndim != 1:
        raise ValueError(f"expected a row, got shape {array.shape}")
    return iter(array.tolist())


def blob(value: object, limit: int) -> bytes:
    """Bytes, or an array of bytes, as bytes.

    Raises:
        ValueError: something else, or more than ``limit`` bytes.
    """
    found = _raw(value)
    if found is None:
        array, _ = _array(value)
        if array is None or (array.dtype.itemsize != 1 and array.dtype.kind != "S"):
            raise ValueError("expected bytes, got an array of something else")
        size = array.nbytes
        found = array.tobytes() if size <= limit else b""
    else:
        size = len(found)
    if size > limit:
        raise ValueError(f"expected at most {limit:,} bytes, got {size:,}")
    return found


def truth(value: object) -> bool:
    """A bool, 0 or 1, or numpy's bool.

    Raises:
        ValueError: something else.
    """
    if isinstance(value, Call):
        array, _ = _array(value)
        value = None if array is None or array.size != 1 else array.reshape(()).item()
    if value in (0, 1) and isinstance(value, bool | int):
        return bool(value)
    raise ValueError("expected True or False for every pair")


def text(value: object) -> str:
    """A str, also one of Python 2; raises ValueError for anything else."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if not isinstance(value, str):
        raise ValueError(f"expected text, got {type(value).__name__}")
    return value


def _raw(value: object) -> bytes | None:
    """Bytes, or a call that would make bytes of one argument; None for anything else."""
    if isinstance(value, Call) and value.name.endswith("bytearray") and value.arguments:
        value = value.arguments[0]
        if isinstance(value, Call) and value.name.endswith("bytearray"):
            return None
    match value:
        case bytes():
            return value
        case Call(name="_codecs encode", arguments=(str() as characters, *_)):
            return characters.encode("latin-1")
        case Call(name=name, arguments=()) if name.endswith(("bytes", "bytearray")):
            return b""
    return None


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("it appends to what is no list")
    return value


def _array(value: object) -> tuple[NDArray[Any] | None, list[object]]:
    """The array that a call would make; or None and the list that an array of objects holds."""
    name = value.name.rpartition(" ")[2] if isinstance(value, Call) else ""
    match (name, value.arguments if isinstance(value, Call) else (), value.state if isinstance(value, Call) else ()):
        case ("_reconstruct", _, (_, tuple() as shape, Call() as kind, fortran, data)):
            order = "F" if fortran else "C"
        case ("_frombuffer", (data, Call() as kind, tuple() as shape, order), _):
            order = text(order)
        case ("scalar", (Call() as kind, data), _):
            shape, order = (), "C"
        case _:
            raise ValueError(f"expected bytes or an array, got {name or type(value).__name__}")
    dtype = _dtype(kind)
    if len(shape) > 3 or not all(type(side) is int and 0 <= side < 1 << 40 for side in shape) or order not in "CF":
        raise ValueError("an array without a shape")
    if dtype.hasobject:
        if not isinstance(data, list) or shape != (len(data),):
            raise ValueError("an array of objects that is no row")
        return None, data
    raw = _raw(data)
    if raw is None or math.prod(shape) * dtype.itemsize != len(raw):
        raise ValueError(f"an array of shape {shape} whose bytes do not fit")
    return np.frombuffer(raw, dtype).reshape(shape, order="F" if order == "F" else "C"), []


def _dtype(call: Call) -> np.dtype[Any]:
    code = text(call.arguments[0]) if call.name == "numpy dtype" and isinstance(call.arguments, tuple) else ""
    if not re.fullmatch(r"[biu][1248]|O8|S[1-9]\d{0,6}", code):
        raise ValueError(f"expected bytes, whole numbers or truths, got an array of {code[:20]!r}")
    order = text(call.state[1]) if isinstance(call.state, tuple) and len(call.state) > 1 else "|"
    if order not in ("<", ">", "|", "="):
        raise ValueError("an array without a byte order")
    return np.dtype(code).newbyteorder("=" if order == "|" else order)  # type: ignore[arg-type]
