"""``arcinvert audit``: what a store of embeddings leaks, and what defenses change."""

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arcinvert.cli.common import Checkpoint, Device, Json, ProgressLine, answer, open_inverter, open_recognizer, state
from arcinvert.errors import UsageError

if TYPE_CHECKING:
    from arcinvert.audit import AuditConfig, LeakageReport
    from arcinvert.audit.rates import Rate
    from arcinvert.distributed import Processes

NAME = "audit"
CONTEXT = {"allow_extra_args": True}
"""So that ``audit sweep STORE`` of earlier versions gets an answer of its own."""
Where = dict[str, Any]
log = logging.getLogger(__name__)


def _schema(wanted: bool) -> None:
    if wanted:
        from arcinvert.audit.report import report_schema

        typer.echo(json.dumps(report_schema(), indent=2))
        raise typer.Exit


def main(
    context: typer.Context,
    store: Annotated[
        str,
        typer.Argument(
            help="A file (.npy, .npz, parquet, CSV, FAISS index, SQLite), a folder (LanceDB, Qdrant) or postgresql://..."
        ),
    ],
    judge: Annotated[
        list[Path] | None, typer.Option("--judge", help="Recognizer that judges and is not attacked; may be repeated.")
    ] = None,
    photos: Annotated[
        Path | None,
        typer.Option("--photos", help="Folder of enrolled photos, DIR/<identity>/<image> or named as the record."),
    ] = None,
    sample: Annotated[int, typer.Option("--sample", help="Attack at most this many templates.")] = 200,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the sample and of the attack.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for the report; the same command resumes there after a kill."),
    ] = None,
    kind: Annotated[str | None, typer.Option("--kind", help="Kind of store; default: found by content.")] = None,
    table: Annotated[str | None, typer.Option("--table", help="Table to read, if the store has several.")] = None,
    column: Annotated[
        str | None,
        typer.Option(
            "--column", help="Column, array of an .npz, or numbered columns 'emb_*' that hold the embeddings."
        ),
    ] = None,
    identity: Annotated[str | None, typer.Option("--identity", help="Column that names the people.")] = None,
    identity_table: Annotated[
        str | None,
        typer.Option("--identity-table", help="Names in another table, TABLE.NAME=KEY: KEY is a column here."),
    ] = None,
    numbers: Annotated[
        str | None, typer.Option("--numbers", help="Numbers in blobs: float32, float64, float16, bfloat16, int8, ...")
    ] = None,
    size: Annotated[int | None, typer.Option("--size", help="Numbers of an embedding; refuses another size.")] = None,
    defense: Annotated[
        list[str] | None,
        typer.Option("--defense", "--defence", help="Also attack the sample behind it, noise:0.1; may be repeated."),
    ] = None,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Attack the sample behind every defense that fits, or those of --defense.")
    ] = False,
    restarts: Annotated[int, typer.Option("--restarts", help="Attempts at each template.")] = 1,
    preset: Annotated[str, typer.Option("--preset", help="Preset of the attack, see `arcinvert presets`.")] = "fast",
    steps: Annotated[int | None, typer.Option("--steps", help="Steps of an attempt; default: the preset's.")] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Images optimized together.")] = 8,
    calibration_faces: Annotated[
        Path | None,
        typer.Option("--calibration-faces", help="Crops DIR/<identity>/<image> that fix the judges' thresholds."),
    ] = None,
    authorization: Annotated[
        str | None, typer.Option("--authorization", help="Who allowed this audit; the report quotes it.")
    ] = None,
    show_faces: Annotated[
        bool, typer.Option("--show-faces", help="Keep the reconstructions, in faces/ and in the report.")
    ] = False,
    fail_over: Annotated[
        str | None,
        typer.Option(
            "--fail-over", help="End with exit code 10 if the headline rate is above a bound such as sar@1e-3=0.05."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Remove the files of another audit from the folder.")] = False,
    schema: Annotated[
        bool,
        typer.Option("--schema", callback=_schema, is_eager=True, help="Print the JSON schema of report.json."),
    ] = False,
    checkpoint: Checkpoint = None,
    device_name: Device = "auto",
    json_out: Json = False,
) -> None:
    """Measure what a store of embeddings leaks: attack a sample of it, and let other recognizers judge the faces.

    The store is only read. Audit only what you may: see RESPONSIBLE_USE.md.
    """
    from arcinvert.audit import AttackConfig, AuditConfig, Gate
    from arcinvert.distributed import process_group

    if context.args:
        got = [store, *context.args]
        hint = f"; a sweep is now `arcinvert audit {got[1]} --sweep`" if store == "sweep" else ""
        raise UsageError(f"expected one store, got {' '.join(map(repr, got))}{hint}")
    gate = None if fail_over is None else Gate.parse(fail_over)
    config = AuditConfig(
        sample=sample,
        seed=seed,
        attack=AttackConfig(preset=preset, steps=steps, restarts=restarts, batch_size=batch_size),
        defenses=tuple(defense or ()),
        sweep=sweep,
        photos=photos,
        calibration_faces=calibration_faces,
        authorization=authorization,
        show_faces=show_faces,
    )
    where: Where = {"kind": kind, "table": table, "column": column, "identity": identity}
    where |= {"identity_table": identity_table, "numbers": numbers, "size": size}
    with process_group() as ranks:
        if ranks.rank:
            state.quiet = True  # the first process prints for all
            logging.getLogger("arcinvert").setLevel(logging.ERROR)
        report = _audit(store, where, config, checkpoint, judge or [], device_name, out, force, ranks)
    if ranks.rank:
        return
    _answer(report, out, json_out)
    if gate is not None:
        exceeded, line = gate.check(report)
        log.info("%s", line)
        if exceeded:
            raise typer.Exit(10)
    if report.skipped_rows:
        log.info("%d rows of the store were skipped; the report gives the reasons", report.skipped_rows)
    unreadable = 0 if report.photos is None else report.photos.unreadable
    if unreadable:
        log.info("%d files of --photos show no face or cannot be read", unreadable)
    if report.skipped_rows or unreadable:
        raise typer.Exit(4)


def _audit(
    source: str,
    where: Where,
    config: "AuditConfig",
    checkpoint: Path | None,
    judges: list[Path],
    device_name: str,
    out: Path | None,
    force: bool,
    ranks: "Processes",
) -> "LeakageReport":
    import numpy as np

    from arcinvert.audit import audit, open_store
    from arcinvert.audit.judges import judge_names
    from arcinvert.embeddings import check_embeddings
    from arcinvert.recognizer import Recognizer, default_checkpoint

    opened = open_store(source, **where)
    recognizer = open_recognizer(checkpoint, device_name, ranks)
    check_embeddings(np.ones((1, opened.size)), recognizer.embedding_size)  # refused before a calibration
    paths = [checkpoint or default_checkpoint(), *judges]
    others = [Recognizer.load(path, device=recognizer.device) for path in judges]
    if not judges:
        log.warning("no --judge: only the attacked network judges the attack, which proves little")
    name, *names = judge_names(paths)
    return audit(
        opened,
        open_inverter(recognizer, ranks),
        name=name,
        judges=dict(zip(names, others, strict=True)),
        config=config,
        out=out,
        force=force,
        ranks=ranks,
        progress=ProgressLine("of them"),
    )


def _answer(report: "LeakageReport", out: Path | None, json_out: bool) -> None:
    if json_out:
        answer(json.dumps(report.to_json()))
        return
    for line in summary(report) if out is None else [f"{report.verdict.word}: {report.verdict.text}"]:
        answer(line)
    if out is not None:
        answer(f"the report is {str(out / 'report.html')!r}")


def summary(report: "LeakageReport") -> list[str]:
    """The report for a terminal: the verdict, then Markdown tables."""
    from arcinvert.audit.rates import TYPE_I

    lines = [f"{report.verdict.word.upper()}: {report.verdict.text}", ""]
    lines += ["| judge | compared | FMR | accepted | rate | 95 % | mean cosine |", "|---|---|---|---|---|---|---|"]
    for judge in report.judges:
        name = judge.name + (" (attacked)" if judge.attacked else "")
        lines += [f"| {name} | {_cells(rate)} |" for rate in judge.rates]
    again = report.reidentification
    lines += ["", f"rank 1 in the whole store of {again.gallery}: {again.accepted} of {again.tried}"]
    if report.defenses:
        lines += ["", "| defense | key | judge | FMR | accepted | EER kept | D_sys |", "|---|---|---|---|---|---|---|"]
    for entry in report.defenses:
        key = "known" if entry.key_known else "unknown"
        for rate in entry.rates:
            if rate.kind == TYPE_I:
                kept = f"{entry.accuracy.eer:.4f} | {entry.linkability.d_sys:.2f}"
                counts = f"{rate.accepted} of {rate.tried}"
                lines.append(f"| {entry.spec} | {key} | {rate.judge} | {rate.fmr:g} | {counts} | {kept} |")
    lines += [""] + [f"{finding.severity}: {finding.text}" for finding in report.hygiene]
    return lines + [f"limitation: {text}" for text in report.limitations]


def _cells(rate: "Rate") -> str:
    cosine = "-" if rate.cosine is None else f"{rate.cosine:.3f}"
    head = f"{rate.kind} | {rate.fmr:g}"
    if rate.rate is None:
        return f"{head} | - of {rate.tried} | - | - | {cosine}"
    ends = f"{rate.low:.3f} to {rate.high:.3f}"
    return f"{head} | {rate.accepted} of {rate.tried} | {rate.rate:.3f} | {ends} | {cosine}"
