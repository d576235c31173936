import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_a_process_is_measured_and_not_the_one_that_starts_it() -> None:
    measure = "import command, json; print(json.dumps(command.once(['--version'])))"
    done = subprocess.run([sys.executable, "-c", measure], cwd=SCRIPTS, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["seconds"] > 0.01
    assert 0 < found["cpu_seconds"] < 20
    assert 5e6 < found["bytes"] < 4e8  # a command that does not load torch


def test_a_command_that_fails_is_named(script: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="arcinvert nothing ended with 2"):
        script.once(["nothing"])


def test_the_command_is_that_of_the_readme(script: ModuleType) -> None:
    assert f"arcinvert {' '.join(script.SYNTH)} -o out" in (SCRIPTS.parent / "README.md").read_text()
