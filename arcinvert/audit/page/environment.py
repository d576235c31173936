"""Jinja2 templates that escape every value.

Names and metadata of a store come from strangers. Control characters (ANSI codes among them) and marks that change the
direction of writing become visible signs. Halves of surrogate pairs become U+FFFD.
"""

import re

from jinja2 import Environment, PackageLoader, StrictUndefined

from arcinvert.audit.page import formatting

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u200e\u200f\u202a-\u202e\u2066-\u2069\ufffe\uffff]")


def environment(package: str) -> Environment:
    """The folder ``templates`` of a package, with the filters of :mod:`~arcinvert.audit.page.formatting`."""
    made = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {name: getattr(formatting, name) for name in formatting.__all__}
    made.tests |= {"control": formatting.is_control, "above_chance": formatting.is_above_chance}
    return made


def visible(value: object) -> object:
    """Make control characters of text visible; None is empty. Escaping follows, but for text that is HTML already."""
    if value is None:
        return ""
    return type(value)(_CONTROL.sub(_sign, value)) if isinstance(value, str) else value


def _sign(found: re.Match[str]) -> str:
    """What replaces a control character: its picture (U+2400 ff.), or U+FFFD."""
    code = ord(found.group())
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else "\ufffd"
