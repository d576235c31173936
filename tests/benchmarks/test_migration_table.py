"""The table of maps, between the default checkpoint and itself as a file."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from arcinvert.checkpoint import load_checkpoint
from arcinvert.formats.export import export_onnx
from arcinvert.recognizer import Recognizer, default_checkpoint


@pytest.mark.slow
def test_a_network_and_its_export_are_mapped_without_loss(
    script: ModuleType, tiny_faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_out = list(Recognizer.load().header["data"]["held_out"])
    data = tmp_path / "data"
    data.mkdir()
    for number, folder in enumerate(sorted(tiny_faces.iterdir())):
        for copy in range(3):  # eighteen people for the map
            (data / f"other{number}{copy}").symlink_to(folder)
        (data / held_out[number]).symlink_to(folder)
    model = tmp_path / "same.onnx"
    export_onnx(load_checkpoint(default_checkpoint()), model)
    words = ["migration_table.py", "--data", str(data), "--identities", "6", "-o", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", [*words, "--model", f"{model}:127.5", "--model", "default"])
    script.main()
    found = json.loads((tmp_path / "out" / "table.json").read_text())
    assert list(found) == ["same -> default", "default -> same"]
    assert all(one["cosine"] > 0.98 and (one["pairs"], one["judged_images"]) == (36, 36) for one in found.values())
    assert (tmp_path / "out" / "table.md").read_text().count("\n") == 4
