"""Figures as text: percentages, "1 in 1,000", minutes; and names of defenses and of rates in plain words."""

import math
import re

from arcinvert.audit.rates import KNOW_NOTHING, MEAN, RANDOM, SECOND, SHUFFLED, TYPE_I, TYPE_II, Rate
from arcinvert.audit.significance import ALPHA
from arcinvert.audit.thresholds import Threshold

__all__ = ["bounds", "counts", "duration", "fixed_on", "interval", "kind_name", "number", "one_in", "percent"]
__all__ += ["limits", "moment", "place", "scheme"]
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
"""Scheme -> its name, and its setting; keys are no settings."""
KINDS = {
    TYPE_I: ("Reconstruction against what was enrolled", TYPE_I),
    TYPE_II: ("Reconstruction against another image of the person", TYPE_II),
    MEAN: ("Mean face", "control, expected near chance"),
    RANDOM: ("Random face", "control, expected near chance"),
    SHUFFLED: ("Reconstruction of another person", "control, expected near chance"),
    SECOND: ("Real second photo of the person", "control, highest rate to expect"),
}


def percent(share: float | None) -> str:
    """A share in [0, 1] as a percentage: 0.9 -> "90%", 0.0123 -> "1.2%"; None or NaN -> "not measured"."""
    if share is None or math.isnan(share):
        return NOT_MEASURED
    value = 100 * share
    whole = value == round(value) or 10 <= value <= 99 or value > 99.95
    return f"{value:.0f}%" if whole else f"{value:.1f}%" if value >= 0.1 else f"{value:.2g}%"


def place(share: float) -> str:
    """A coordinate of a drawing: 0.125 -> "12.5%"."""
    return f"{round(100 * share, 2):g}%"


def interval(rate: Rate) -> str:
    """The interval of a rate: "77% to 96%"; empty without one."""
    return "" if rate.low is None or rate.high is None else f"{percent(rate.low)} to {percent(rate.high)}"


def counts(rate: Rate) -> str:
    """The counts behind a rate, and its interval: "36 of 40; 77% to 96%"."""
    tried = f"{rate.tried:,} tried" if rate.accepted is None else f"{rate.accepted:,} of {rate.tried:,}"
    return "; ".join(part for part in (tried, interval(rate)) if part)


def one_in(rate: float) -> str:
    """A false match rate in words: 0.001 -> "1 in 1,000"."""
    return f"1 in {round(1 / rate):,}" if rate > 0 else "none"


def number(value: object) -> str:
    """A value of the report: whole numbers with separators, others with four digits, lists with commas."""
    match value:
        case None | [] | ():
            return "none"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.4g}"
        case list() | tuple():
            return ", ".join(number(part) for part in value)
    return str(value)


def duration(seconds: float) -> str:
    """Seconds, minutes or hours: 75 -> "1 min 15 s"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds) // 60
    return f"{minutes} min {round(seconds) % 60} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def kind_name(kind: str) -> tuple[str, str | None]:
    """What a rate measures, and a note; a kind that is not known names itself."""
    return KINDS.get(kind, (kind, None))


def is_control(kind: str) -> bool:
    """Whether a rate is that of a control."""
    return kind.startswith("control")


def is_above_chance(rate: Rate) -> bool:
    """Whether a control passes more often than strangers do, by its adjusted test; a real second photo may."""
    return rate.kind in KNOW_NOTHING and rate.p_value is not None and rate.p_value <= ALPHA


def limits(rate: Rate) -> str:
    """Ceiling and floor of a rate of the attack: what it is to be compared with; empty where they are not known."""
    found = [f"real second photos: {percent(rate.ceiling)}"] if rate.ceiling is not None else []
    found += [f"controls: at most {percent(rate.floor)}"] if rate.floor is not None else []
    return "; ".join(found)


def moment(date: str) -> str:
    """``2026-01-31T13:45:00Z`` -> "2026-01-31 13:45 UTC"; another text as it is."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d):\d\dZ", date, re.ASCII)
    return f"{found[1]} {found[2]} UTC" if found else date


def bounds(rate: Rate) -> str:
    """Floor, ceiling and adjusted p-value of a rate of the attack; empty where they are not known."""
    found = [f"controls at most {percent(rate.floor)}"] if rate.floor is not None else []
    found += [f"second photos {percent(rate.ceiling)}"] if rate.ceiling is not None else []
    found += [f"p = {rate.p_value:.2g}"] if rate.p_value is not None and not is_control(rate.kind) else []
    return "; ".join(found)


def fixed_on(threshold: Threshold) -> str:
    """A threshold and what it was fixed on, in words."""
    if threshold.threshold is None:
        return f"no threshold, fixed beforehand on {threshold.impostor_pairs:,} impostor pairs"
    value = f"threshold {threshold.threshold:.3f}"
    if threshold.low is not None and threshold.high is not None:
        value += f" ({threshold.low:.3f} to {threshold.high:.3f})"
    people = f" of {threshold.impostor_identities:,} people" if threshold.impostor_identities else ""
    how = "extrapolated from" if threshold.extrapolated else "fixed beforehand on"
    how = "given; rate measured on" if threshold.given else how
    return f"{value}, {how} {threshold.impostor_pairs:,} impostor pairs{people}, {threshold.basis}"


def scheme(spec: str) -> str:
    """A defense in plain words without its key; the spec itself if it is not known."""
    name, _, value = spec.partition(":")
    title, suffix = SCHEMES.get(name, (spec, ""))
    return title + suffix.format(value)


def family(spec: str) -> str:
    """The scheme of a defense in plain words, without its setting."""
    name = spec.partition(":")[0]
    return SCHEMES.get(name, (name, ""))[0]


def setting(spec: str) -> str:
    """The setting of a defense; empty where there is none, or only a key."""
    name, _, value = spec.partition(":")
    return value if SCHEMES.get(name, ("", "{}"))[1] else ""
