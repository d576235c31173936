"""``arcinvert eval``: the protocols by which recognizers and sets of images are compared, one file per command."""

import typer

from arcinvert.cli.eval import angles, distance, identification, retrieval, templates, verification

NAME = "eval"

app = typer.Typer(help="Evaluate a recognizer or embeddings with the protocols of the papers.", no_args_is_help=True)
for command in (verification, identification, templates, retrieval, angles, distance):
    app.command(command.NAME)(command.main)

__all__ = ["NAME", "app"]
