"""``arcinvert doctor``: what it finds, what is missing, and that it asks nobody."""

import json
import tomllib
from pathlib import Path

import pytest

from arcinvert.cli import doctor, run
from arcinvert.telemetry import NO_TELEMETRY

pytestmark = pytest.mark.usefixtures("as_found")

ROOT = Path(__file__).resolve().parents[2]


def test_it_names_versions_weights_cache_and_missing_extras(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ARCINVERT_CACHE", str(tmp_path))
    monkeypatch.delenv("ARCINVERT_CHECKPOINT", raising=False)
    for name, value in NO_TELEMETRY.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(doctor, "_there", lambda module: module != "gradio")
    (tmp_path / "models" / "a").mkdir(parents=True)
    (tmp_path / "models" / "a" / "net.onnx").write_bytes(bytes(1000))
    assert run(["doctor"]) == 0
    said = capsys.readouterr()
    assert "pip install 'arcinvert[app]'" in said.out
    assert "pip install 'arcinvert[plot]'" not in said.out
    assert "telemetry  off" in said.out
    assert run(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["problems"] == []
    assert found["cache"] == {"folder": str(tmp_path), "files": 1, "bytes": 1000, "writable": True}
    assert found["weights"]["pulled"] == [str(tmp_path / "models" / "a" / "net.onnx")]
    assert found["devices"][-1]["device"] == "cpu"


def test_a_missing_package_and_a_missing_checkpoint_are_problems(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor, "PACKAGES", ("torch", "no-such-package"))
    monkeypatch.setenv("ARCINVERT_CHECKPOINT", str(tmp_path / "none.onnx"))
    assert run(["doctor"]) == 5
    said = capsys.readouterr().out
    assert "PROBLEM: no-such-package is not installed" in said
    assert "none.onnx" in said


@pytest.mark.parametrize(
    ("variable", "value", "off"),
    [
        ("HF_HUB_DISABLE_TELEMETRY", "True", True),  # gradio writes it so
        ("DO_NOT_TRACK", "true", True),
        ("ORT_DISABLE_TELEMETRY", "YES", True),
        ("ORT_DISABLE_TELEMETRY", "on", True),
        ("NO_ALBUMENTATIONS_UPDATE", "true", True),
        ("GRADIO_ANALYTICS_ENABLED", "false", True),
        ("GRADIO_ANALYTICS_ENABLED", "0", True),
        ("GRADIO_RUN_HISTORY", "", True),
        ("HF_HUB_DISABLE_TELEMETRY", "0", False),
        ("DO_NOT_TRACK", "", False),
        ("ORT_DISABLE_TELEMETRY", "false", False),
        ("ORT_DISABLE_TELEMETRY", "2", False),
        ("NO_ALBUMENTATIONS_UPDATE", "yes", False),
        ("GRADIO_ANALYTICS_ENABLED", "True", False),
        ("GRADIO_RUN_HISTORY", "1", False),
        ("GRADIO_RUN_HISTORY", None, False),
    ],
)
def test_telemetry_is_judged_by_what_a_value_means(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str | None, off: bool
) -> None:
    for name, ours in NO_TELEMETRY.items():
        monkeypatch.setenv(name, ours)
    if value is None:
        monkeypatch.delenv(variable)
    else:
        monkeypatch.setenv(variable, value)
    found = doctor.examine()
    assert found["telemetry"][variable] == value
    assert (found["telemetry_off"], found["telemetry_allowed_by"]) == (off, [] if off else [variable])
    line = next(line for line in doctor._lines(found) if line.startswith("telemetry"))
    assert ("NOT OFF" in line) is not off
    shown = f"{variable} is not set" if value is None else f"{variable}={value}"
    assert (f"({shown})" in line) is not off


def test_the_extras_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(doctor.EXTRAS) == set(project["optional-dependencies"]) - {"dev", "store-tests"}
