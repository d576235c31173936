import json
from pathlib import Path
from types import ModuleType
from typing import Any

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks"
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


def evaluation() -> dict[str, Any]:
    points = [
        {"fmr": 0.1, "tar": 0.99, "threshold": 0.1},
        {"fmr": 0.01, "tar": 0.5, "threshold": 0.25},
        {"fmr": 0.001, "tar": None, "threshold": None},
    ]
    verified = {"auc": 0.75, "eer": 0.3, "points": points, "genuine_pairs": 4500, "impostor_pairs": 1000}
    return {"pictures": 998, "identities": ["a", "b"], "recognizers": {"default": {"verification": verified}}}


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


def test_costs(script: ModuleType) -> None:
    first = {"median": {"seconds": 12.34, "bytes": 1.5e9}}
    step = {"ratio": 1.1, "ratio_range": [1.0, 1.25], "ratio_attacked": 1.05, "batch": 4, "against": 16, "gain": 2.0}
    lines = script.costs(evaluation(), first, step).splitlines()
    assert "| AUC 0.7500, TAR null at FMR 1e-3 |" in lines[2]
    assert "| 12.3 s, 1.50 GB |" in lines[3]
    assert (
        "| 1.10 times (1.00 to 1.25), 1.05 for the steps that go through the attacked network; in a batch" in lines[4]
    )
    assert "in a batch of 16 an image takes 0.50 of what it takes alone |" in lines[4]


def test_the_model_card(script: ModuleType) -> None:
    lines = script.card(evaluation(), inversion([Y1, V3])).splitlines()
    assert lines[3:5] == [
        "| threshold and TAR at FMR 0.01 | 0.2500, 0.500 |",
        "| threshold and TAR at FMR 0.001 | null, null |",
    ]
    assert lines[6] == "| inverted by `best` | own cosine 0.910; accepted by y1 1 of 8, by mobileface-v3 1 of 8 |"
    assert lines[8] == "| control: the mean face | accepted by y1 4 of 8, by mobileface-v3 4 of 8 |"
    assert lines[-1].startswith("Of 998 pictures of 2 held-out identities (4,500 genuine, 1,000 impostor pairs)")


def test_a_table_is_made_when_all_that_it_needs_is_there(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "inversion.json").write_text(json.dumps(inversion([Y1])))
    assert script.tables(tmp_path) == {}
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation()))
    assert list(script.tables(tmp_path)) == ["card"]
    (tmp_path / "inversion-y1.json").write_text(json.dumps(inversion([V3])))
    assert list(script.tables(tmp_path)) == ["headline", "card"]
