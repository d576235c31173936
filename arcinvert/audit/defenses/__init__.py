"""Defenses of a store, and the attack through them by somebody who knows the scheme.

``parse_defense("pq:64").fitted(own)`` is ready for embeddings of the size of ``own`` (M, D), faces that are not in the
store. Its ``protect`` makes templates of the store's embeddings. An attacker who does not know the key assumes
``without_key(seed)``. The attack starts at ``estimate(templates, own)`` and minimizes ``term(templates[rows])``.
"""

from collections.abc import Callable

from arcinvert.audit.defenses.base import Defense, TemplateMatch
from arcinvert.audit.defenses.keyed import BioHash, MlpHash, PolyProtect, Rotate
from arcinvert.audit.defenses.plain import Int8, Noise, Sign, Truncate, Undefended
from arcinvert.audit.defenses.quantize import ProductQuantization
from arcinvert.errors import UsageError

__all__ = ["SCHEMES", "Defense", "TemplateMatch", "parse_defense"]


_WITH_VALUE: dict[str, tuple[str, Callable[[str], Defense]]] = {
    "noise": ("SIGMA", lambda text: Noise(float(text))),
    "truncate": ("K", lambda text: Truncate(int(text))),
    "pq": ("M", lambda text: ProductQuantization(int(text))),
    "rotate": ("KEY", Rotate),
    "biohash": ("KEY", BioHash),
    "polyprotect": ("KEY", PolyProtect),
    "mlphash": ("KEY", MlpHash),
}
_ALONE: dict[str, Callable[[], Defense]] = {"none": Undefended, "int8": Int8, "sign": Sign}
SCHEMES = (*(f"{name}:{what}" for name, (what, _) in _WITH_VALUE.items()), *_ALONE)


def parse_defense(spec: str) -> Defense:
    """The defense of a spec: ``noise:0.1``, ``truncate:256``, ``int8``, ``pq:64``, ``sign``, ``rotate:KEY``, ...

    Raises:
        UsageError: no such scheme, or a value outside its range.
    """
    name, colon, value = spec.partition(":")
    if name in _ALONE and not colon:
        return _ALONE[name]()
    if name not in _WITH_VALUE or not value:
        raise UsageError(f"expected a defense out of {', '.join(SCHEMES)}, got {name!r}")  # without what may be a key
    what, make = _WITH_VALUE[name]
    try:
        return make(value)
    except ValueError:
        raise UsageError(f"expected {name}:{what} with a number, got {spec!r}") from None
