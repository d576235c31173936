"""``arcinvert audit map``: requirements of standards, and what in a report answers each."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from arcinvert.cli.common import Json, answer, answer_json

NAME = "audit map"


def main(
    report: Annotated[
        Path | None, typer.Argument(metavar="[REPORT.json]", help="The report.json whose answers are shown.")
    ] = None,
    json_out: Json = False,
) -> None:
    """List requirements of AISVS, ATLAS, NIST, ISO, EDPB and the AI Act, each with what answers it or "not tested".

    It says where to look, and is no legal advice.

    Examples:
        arcinvert audit map
        arcinvert audit map audit/report.json
    """
    from arcinvert.audit.diff import read_report
    from arcinvert.audit.standards import answers

    found = answers(None if report is None else read_report(report))
    if json_out:
        answer_json(NAME, [asdict(one) for one in found])
        return
    answer("| source | id | asks | field or command | answer |")
    answer("|---|---|---|---|---|")
    for one in found:
        fields = ", ".join(f"`{field}`" for field in one.fields) or "-"
        answer(f"| {one.source} | {one.number} | {one.asks} | {fields} | {one.value} |")
