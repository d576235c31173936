from types import ModuleType
from typing import Any

Y1, V3 = "insightface-mobilefacenet-y1", "mobileface-v3"


def accepted(count: int, of: int) -> dict[str, Any]:
    return {"rate": count / of, "n": of, "wilson95": [0.125, 0.875]}


def judged(cosine: float, counts: tuple[int, int, int]) -> dict[str, Any]:
    loose, strict, second = counts
    found = {"type1@0.01": accepted(loose, 8), "type1@0.001": accepted(strict, 8), "type2@0.01": accepted(second, 16)}
    return {"cosine": cosine, **found}


def inversion(judges: list[str], found: float = 1.0) -> dict[str, Any]:
    names = ["fast", "best", "fast, left", "fast, right"]
    names += ["control: mean face", "control: shuffled targets", "control: a real second photo"]
    runs: dict[str, Any] = {}
    for number, name in enumerate(names):
        counts = (number, 0, 8)
        runs[name] = {"own_cosine": 0.9 + number / 100, "found": found} | {j: judged(0.5, counts) for j in judges}
    return {"targets": 8, "judges": {judge: {} for judge in judges}, "runs": runs, "poses": {"left of right": 0.75}}


def test_the_headline(script: ModuleType) -> None:
    lines = script.headline(inversion([Y1, V3]), inversion([V3], found=0.875)).splitlines()
    assert lines[2:7] == [
        "| default checkpoint, `fast` | 0.900 | y1 | 0.500 | 0.00 (0.12 to 0.88) | 0.00 | 0.50 |",
        "|  | 0.900 | mobileface-v3 | 0.500 | 0.00 (0.12 to 0.88) | 0.00 | 0.50 |",
        "| default checkpoint, `best` | 0.910 | y1 | 0.500 | 0.12 (0.12 to 0.88) | 0.00 | 0.50 |",
        "|  | 0.910 | mobileface-v3 | 0.500 | 0.12 (0.12 to 0.88) | 0.00 | 0.50 |",
        "| y1, `fast` | 0.900 | mobileface-v3 | 0.500 | 0.00 (0.12 to 0.88) | 0.00 | 0.50 |",
    ]
    assert lines[8].startswith("| control: the reconstruction of somebody else |  | y1 | 0.500 | 0.62 ")
    assert "finds a face in at least 88 % of the reconstructions of each run" in lines[-1]
    assert lines[-1].endswith("has the smaller measured yaw for 6 of 8 targets, own cosine 0.93.")  # 0.92 and 0.93
    assert "in every reconstruction." in script.headline(inversion([Y1]), inversion([V3]))
