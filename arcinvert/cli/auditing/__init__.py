"""``arcinvert audit NAME``: the commands beside the audit of a store itself, one file each."""

import typer

from arcinvert.cli.auditing import canary, diff, membership, standards

COMMANDS = (diff, membership, standards)
GROUPS = (canary,)


def add_commands(app: typer.Typer) -> None:
    """Add the commands, whose names are of two words."""
    for command in COMMANDS:
        app.command(command.NAME)(command.main)
    for group in GROUPS:
        app.add_typer(group.app, name=group.NAME)


__all__ = ["COMMANDS", "GROUPS", "add_commands"]
