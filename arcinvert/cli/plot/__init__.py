"""``arcinvert plot``: the figures of the papers, PNG or SVG, one file per command."""

import typer

from arcinvert.cli.plot import angles, cmc, det, logits, roc, toy

NAME = "plot"

app = typer.Typer(help="Draw ROC, DET, CMC, angles, margins and the toy example.", no_args_is_help=True)
for command in (roc, det, angles, cmc, logits, toy):
    app.command(command.NAME)(command.main)

__all__ = ["NAME", "app"]
