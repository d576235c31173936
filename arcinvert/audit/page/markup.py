"""HTML and SVG that cannot be injected into: every string is escaped unless it is :class:`Markup` already.

Names and metadata of a store come from strangers. Control characters (ANSI codes among them) and marks
that turn the direction of writing become visible signs; halves of surrogate pairs become U+FFFD.
"""

import html
import re
from collections.abc import Iterable

_VOID = frozenset({"br", "hr", "img", "meta"})
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u200e\u200f\u202a-\u202e\u2066-\u2069\ufffe\uffff]")


class Markup(str):
    """Text that is HTML already. Adding a plain string gives a plain string, which is escaped again: safe."""

    __slots__ = ()


def text(value: object) -> Markup:
    """A value as HTML: escaped, control characters made visible; Markup stays as it is."""
    if isinstance(value, Markup):
        return value
    return Markup(html.escape(_CONTROL.sub(_sign, str(value)), quote=True))


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """An element. ``class_`` gives ``class``, ``aria_label`` gives ``aria-label``; None is left out."""
    head = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{head}>")
    return Markup(f"<{name}{head}>{join(children)}</{name}>")


def join(parts: Iterable[object], between: str = "") -> Markup:
    """Parts one after the other; None is left out."""
    return Markup(text(between).join(text(part) for part in parts if part is not None))


def _sign(found: re.Match[str]) -> str:
    """What stands for a character that must not be written: its picture (U+2400 ff.) or a replacement."""
    code = ord(found.group())
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else "\ufffd"
