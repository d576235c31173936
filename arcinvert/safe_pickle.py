"""A reader of pickles that runs nothing.

A pickle is a program. This follows its instructions on a stack of plain values; where the program would call
something, it keeps a :class:`PickledObject`, which describes the call. No name in the file is looked up, and
nothing is imported or called. Verification sets (``lfw.bin``) and the points of Qdrant's local mode are pickles.
"""

import codecs
import io
import math
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pickletools import opcodes
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from arcinvert.errors import InputError

MAX_STEPS = 5_000_000
"""Instructions of a file; 14,000 images as numpy arrays take less than a tenth."""
# What the decoder of the instructions, and the stack below, raise on files that are no such pickle.
DAMAGED = (ValueError, TypeError, IndexError, KeyError, EOFError, OverflowError)
_HOMES = r"numpy\.(_?core)\.(multiarray|numeric)"
ARRAYS = re.compile(
    rf"{_HOMES} (_reconstruct|_frombuffer|scalar)|numpy (ndarray|dtype)|_codecs encode|(__builtin__|builtins) \w*bytes"
    r"|(__builtin__|builtins) bytearray"
)
"""Names (``module attribute``) in pickles of bytes and numpy arrays."""
_FLOAT_BYTES = 9
"""Bytes of a BINFLOAT instruction: its code, and eight."""
_VALUES = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1"}
_VALUES |= {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_BYTES = {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, type] = {"EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict, "EMPTY_SET": list}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in opcodes}
_T = TypeVar("_T")


@dataclass(eq=False)
class PickledObject:
    """An object that a pickle asks for and that is not made: what is called, with what, and the state set later."""

    name: str
    arguments: Any
    state: Any = None


@dataclass(frozen=True)
class _Global:
    name: str


def read_pickle(content: bytes, source: str) -> object:
    """The value of a pickle of bytes, numbers and numpy arrays; see :func:`parse`.

    Args:
        content: the whole file, of Python 2 or 3 with any protocol.
        source: names the file in errors.

    Raises:
        InputError: cut off, damaged, too long, or it asks for anything but bytes and numpy arrays.
    """
    try:
        return parse(content, ARRAYS)
    except DAMAGED as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{source} is not a whole pickle of plain data: {reason}") from None


def parse(content: bytes, allowed: re.Pattern[str]) -> object:
    """The value that a pickle describes: dicts, lists (also for sets), tuples, bytes, str, numbers, bools and None.

    Args:
        content: the whole pickle.
        allowed: the names (``module attribute``) that may occur; their objects become :class:`PickledObject`.

    Raises:
        ValueError: or another of :data:`DAMAGED`: cut off, damaged, too long, or another name.
    """
    stack: list[Any] = []
    below: list[list[Any]] = []
    memo: dict[int, Any] = {}
    argument: Any
    for step, (name, argument) in enumerate(_instructions(content)):
        if step >= MAX_STEPS:
            raise ValueError(f"more than {MAX_STEPS:,} instructions")
        if name in _VALUES:
            stack.append(argument)
        elif name == "BINFLOAT":
            stack += argument
        elif name in _BYTES or name == "STRING":
            stack.append(bytes(argument))
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("BINSTRING", "SHORT_BINSTRING"):  # a str of Python 2
            stack.append(argument.encode("latin-1"))
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name == "MARK":
            below.append(stack)
            stack = []
        elif name in ("TUPLE", "LIST", "APPENDS", "ADDITEMS", "SETITEMS"):
            values, stack = stack, below.pop()
            if name in ("TUPLE", "LIST"):
                stack.append(tuple(values) if name == "TUPLE" else values)
            elif name == "SETITEMS":
                _typed(stack[-1], dict, "sets an entry of what is no dict").update(
                    zip(values[::2], values[1::2], strict=True)
                )
            else:
                _typed(stack[-1], list, "appends to what is no list").extend(values)
        elif name == "APPEND":
            value = stack.pop()
            _typed(stack[-1], list, "appends to what is no list").append(value)
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            _typed(stack[-1], dict, "sets an entry of what is no dict")[key] = value
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
            if not allowed.fullmatch(argument):
                asked = argument.replace(" ", ".")[:100]
                raise ValueError(f"it asks for {asked!r}; pickles that run code are not read")
            stack.append(_Global(argument))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, called = stack.pop(), stack.pop()
            if not isinstance(called, _Global) or not isinstance(arguments, tuple):
                raise ValueError("it calls what is no constructor")
            stack.append(PickledObject(called.name, arguments))
        elif name == "BUILD":
            state = stack.pop()
            _typed(stack[-1], PickledObject, "sets the state of what is no object").state = state
        elif name == "STOP":
            return stack.pop()
        elif name not in ("PROTO", "FRAME"):
            raise ValueError(f"unexpected instruction {name}")
    raise ValueError("it does not end")


def _instructions(content: bytes) -> Iterator[tuple[str, Any]]:
    """Name and argument of each instruction; that of BINFLOAT is a list, as floats mostly come in long runs.

    A STRING, the str of Python 2's protocol 0, holds bytes, which pickletools takes for ASCII.
    """
    stream = io.BytesIO(content)
    while (at := stream.tell()) < len(content):
        code = stream.read(1)
        if code == b"G":
            others = np.frombuffer(content, np.uint8)[at::_FLOAT_BYTES] != ord("G")
            count = int(others.argmax()) if others.any() else len(others)
            run = np.frombuffer(content, np.dtype([("code", "u1"), ("value", ">f8")]), count, at)
            stream.seek(at + _FLOAT_BYTES * count)
            yield "BINFLOAT", run["value"].tolist()
            continue
        if code == b"S":
            line = stream.readline().strip()
            if len(line) < 2 or line[:1] not in b"'\"" or line[:1] != line[-1:]:
                raise ValueError("a text without quotes")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of escapes that are none, which stay as they are
                value = codecs.escape_decode(line[1:-1])[0]
            yield "STRING", value
            continue
        instruction = _OPCODES.get(code)
        if instruction is None:
            raise ValueError(f"no instruction has the code {code!r}")
        if instruction.arg is None or not instruction.arg.name.startswith("stringnl"):
            yield instruction.name, None if instruction.arg is None else instruction.arg.reader(stream)
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            text = instruction.arg.reader(stream)
        yield instruction.name, text


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


def numbers(value: object) -> NDArray[Any]:
    """An array of numbers, of any kind and up to eight axes.

    Raises:
        ValueError: something else.
    """
    found, _ = _array(value, kinds="biuf", axes=8)
    if found is None:
        raise ValueError("expected an array of numbers, got one of objects")
    return found


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
    if isinstance(value, PickledObject):
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
    if isinstance(value, PickledObject) and value.name.endswith("bytearray") and value.arguments:
        value = value.arguments[0]
        if isinstance(value, PickledObject) and value.name.endswith("bytearray"):
            return None
    match value:
        case bytes():
            return value
        case PickledObject(name="_codecs encode", arguments=(str() as characters, *_)):
            return characters.encode("latin-1")
        case PickledObject(name=name, arguments=()) if name.endswith(("bytes", "bytearray")):
            return b""
    return None


def _typed(value: object, kind: type[_T], otherwise: str) -> _T:
    if not isinstance(value, kind):
        raise ValueError(f"it {otherwise}")
    return value


def _array(value: object, kinds: str = "biu", axes: int = 3) -> tuple[NDArray[Any] | None, list[object]]:
    """The array that a call would make; or None and the list that an array of objects holds.

    Args:
        value: the call.
        kinds: of numbers that it may hold, as in numpy.
        axes: the most it may have.
    """
    call = value if isinstance(value, PickledObject) else PickledObject("", ())
    name = call.name.rpartition(" ")[2]
    match (name, call.arguments, call.state):
        case ("_reconstruct", _, (_, tuple() as shape, PickledObject() as kind, fortran, data)):
            order = "F" if fortran else "C"
        case ("_frombuffer", (data, PickledObject() as kind, tuple() as shape, order), _):
            order = text(order)
        case ("scalar", (PickledObject() as kind, data), _):
            shape, order = (), "C"
        case _:
            raise ValueError(f"expected bytes or an array, got {name or type(value).__name__}")
    dtype = _dtype(kind, kinds)
    if len(shape) > axes or not all(type(side) is int and 0 <= side < 1 << 40 for side in shape) or order not in "CF":
        raise ValueError("an array without a shape")
    if dtype.hasobject:
        if not isinstance(data, list) or shape != (len(data),):
            raise ValueError("an array of objects that is no row")
        return None, data
    raw = _raw(data)
    if raw is None or math.prod(shape) * dtype.itemsize != len(raw):
        raise ValueError(f"an array of shape {shape} whose bytes do not fit")
    return np.frombuffer(raw, dtype).reshape(shape, order="F" if order == "F" else "C"), []


def _dtype(call: PickledObject, kinds: str) -> np.dtype[Any]:
    code = text(call.arguments[0]) if call.name == "numpy dtype" and isinstance(call.arguments, tuple) else ""
    if not re.fullmatch(rf"[{kinds}][1248]|O8|S[1-9]\d{{0,6}}", code):
        raise ValueError(f"expected bytes, whole numbers or truths, got an array of {code[:20]!r}")
    order = text(call.state[1]) if isinstance(call.state, tuple) and len(call.state) > 1 else "|"
    if order not in ("<", ">", "|", "="):
        raise ValueError("an array without a byte order")
    return np.dtype(code).newbyteorder("=" if order == "|" else order)  # type: ignore[arg-type]
