"""Points of Qdrant's local mode, which are pickles, read without unpickling them."""

import re

from arcinvert.errors import InputError
from arcinvert.safe_pickle import DAMAGED, PickledObject, parse

POINT = "qdrant_client.http.models.models PointStruct"


def read_point(content: bytes) -> tuple[object, object]:
    """Vector and payload of one point: lists, dicts, numbers, text, bytes and None.

    Raises:
        ValueError: damaged, or something else.
    """
    try:
        point = parse(content, re.compile(re.escape(POINT)))
    except DAMAGED as error:
        raise ValueError(f"no point: {error}") from None
    match point:
        case PickledObject(name=name, state={"__dict__": {"vector": vector, **others}}) if name == POINT:
            return vector, others.get("payload")
    raise ValueError("no point")


def check_first(content: bytes, name: str) -> tuple[object, object]:
    """As :func:`read_point`, of the first point of a store.

    Raises:
        InputError: it is not a point.
    """
    try:
        return read_point(content)
    except ValueError as error:
        raise InputError(f"{name} does not hold Qdrant's points: {error}; pickles that run code are not read") from None
