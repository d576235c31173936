"""The wheel holds everything that an installed arcinvert reads, and says that it is typed."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHIPPED = {"default.safetensors"}
"""Files of `checkpoints/` that the wheel puts into `arcinvert/data/`."""


def test_the_wheel_has_all_files_of_the_package(tmp_path: Path) -> None:
    pytest.importorskip("build", reason="needs build: pip install build")
    pytest.importorskip("hatchling", reason="needs hatchling, since no test downloads a build backend")
    words = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT]
    subprocess.run(words, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        inside = {name for name in wheel.namelist() if name.startswith("arcinvert/")}
    tracked = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "arcinvert").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert inside == tracked | {f"arcinvert/data/{name}" for name in SHIPPED}
    assert "arcinvert/py.typed" in inside
