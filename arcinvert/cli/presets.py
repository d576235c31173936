"""``arcinvert presets``: the recipes of an inversion, and their constants."""

import json
from typing import Any

import typer

from arcinvert.cli.common import Json, answer

NAME = "presets"


def main(json_out: Json = False) -> None:
    """List the presets of `synth`; with --json every constant of each, with the reason for it."""
    from arcinvert.inversion.presets import PRESETS, constants_of

    rows: list[dict[str, Any]] = [
        {
            "preset": name,
            "summary": preset.summary,
            "controls": preset.controlled,
            "constants": constants_of(preset),
        }
        for name, preset in PRESETS.items()
    ]
    if json_out:
        answer(json.dumps(rows))
        return
    for row in rows:
        typer.echo(f"{row['preset']:<10}{row['constants']['steps']['value']} steps")
        typer.echo(f"{'':<10}{row['summary']}")
