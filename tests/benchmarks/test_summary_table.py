from types import ModuleType
from typing import Any

Y1, V3 = "insightface-mobilefacenet-y1", "mobileface-v3"


def accepted(count: int, of: int) -> dict[str, Any]:
    return {"rate": count / of, "n": of, "wilson95": [0.125, 0.875]}


def judged(cosine: float, counts: tuple[int, int, int]) -> dict[str, Any]:
    loose, strict, second = counts
    found = {"type1@0.01": accepted(loose, 8), "type1@0.001": accepted(strict, 8), "type2@0.01": accepted(second, 16)}
    found["type2@0.001"] = accepted(4, 16)
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
    people = {**inversion([Y1]), "targets": 9}
    lines = script.headline(inversion([Y1, V3]), inversion([V3], found=0.875), people, inversion([V3])).splitlines()
    assert lines[2:7] == [
        "| default checkpoint, `fast` | 0.900 | y1 | 0.500 | 0.00 (0.12 to 0.88) | 0.00 | 0.50, 0.25 |",
        "|  | 0.900 | mobileface-v3 | 0.500 | 0.00 (0.12 to 0.88) | 0.00 | 0.50, 0.25 |",
        "| default checkpoint, `best` | 0.910 | y1 | 0.500 | 0.12 (0.12 to 0.88) | 0.00 | 0.50, 0.25 |",
        "|  | 0.910 | mobileface-v3 | 0.500 | 0.12 (0.12 to 0.88) | 0.00 | 0.50, 0.25 |",
        "| y1, `fast` | 0.900 | mobileface-v3 | 0.500 | 0.00 (0.12 to 0.88) | 0.00 | 0.50, 0.25 |",
    ]
    assert lines[8].startswith("| real people, default checkpoint, `fast` | 0.900 | y1 ")
    assert lines[12].startswith("| control: the reconstruction of somebody else |  | y1 | 0.500 | 0.62 ")
    assert lines[18].startswith("| control, real people: the reconstruction of somebody else |  | y1 | 0.500 | 0.62 ")
    assert lines[-1].startswith("8 synthetic targets and 9 real ones each.")
    assert "finds a face in at least 88 % of the reconstructions of each run" in lines[-1]
    assert lines[-1].endswith("farther left than the other for 6 of 8 targets; mean own cosine 0.93.")  # 0.92 and 0.93
    assert "in every reconstruction." in script.headline(*[inversion([V3])] * 4)


def test_a_second_photo_with_no_third_beside_it_has_no_type_two(script: ModuleType) -> None:
    people = inversion([Y1])
    for fmr in ("0.01", "0.001"):
        people["runs"]["control: a real second photo"][Y1][f"type2@{fmr}"] = {"rate": None, "n": 0, "wilson95": None}
    lines = script.headline(inversion([Y1]), inversion([V3]), people, people).splitlines()
    (line,) = (line for line in lines if line.startswith("| control, real people: a real second photo"))
    assert line.endswith(" | 0.00 | - |")


def test_the_short_table_has_real_people_beside_synthetic_ones(script: ModuleType) -> None:
    people = {**inversion([V3]), "targets": 9}
    lines = script.short_table(inversion([Y1, V3]), inversion([V3]), people, people).splitlines()
    assert lines[2] == "| default checkpoint | y1 | 0.00 (0.12 to 0.88) | 0.00 (0.12 to 0.88) | 0.00 | 0.00 |"
    assert [line.split(" | ")[0] for line in lines[5:7]] == [
        "| default checkpoint, real people",
        "| InsightFace's y1, real people",
    ]
    assert lines[-1].startswith("8 synthetic and 9 real people, judges'")


def test_a_billion_rows(script: ModuleType) -> None:
    each = {"cpu_seconds": 3.6}
    stores = {"rows": 1_000_000, "plain": each, "parquet": {"cpu_seconds": 36.0}, "faiss": each}
    convert = {key: {"rows_per_cpu_second": 100_000.0} for key in ("npy", "parquet")}
    lines = script.billion(stores, convert, {"pairs": 10**9, "seconds": 10.0, "threads": 1}).splitlines()
    assert lines[2] == "| plain numpy scan of a `.npy` file | 277,778 | 1.0 |"
    assert lines[3].endswith("| 27,778 | 10.0 |")
    assert lines[5] == "| conversion, `.npy` | 100,000 | 2.8 |"
    assert "would take 159 years of one core" in lines[-1]  # 5e17 pairs at 1e8 a second
