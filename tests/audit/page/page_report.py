"""A report as an audit writes it, and one that is full of nasty strings."""

import base64
from typing import Any

from arcinvert.evaluation.intervals import wilson_interval

TRIED = 60
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABpfZFQAAAAABJRU5ErkJggg=="
)


def row(what: str, fmr: float, accepted: int, **more: Any) -> dict[str, Any]:
    low, high = wilson_interval(accepted, TRIED)
    return {"what": what, "fmr": fmr, "accepted": accepted, "tried": TRIED, "sar": accepted / TRIED} | {
        "low": low,
        "high": high,
        **more,
    }


def judge(name: str, attacked: bool, counts: dict[str, tuple[int, int]]) -> dict[str, Any]:
    thresholds = [
        {"fmr": fmr, "threshold": threshold, "impostor_pairs": 176_130}
        for fmr, threshold in ((0.01, 0.2971), (0.001, 0.4116))
    ]
    rows = [row(what, fmr, n) for what, pair in counts.items() for fmr, n in zip((0.01, 0.001), pair, strict=True)]
    return {
        "name": name,
        "digest": name.encode().hex() * 4,
        "attacked": attacked,
        "thresholds": thresholds,
        "rows": rows,
    }


def defense(spec: str, known: bool, eer: float, tar: float, accepted: int, d_sys: float = 0.871) -> dict[str, Any]:
    counts = {("mobileface-v3", 0.01): accepted + 9, ("mobileface-v3", 0.001): accepted}
    counts |= {("mobilefacenet-y1", 0.001): accepted + 6}
    return {
        "spec": spec,
        "key_known": known,
        "eer": eer,
        "tar": {"0.01": min(1.0, tar + 0.2), "0.001": tar},
        "accuracy_on": "300 synthetic faces of 100 people",
        "d_sys": d_sys,
        "linkability": {"d_sys": d_sys, "chance": 0.031, "mated": 300, "nonmated": 44_550, "bins": 100},
        "rows": [{"judge": name} | row("type I", fmr, min(TRIED, n)) for (name, fmr), n in counts.items()],
    }


def example() -> dict[str, Any]:
    return {
        "version": 1,
        "verdict": {
            "word": "leaks",
            "text": "Of 60 templates that were attacked, 27 gave a face that a network which had no part in the attack "
            "takes for the enrolled person at one false match in 1,000.",
        },
        "store": {
            "kind": "sqlite",
            "name": "data/people.sqlite",
            "count": 1_000_000,
            "size": 512,
            "digest": "9f" * 32,
            "identities": 480_000,
            "norms": {"least": 9.8123, "mean": 20.1, "most": 31.2, "unit": 0},
        },
        "sample": {"count": 60, "seed": 7, "identities": 60, "cap": 200},
        "attacked": {
            "name": "mobilefacenet-y1",
            "digest": "3c" * 32,
            "cosine": 0.931,
            "failed": 1,
            "attempts": 120,
            "steps": 60,
        },
        "judges": [
            judge(
                "mobilefacenet-y1",
                True,
                {
                    "type I": (60, 60),
                    "type II": (57, 50),
                    "control: mean face": (0, 0),
                    "control: random face": (1, 0),
                    "control: shuffled targets": (1, 0),
                    "control: second photo": (49, 37),
                },
            ),
            judge(
                "mobileface-v3",
                False,
                {
                    "type I": (55, 27),
                    "type II": (33, 16),
                    "control: mean face": (0, 0),
                    "control: random face": (0, 0),
                    "control: shuffled targets": (6, 0),
                    "control: second photo": (47, 35),
                },
            ),
        ],
        "reidentification": {
            "rank1": 0.95,
            "accepted": 57,
            "tried": 60,
            "gallery": 1_000_000,
            "low": 0.863,
            "high": 0.983,
        },
        "restarts": {
            "k": 2,
            "chosen_by": "the attacked network's cosine to the template",
            "best": {"own cosine": 0.931, "mobileface-v3 at 0.001": 0.45},
            "mean": {"own cosine": 0.925, "mobileface-v3 at 0.001": 0.408333},
        },
        "hygiene": [
            {
                "code": "unnormalized",
                "severity": "info",
                "text": "The templates are not of unit length (norms 9.8 to 31.2).",
                "count": 1_000_000,
            },
            {
                "code": "names",
                "severity": "problem",
                "text": "Names stand beside the templates (column person).",
                "count": 1_000_000,
            },
            {"code": "duplicates", "severity": "warning", "text": "Templates that occur more than once.", "count": 12},
        ],
        "mismatch": {
            "suspected": False,
            "evidence": ["512 numbers, as the network gives", "the mean points where the network's own mean points"],
            "figures": {"cosine_of_means": 0.934, "energy_in_subspace": 0.981},
        },
        "defenses": [
            defense("noise:0.05", True, 0.083, 0.351, 22),
            defense("truncate:256", True, 0.095, 0.302, 18),
            defense("int8", True, 0.078, 0.366, 27),
            defense("pq:64", True, 0.085, 0.340, 24),
            defense("sign", True, 0.089, 0.331, 19),
            defense("rotate:17", False, 0.077, 0.366, 0, 0.04),
            defense("rotate:17", True, 0.077, 0.366, 27, 0.04),
            defense("biohash:17", False, 0.091, 0.322, 0, 0.03),
            defense("biohash:17", True, 0.091, 0.322, 15, 0.03),
            defense("polyprotect:17", False, 0.102, 0.262, 1, 0.06),
            defense("polyprotect:17", True, 0.102, 0.262, 11, 0.06),
            defense("mlphash:17", False, 0.107, 0.241, 0, 0.03),
            defense("mlphash:17", True, 0.107, 0.241, 9, 0.03),
        ],
        "settings": {"preset": "fast", "steps": 60, "seed": 7, "calibration": "880 synthetic faces, one picture each"},
        "photos": {
            "folder": "photos",
            "enrolled_found": 60,
            "second_found": 58,
            "of": 60,
            "unusable": 0,
            "matched": "by the name of the identity",
        },
        "authorization": "Ticket 4711, Dr. Example",
        "not_shown": [
            "Stronger attacks: other networks, more steps, decoders trained for this recognizer.",
            "Whether a live system would let the pictures in: nothing was shown to one.",
        ],
        "seconds": 431.2,
        "files": ["report.html", "report.json"],
    }


def hostile(value: Any) -> Any:
    """Every free string of a report with something nasty behind it."""
    nasty = "<script>fetch('//x')</script>\"' onload=x\x1b[31m\u202e" + "long" * 60
    fixed = ("what", "severity", "spec")
    if isinstance(value, dict):
        return {key: part if key in fixed else hostile(part) for key, part in value.items()}
    if isinstance(value, list):
        return [hostile(part) for part in value]
    return value + nasty if isinstance(value, str) else value
