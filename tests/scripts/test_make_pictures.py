"""The command that renews the pictures: those that need neither faces nor a browser, with few steps."""

from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image


@pytest.mark.slow
@pytest.mark.parametrize(("name", "side"), [("variations", 224), ("film", 112)])
def test_a_picture(script: ModuleType, name: str, side: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["pictures", "--out", str(tmp_path), "--steps", "6", "--only", name])
    script.main()
    with Image.open(tmp_path / f"{name}.png") as picture:
        assert picture.size == (6 * (side + 4) - 4, side)
        assert "synthetic" in picture.info["Description"]


def test_what_is_missing_is_named(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["pictures", "--out", str(tmp_path), "--only", "sheet"])
    with pytest.raises(SystemExit, match="--data"):
        script.main()
