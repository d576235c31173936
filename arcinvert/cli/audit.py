"""``arcinvert audit``: what a store of embeddings leaks, and what defenses change."""

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arcinvert.cli.common import (
    Checkpoint,
    Device,
    Json,
    ProgressLine,
    answer,
    answer_json,
    open_inverter,
    open_recognizer,
    state,
)
from arcinvert.cli.store_options import Column, Identity, Kind, Numbers, Size, Table
from arcinvert.errors import UsageError

if TYPE_CHECKING:
    from arcinvert.audit import AuditConfig, LeakageReport
    from arcinvert.audit.stores import Store
    from arcinvert.distributed import Processes
    from arcinvert.inverter import Inverter
    from arcinvert.recognizer import Recognizer

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
            help="A file (.npy, .npz, parquet, CSV, FAISS index, SQLite), a folder (LanceDB, Qdrant, Chroma, "
            "Milvus Lite), postgresql://... or mysql://..."
        ),
    ],
    judge: Annotated[
        list[Path] | None, typer.Option("--judge", help="Recognizer that judges and is not attacked; may be repeated.")
    ] = None,
    photos: Annotated[
        Path | None,
        typer.Option("--photos", help="Folder of enrolled photos, DIR/<identity>/<image> or named as the record."),
    ] = None,
    pairs: Annotated[
        str | None,
        typer.Option("--pairs", help="Embeddings of --pictures by the store's own recognizer, which nobody opens."),
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option("--pictures", help="Pictures behind --pairs, DIR/<identity>/<picture>; see `arcinvert faces`."),
    ] = None,
    through: Annotated[
        Path | None,
        typer.Option("--through", help="Open recognizer that is attacked in its place; default: --checkpoint."),
    ] = None,
    scores: Annotated[
        str | None,
        typer.Option("--scores", help="Embeddings of the faces of --show-faces by the store's own recognizer."),
    ] = None,
    sample: Annotated[int, typer.Option("--sample", help="Attack at most this many templates.")] = 200,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the sample and of the attack.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for the report; the same command resumes there after a kill."),
    ] = None,
    kind: Kind = None,
    table: Table = None,
    column: Column = None,
    identity: Identity = None,
    identity_table: Annotated[
        str | None,
        typer.Option("--identity-table", help="Names in another table, TABLE.NAME=KEY: KEY is a column here."),
    ] = None,
    header: Annotated[
        bool | None,
        typer.Option("--header/--no-header", help="Whether the first line of a CSV holds names; default: guessed."),
    ] = None,
    numbers: Numbers = None,
    size: Size = None,
    defense: Annotated[
        list[str] | None,
        typer.Option("--defense", "--defence", help="Also attack the sample behind it, noise:0.1; may be repeated."),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            "--group", help="Column, or TABLE.NAME=KEY, by whose values rates are reported too; groups under 20 merge."
        ),
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
        typer.Option(
            "--calibration-faces",
            help="Crops DIR/<identity>/<image> of other people: they fix thresholds with the photos, and add to the "
            "synthetic faces that the attack is calibrated on.",
        ),
    ] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option("--threshold", help="The system's own threshold, JUDGE=0.4 (a cosine, -1 to 1); may be repeated."),
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
    allow_synthetic_thresholds: Annotated[
        bool,
        typer.Option(
            "--allow-synthetic-thresholds",
            help="Let --fail-over be judged at thresholds that were fixed on synthetic faces alone.",
        ),
    ] = False,
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

    The store is only read. Audit only what you may: see RESPONSIBLE_USE.md. Commands beside it: `audit diff`,
    `audit canary`, `audit membership` and `audit map`.

    Examples:
        arcinvert audit people.parquet --checkpoint net.onnx --judge judge.onnx -o audit
        arcinvert audit people.npy --defense noise:0.1 --judge judge.onnx -o audit
        arcinvert audit people.npy --judge judge.onnx -o audit --fail-over sar@1e-3=0.05
    """
    from arcinvert.audit import AttackConfig, AuditConfig, Gate
    from arcinvert.audit.config import parse_thresholds
    from arcinvert.distributed import process_group

    if context.args:
        got = [store, *context.args]
        hint = f"; a sweep is now `arcinvert audit {got[1]} --sweep`" if store == "sweep" else ""
        raise UsageError(f"expected one store, got {' '.join(map(repr, got))}{hint}")
    if (pairs is None) != (pictures is None) or (pairs is None and (through is not None or scores is not None)):
        raise UsageError("expected --pairs together with --pictures, and --through or --scores only with both")
    known = None if pairs is None or pictures is None else (pairs, pictures, scores)
    gate = None if fail_over is None else Gate.parse(fail_over)
    config = AuditConfig(
        sample=sample,
        seed=seed,
        attack=AttackConfig(preset=preset, steps=steps, restarts=restarts, batch_size=batch_size),
        defenses=tuple(defense or ()),
        sweep=sweep,
        photos=photos,
        calibration_faces=calibration_faces,
        thresholds=parse_thresholds(threshold or []),
        authorization=authorization,
        show_faces=show_faces,
        group=group,
    )
    where: Where = {"kind": kind, "table": table, "column": column, "identity": identity}
    where |= {"identity_table": identity_table, "numbers": numbers, "size": size, "header": header}
    with process_group() as ranks:
        if ranks.rank:
            state.quiet = True  # the first process prints for all
            logging.getLogger("arcinvert").setLevel(logging.ERROR)
        report = _audit(store, where, config, through or checkpoint, judge or [], known, device_name, out, force, ranks)
    if ranks.rank:
        return
    _answer(report, out, json_out)
    for warning in report.verdict.warnings:
        log.warning("WARNING: %s", warning)
    if gate is not None:
        exceeded, line = gate.check(report, allow_synthetic=allow_synthetic_thresholds)
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
    known: tuple[str, Path, str | None] | None,
    device_name: str,
    out: Path | None,
    force: bool,
    ranks: "Processes",
) -> "LeakageReport":
    from arcinvert.audit import audit, open_store
    from arcinvert.audit.black_box.box import open_black_box
    from arcinvert.audit.checks.mismatch import refuse_other_size
    from arcinvert.audit.judges import judge_names
    from arcinvert.cli.auditing.command_line import command_line
    from arcinvert.recognizer import Recognizer, default_checkpoint

    opened, groups = open_store(source, **where), _by_group(source, where, config.group)
    recognizer = open_recognizer(checkpoint, device_name, ranks)
    box = None
    if known is None:
        refuse_other_size(opened, recognizer.embedding_size)  # before a calibration
    else:
        pairs, pictures, scores = known
        box = open_black_box(pairs, pictures, recognizer, scores=scores, progress=ProgressLine("picture"))
        for line in box.quality.lines():
            log.info("the map to the open recognizer: %s", line)
        if not config.show_faces:
            log.info("with --show-faces the recognizer of the store can judge the reconstructions too, see --scores")
    paths = [checkpoint or default_checkpoint(), *judges]
    others = [Recognizer.load(path, device=recognizer.device) for path in judges]
    if not judges:
        log.warning("no --judge: only the attacked network judges the attack, which proves little")
    name, *names = judge_names(paths)
    adapted = config.calibration_faces is not None
    inverter = _adapted(recognizer, config, ranks) if adapted else open_inverter(recognizer, ranks)
    return audit(
        opened,
        inverter,
        name=name,
        judges=dict(zip(names, others, strict=True)),
        groups=groups,
        config=config,
        black_box=box,
        command=command_line(state.arguments),
        out=out,
        force=force,
        ranks=ranks,
        progress=ProgressLine(""),
    )


def _by_group(source: str, where: Where, group: str | None) -> "Store | None":
    """The store with the column of the groups in place of the people's; None without groups."""
    from arcinvert.audit import open_store

    if group is None:
        return None
    place = "identity_table" if "=" in group else "identity"
    return open_store(source, **where | {"identity": None, "identity_table": None, place: group})


def _adapted(recognizer: "Recognizer", config: "AuditConfig", ranks: "Processes") -> "Inverter":
    """The inverter of a recognizer, calibrated on the crops of ``--calibration-faces`` too, by the first process."""
    from arcinvert.audit.judges import folder_faces
    from arcinvert.calibration.cache import mixed_calibration
    from arcinvert.faceprior.prior import default_face_prior
    from arcinvert.inverter import Inverter

    assert config.calibration_faces is not None
    faces, prior = folder_faces(config.calibration_faces), default_face_prior().to(recognizer.device)
    if ranks.rank:
        ranks.wait()
    made = mixed_calibration(recognizer, prior, faces.images, faces.digest, progress=ProgressLine("face"))
    if not ranks.rank:
        ranks.wait()
    return Inverter(recognizer, prior, made)


def _answer(report: "LeakageReport", out: Path | None, json_out: bool) -> None:
    from arcinvert.cli.auditing.summary import summary

    if json_out:
        answer_json(NAME, report.to_json())
        return
    for line in summary(report) if out is None else [f"{report.verdict.word}: {report.verdict.text}"]:
        answer(line)
    if out is not None:
        answer(f"the report is {str(out / 'report.html')!r}")
