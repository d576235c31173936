import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest


def people(count: int, pictures: int, size: int, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Identities whose pictures all are one axis: everybody is told from everybody."""
    rows = np.zeros((count * pictures, size), np.float32)
    labels = np.repeat(np.arange(count), pictures)
    rows[np.arange(len(rows)), first + labels] = 1
    return rows, labels


def report(script: ModuleType, **recognizers: Any) -> dict[str, Any]:
    return {"pictures": 24, "identities": ["a"] * 6, "flip": "none", "recognizers": recognizers}


def test_a_network_that_tells_all_people_apart(script: ModuleType) -> None:
    rows, labels = people(6, 4, 64, 0)
    strangers, _ = people(50, 20, 64, 10)
    whole, alone = script.measure(rows, labels, strangers), script.measure(rows, labels, None)
    text = script.table(report(script, seen=alone, other=whole))
    cells = {line.split(" | ")[0].strip("| "): line.rstrip(" |").split(" | ")[1:] for line in text.splitlines()}
    assert cells["AUC, EER (36 genuine, 240 impostor pairs)"] == ["1.0000, 0.0000"] * 2
    assert cells["TAR at FAR 1e-2, 1e-3, 1e-4"] == ["null, null, null"] * 2  # 2.4 pairs fix no threshold
    assert cells["rank-1, rank-5 (12 probes, 4 identities)"] == ["1.000, null"] * 2
    assert cells["MegaFace rank-1 among 10, 100, 1,000 other distractors"] == [
        f"- ({script.SEEN})",
        "1.000, 1.000, 1.000",
    ]
    # 24 x 1000 impostor pairs: 24 false matches at 1e-3, 2.4 at 1e-4
    name = "MegaFace TPR at FPR 1e-3, 1e-4, 1e-5, 1e-6 (36 genuine, 24,000 impostor pairs)"
    assert cells[name] == ["-", "1.000, null, null, null"]
    assert cells["intra-class angle; nearest other center, mean and least (degrees)"] == ["0.0, 90.0, 90.0"] * 2
    last = text.splitlines()[-1]
    assert last.startswith("24 pictures of 6 identities; flip test: none.")


def test_the_whole_command(
    script: ModuleType,
    tiny_faces: Path,
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["eval_table.py", "--data", str(tiny_faces), "--checkpoint", str(tiny_checkpoint), "--distractors"]
    monkeypatch.setattr(sys, "argv", [*command, "--identities", "3", "--json", f"{tmp_path}/found.json"])
    script.main()
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["identities"] == ["id3", "id4", "id5"]
    assert (found["pictures"], found["distractors"]) == (18, 18)
    assert found["recognizers"]["tiny"]["distractors"]["tpr"][0]["impostor_pairs"] == 18 * 18
    assert script.table(found) == capsys.readouterr().out.rstrip("\n")
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit, match="lacks 100 of the 100 held-out identities"):
        script.main()
