"""``arcinvert audit``: what a store of embeddings gives away, and what defenses change."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from arcinvert.cli.common import Checkpoint, Device, Json, ProgressLine, answer, device, say, state
from arcinvert.errors import UsageError

if TYPE_CHECKING:
    from arcinvert.audit import AuditConfig, LeakageReport
    from arcinvert.distributed import Processes

NAME, SWEEP = "audit", "sweep"
Where = dict[str, str | None]


def main(
    store: Annotated[
        list[str],
        typer.Argument(
            metavar="[sweep] STORE",
            help="A file (.npy, .npz, parquet, CSV, FAISS index, SQLite), a folder (LanceDB, Qdrant) or postgresql://...;"
            " after the word sweep it is attacked behind every defense, or those of --defense.",
        ),
    ],
    judge: Annotated[
        list[Path] | None, typer.Option("--judge", help="A recognizer that is not attacked; may be repeated.")
    ] = None,
    photos: Annotated[
        Path | None, typer.Option("--photos", help="Enrolled photos, DIR/<identity>/<picture> or named as the record.")
    ] = None,
    sample: Annotated[int, typer.Option("--sample", help="Attack at most so many templates.")] = 200,
    seed: Annotated[int, typer.Option("--seed", help="Of the sample and the attack.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the report; the same command again goes on there.")
    ] = None,
    kind: Annotated[str | None, typer.Option("--kind", help="Of store, if its name does not say it.")] = None,
    table: Annotated[str | None, typer.Option("--table", help="Of the store, if it has several.")] = None,
    column: Annotated[str | None, typer.Option("--column", help="With the embeddings; of an .npz the array.")] = None,
    identity: Annotated[str | None, typer.Option("--identity", help="Column with the names of the people.")] = None,
    defense: Annotated[
        list[str] | None,
        typer.Option("--defense", "--defence", help="Also attack the sample behind it, noise:0.1; may be repeated."),
    ] = None,
    restarts: Annotated[int, typer.Option("--restarts", help="Attempts a template: their best, and their mean.")] = 1,
    preset: Annotated[str, typer.Option("--preset", help="See `arcinvert presets`.")] = "fast",
    steps: Annotated[int | None, typer.Option("--steps", help="Default: the preset's own.")] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Pictures optimized together.")] = 8,
    calibration_faces: Annotated[
        Path | None,
        typer.Option("--calibration-faces", help="Crops DIR/<identity>/<picture> that fix the judges' thresholds."),
    ] = None,
    authorization: Annotated[
        str | None, typer.Option("--authorization", help="Who allowed this audit; the report says it.")
    ] = None,
    show_faces: Annotated[
        bool, typer.Option("--show-faces", help="Keep the reconstructions, in faces/ and in the report.")
    ] = False,
    fail_over: Annotated[
        str | None, typer.Option("--fail-over", help="sar@1e-3=0.05: exit code 10 if the headline rate is above.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Remove what another audit has left in the folder.")] = False,
    checkpoint: Checkpoint = None,
    device_name: Device = "auto",
    json_out: Json = False,
) -> None:
    """What does a store of embeddings give away? Attack a sample of it, and have judges look at what comes out.

    The store is only read. Audit only what you may: see RESPONSIBLE_USE.md.
    """
    from arcinvert.audit import AuditConfig, Gate
    from arcinvert.distributed import process_group

    words, source = store[:-1], store[-1]
    if words not in ([], [SWEEP]):
        raise UsageError(f"expected one store, or {SWEEP} and a store, got {len(store)} words")
    gate = None if fail_over is None else Gate.parse(fail_over)
    config = AuditConfig(
        sample=sample,
        seed=seed,
        restarts=restarts,
        preset=preset,
        steps=steps,
        batch_size=batch_size,
        defenses=tuple(defense or ()),
        sweep=words == [SWEEP],
        photos=photos,
        calibration_faces=calibration_faces,
        authorization=authorization,
        show_faces=show_faces,
    )
    where = {"kind": kind, "table": table, "column": column, "identity": identity}
    with process_group() as ranks:
        if ranks.rank:
            state.quiet = True  # the first process speaks for all
        report = _audited(source, where, config, checkpoint, judge or [], device_name, out, force, ranks)
    if ranks.rank:
        return
    _tell(report, out, json_out)
    if gate is not None:
        exceeded, line = gate.judged(report)
        say(line)
        if exceeded:
            raise typer.Exit(10)
    if report.unusable:
        say(f"{report.unusable} rows of the store could not be used; the report says why")
        raise typer.Exit(4)


def _audited(
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
    import torch

    from arcinvert.audit import audit, open_store
    from arcinvert.audit.judges import named
    from arcinvert.recognizer import Recognizer, default_checkpoint

    chosen = device(device_name)
    if ranks.world_size > 1 and chosen == torch.device("cuda"):
        chosen = torch.device("cuda", ranks.local_rank % torch.cuda.device_count())
    opened = open_store(source, **where)
    paths = [checkpoint or default_checkpoint(), *judges]
    recognizer, *others = (Recognizer.load(path, device=chosen) for path in paths)
    if not judges:
        say("no --judge: only the attacked network will judge the attack, which says little")
    name, *names = named(paths)
    return audit(
        opened,
        recognizer,
        name=name,
        judges=dict(zip(names, others, strict=True)),
        config=config,
        out=out,
        force=force,
        ranks=ranks,
        say=say,
        progress=_Phases(),
    )


class _Phases:
    """A line of progress for each phase of an audit, told apart by how much there is to do."""

    def __init__(self) -> None:
        self.line: ProgressLine | None = None
        self.total = self.done = 0

    def __call__(self, done: int, total: int, text: str) -> None:
        if self.line is None or total != self.total or done < self.done:
            if self.line is not None:
                self.line.close()
            self.line = ProgressLine("of them")
        self.done, self.total = done, total
        self.line(done, total, text)


def _tell(report: "LeakageReport", out: Path | None, json_out: bool) -> None:
    from arcinvert.audit.report import summary

    if json_out:
        answer(json.dumps(report.to_json()))
        return
    lines = summary(report) if out is None else [f"{report.verdict['word']}: {report.verdict['text']}"]
    for line in lines:
        answer(line)
    if out is not None:
        answer(f"the report is {str(out / 'report.html')!r}")
