"""Every example runs, here with few steps, and its table names it."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
QUICK = {
    "01_face_from_embedding": ["--steps", "2"],
    "02_photo_and_back": ["--steps", "2"],
    "03_pose_and_expression": ["--steps", "2"],
    "04_your_own_recognizer": ["--steps", "2"],
    "05_audit_a_store": ["--quick"],
    "06_train_and_purify": ["--quick"],
    "07_defense_curve": ["--quick"],
    "08_paper_beside_ours": ["--steps", "5", "--paper-steps", "5"],
    "09_a_store_in_parts": ["--quick"],
}
NEEDS = {"05_audit_a_store": "pyarrow", "06_train_and_purify": "matplotlib", "07_defense_curve": "matplotlib"}
RESULT = {"05_audit_a_store": "report/report.html", "09_a_store_in_parts": "store/0.npy"}
"""In --out, where that is a folder."""


def test_the_table_names_all_examples() -> None:
    there = {path.name for path in EXAMPLES.glob("[0-9]*.py")}
    table = (EXAMPLES / "README.md").read_text()
    assert set(re.findall(r"\]\((\w+\.py)\)", table)) == there
    assert {f"{name}.py" for name in QUICK} == there


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_an_example_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    out = tmp_path / "out.png"
    monkeypatch.syspath_prepend(str(EXAMPLES))  # as `python examples/...` does
    monkeypatch.setattr("sys.argv", [name, "--out", str(out), *QUICK[name]])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert (out / RESULT.get(name, "")).stat().st_size > 1000


def test_the_counts_of_a_store_do_not_depend_on_its_parts(tmp_path: Path) -> None:
    example = runpy.run_path(str(EXAMPLES / "09_a_store_in_parts.py"))
    stores = example["made_store"](tmp_path / "store", 2, 90)
    probes = np.eye(3, 128) + 0.01
    totals = []
    for rows in (1000, 90, 31, 7):
        parts = list(example["parts_of"](stores, rows))
        assert sum(part.stop - part.start for part in parts) == 180
        counts = [example["count"](part, probes, 0.1) for part in parts]
        totals.append(sum(reversed(counts), example["Counts"]()))
    assert totals[0].rows == 180
    assert totals[0].unusable == 6
    assert totals[0].unit_norm == 174
    assert min(totals[0].matched) > 0
    assert all(total == totals[0] for total in totals)


def test_a_part_that_was_counted_is_not_counted_again(tmp_path: Path) -> None:
    example = runpy.run_path(str(EXAMPLES / "09_a_store_in_parts.py"))
    found = example["Counts"](5, 1, 4, (2, 0))
    part = example["Part"]("a/0.npy", 10, 15)
    assert example["counted"](part, tmp_path, lambda part: found) == found
    assert example["counted"](part, tmp_path, lambda part: pytest.fail("counted again")) == found
