"""``arcinvert presets``: the recipes of an inversion, and their constants."""

from typing import Any

import typer

from arcinvert.cli.common import Json, answer_json

NAME = "presets"


def main(json_out: Json = False) -> None:
    """List the presets of `synth`; with --json every constant of each, with the reason for it.

    Examples:
        arcinvert presets
        arcinvert presets --json
    """
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
        answer_json(NAME, rows)
        return
    for row in rows:
        typer.echo(f"{row['preset']:<10}{row['constants']['steps']['value']} steps")
        typer.echo(f"{'':<10}{row['summary']}")
