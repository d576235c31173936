"""``arcinvert presets``."""

import json

import pytest

from arcinvert.cli import run
from arcinvert.inversion.presets import PRESETS, constants_of

pytestmark = pytest.mark.usefixtures("as_found")


def test_each_preset_has_its_steps_and_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["presets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    expected = [line for name, preset in PRESETS.items() for line in (f"{name} {preset.steps} steps", preset.summary)]
    assert [" ".join(line.split()) for line in lines] == expected


def test_json_gives_value_and_reason_of_every_constant(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["presets", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["preset"], row["summary"]) for row in rows] == [(name, p.summary) for name, p in PRESETS.items()]
    assert [row["controls"] for row in rows] == [True, True, False, False]
    for row, preset in zip(rows, PRESETS.values(), strict=True):
        assert row["constants"] == constants_of(preset)
    assert rows[0]["constants"]["steps"]["value"] == 45
    assert "judged cosine" in rows[0]["constants"]["lr"]["reason"]
