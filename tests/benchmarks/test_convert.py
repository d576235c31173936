"""The measurement of the conversion, with few rows."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.mark.slow
def test_every_row_is_measured_in_a_process_of_its_own(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyarrow")
    words = ["convert.py", "--rows", "9000", "--folder", str(tmp_path), "--json", str(tmp_path / "found.json")]
    monkeypatch.setattr(sys, "argv", words)
    script.main()
    found = json.loads((tmp_path / "found.json").read_text())
    assert {name: one["rows"] for name, one in found.items() if name != "product"} == dict.fromkeys(
        ("plain", "npy", "parquet"), 9000
    )
    assert all(one["rows_per_cpu_second"] > 0 and one["peak_mb"] > 0 for one in found.values())
    assert capsys.readouterr().out.count("\n") == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["faces-9000.npy", "faces-9000.parquet", "found.json"]
