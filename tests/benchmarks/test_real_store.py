"""The measurement on a folder of photographs, with made-up people."""

import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

from arcinvert.audit.thresholds import public_thresholds
from arcinvert.recognizer import Recognizer


def test_figures_of_a_named_set(
    script: ModuleType,
    tiny_faces: Path,
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = ["real_store.py", "--crops", str(tiny_faces), "--checkpoint", str(tiny_checkpoint), "-o", str(tmp_path)]
    options = ["--people", "2", "--apart", "0", "--figures", f"{tmp_path}/found.json", "--set", "Six people"]
    monkeypatch.setattr(sys, "argv", [*command, *options])
    script.main()
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["set"] == "Six people, one image of each of 6 people"
    assert found["networks"][0]["digest"] == Recognizer.load(tiny_checkpoint).digest
    assert [row["impostor_pairs"] for row in found["networks"][0]["thresholds"]] == [15, 15, 15]
    assert str(tmp_path) not in json.dumps(found)


def test_a_store_holds_two_templates_of_each(
    script: ModuleType, tiny_faces: Path, tiny_recognizer: Recognizer, tmp_path: Path
) -> None:
    people = script.people_of(tiny_faces)[:3]
    store, photos = script.enrol(people, tiny_recognizer, tmp_path)
    assert store.is_file()
    assert len(list(photos.rglob("*.png"))) == 6
    (tmp_path / "faces").mkdir()
    for row in (0, 2, 4):  # as if each had been reconstructed exactly
        shutil.copy(people[row // 2][0], tmp_path / "faces" / f"{row:08d}.png")
    fixed = script.exact(tiny_recognizer, [own[0] for own in script.people_of(tiny_faces)], "")
    found = script.accepted(tiny_recognizer, tmp_path, photos, fixed)
    assert set(found.values()) <= {1.0}


def test_the_table_of_the_package_is_read() -> None:
    assert public_thresholds("00" * 32) is None
