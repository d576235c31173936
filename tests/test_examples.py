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
    "08_paper_beside_ours": ["--steps", "5", "--paper-steps", "5"],
}


def test_the_table_names_all_examples() -> None:
    there = {path.name for path in EXAMPLES.glob("*.py")}
    table = (EXAMPLES / "README.md").read_text()
    assert set(re.findall(r"\]\((\w+\.py)\)", table)) == there
    assert {f"{name}.py" for name in QUICK} == there


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_an_example_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.png"
    monkeypatch.setattr("sys.argv", [name, "--out", str(out), *QUICK[name]])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert out.stat().st_size > 1000
