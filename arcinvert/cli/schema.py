"""``arcinvert schema``: the JSON schemas of what ``--json`` prints."""

import json
from typing import Annotated

import typer

from arcinvert.errors import UsageError

NAME = "schema"


def main(
    command: Annotated[
        list[str] | None, typer.Argument(help="A command, such as `eval angles`; left out: list those with a schema.")
    ] = None,
) -> None:
    """Print the JSON schema of what a command prints with --json.

    Examples:
        arcinvert schema
        arcinvert schema synth
        arcinvert schema eval angles
    """
    from arcinvert.audit.report import report_schema
    from arcinvert.cli.results import RESULTS, adapter

    name = " ".join(command or ())
    if not name:
        for known in RESULTS:
            typer.echo(known)
        return
    if name not in RESULTS:
        raise UsageError(f"expected a command out of {', '.join(RESULTS)}, got {name!r}")
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    found = report_schema() if name == "audit" else dialect | adapter(name).json_schema()
    typer.echo(json.dumps(found, indent=2))
