"""Every example runs, here with few steps, and its table names it."""

import re
import runpy
from pathlib import Path

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
}
NEEDS = {"05_audit_a_store": "pyarrow", "06_train_and_purify": "matplotlib", "07_defense_curve": "matplotlib"}
RESULT = {"05_audit_a_store": "report/report.html"}
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
