"""Figures as a reader wants them: percentages, "1 in 1,000", minutes; and schemes in plain words."""

import math
from collections.abc import Mapping
from typing import Any

NOT_MEASURED = "not measured"
SCHEMES = {
    "none": ("No defense", ""),
    "noise": ("Gaussian noise", ", σ = {}"),
    "truncate": ("Truncation", " to {} numbers"),
    "int8": ("8-bit integers", ""),
    "pq": ("Product quantization", ", {} parts"),
    "sign": ("Signs only", ""),
    "rotate": ("Secret rotation", ""),
    "biohash": ("BioHashing", ""),
    "polyprotect": ("PolyProtect", ""),
    "mlphash": ("MLP-Hash", ""),
}


def percent(share: float | None) -> str:
    """A share in [0, 1] as a percentage: 0.9 -> "90%", 0.0123 -> "1.2%"; None or NaN says that it was not measured."""
    if share is None or math.isnan(share):
        return NOT_MEASURED
    value = 100 * share
    whole = value == round(value) or 10 <= value <= 99 or value > 99.95
    return f"{value:.0f}%" if whole else f"{value:.1f}%" if value >= 0.1 else f"{value:.2g}%"


def span(low: float | None, high: float | None) -> str:
    """An interval of shares: "77% to 96%"; empty if there is none."""
    return "" if low is None or high is None else f"{percent(low)} to {percent(high)}"


def one_in(rate: float) -> str:
    """A false match rate in words: 0.001 -> "1 in 1,000"."""
    return f"1 in {round(1 / rate):,}" if rate > 0 else "none"


def number(value: object) -> str:
    """A figure of the report: whole numbers with separators, others with four digits, lists with commas."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(number(part) for part in value) or "none"
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {number(part)}" for key, part in value.items()) or "none"
    return str(value)


def duration(seconds: float) -> str:
    """Seconds, minutes or hours: 75 -> "1 min 15 s"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds) // 60
    return f"{minutes} min {round(seconds) % 60} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def share(row: Mapping[str, Any]) -> float | None:
    """The rate of a row, ``sar`` or else ``rate``; None if it was not measured."""
    value = row.get("sar", row.get("rate"))
    return None if value is None or math.isnan(value) else float(value)


def scheme(spec: str) -> str:
    """A defense in plain words, its key left out; the spec itself if it is not known."""
    name, _, setting = spec.partition(":")
    family, suffix = SCHEMES.get(name, (spec, ""))
    return family + suffix.format(setting)


def family(spec: str) -> str:
    """The scheme of a defense in plain words, whatever its setting."""
    name = spec.partition(":")[0]
    return SCHEMES.get(name, (name, ""))[0]


def setting(spec: str) -> str:
    """The setting of a defense, as short as it can be; empty where there is none, or only a key."""
    name, _, value = spec.partition(":")
    return value if SCHEMES.get(name, ("", "{}"))[1] else ""
