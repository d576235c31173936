"""``arcinvert audit diff``: which rates rose from one audit to the next."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from arcinvert.cli.common import Json, answer, answer_json, state

if TYPE_CHECKING:
    from arcinvert.audit.diff import Comparison

NAME = "audit diff"
log = logging.getLogger(__name__)


def main(
    old: Annotated[Path, typer.Argument(metavar="OLD.json", help="The report.json of the earlier audit.")],
    new: Annotated[Path, typer.Argument(metavar="NEW.json", help="The report.json of the later audit.")],
    json_out: Json = False,
) -> None:
    """Compare two audits; exit code 10 if a rate rose beyond chance, or if nothing could be compared.

    Examples:
        arcinvert audit diff before/report.json after/report.json
    """
    from arcinvert.audit.diff import compare, read_report
    from arcinvert.cli.auditing.command_line import circumstances

    found = compare(read_report(old), read_report(new))
    if json_out:
        answer_json(NAME, {"run": circumstances(state.arguments), **found.to_json()})
    else:
        for line in _lines(found):
            answer(line)
    for line in found.failures:
        log.warning("%s", line)
    if found.failures:
        raise typer.Exit(10)


def _lines(found: "Comparison") -> list[str]:
    lines = ["| rate | FMR | old | new | p that it did not rise | |", "|---|---|---|---|---|---|"]
    for change in found.changes:
        fmr = "-" if change.fmr is None else f"{change.fmr:g}"
        old, new = (
            f"{count.accepted} of {count.tried} ({count.accepted / max(1, count.tried):.1%})"
            for count in (change.old, change.new)
        )
        lines.append(
            f"| {change.name} | {fmr} | {old} | {new} | {change.p_value:.2g} | {'rose' if change.rose else ''} |"
        )
    lines += ["", "p: Fisher's exact test, one-sided, adjusted by Holm for all rows; 0.05 or less counts as a rise."]
    lines += [f"differs: {text}" for text in found.circumstances]
    return lines + [f"not compared: {text}" for text in found.not_compared]
