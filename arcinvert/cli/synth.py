"""``arcinvert synth``: embeddings become faces."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arcinvert.cli.common import (
    Checkpoint,
    Device,
    Json,
    ProgressLine,
    answer,
    log,
    log_to_stderr,
    open_inverter,
    open_recognizer,
    state,
)
from arcinvert.errors import UsageError

if TYPE_CHECKING:
    from arcinvert.distributed import Processes
    from arcinvert.inversion.reconstruct import Settings

NAME = "synth"


def main(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the images, sheet.png and manifest.json.")],
    embedding: Annotated[
        str | None,
        typer.Option("--embedding", "-e", help="An .npy or .npz file of (D,) or (N, D) embeddings; - reads stdin."),
    ] = None,
    identity: Annotated[
        str | None,
        typer.Option(help="Reconstruct these classes, such as 17,42, of a checkpoint that keeps its centers."),
    ] = None,
    objective: Annotated[
        str, typer.Option(help="With --identity: match the center by cosine, or by the margin loss over all classes.")
    ] = "cosine",
    variations: Annotated[int, typer.Option(help="Number of images for each target.")] = 1,
    steps: Annotated[int | None, typer.Option(help="Optimization steps; the default is the preset's own.")] = None,
    preset: Annotated[str, typer.Option(help="Recipe of the inversion; `arcinvert presets` lists them.")] = "fast",
    seed: Annotated[int, typer.Option(help="Seed of every draw; the same seed gives the same bytes on a machine.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Number of images that are optimized together.")] = 8,
    pose: Annotated[
        str | None, typer.Option(help="Pose of the face: frontal, left, right, up, down, or YAW,PITCH in degrees.")
    ] = None,
    expression: Annotated[str | None, typer.Option(help="Expression of the face: neutral or smile.")] = None,
    array: Annotated[str | None, typer.Option(help="Array to read, if an .npz has several.")] = None,
    min_cosine: Annotated[
        float | None, typer.Option(help="Regenerate images whose cosine to the target is below this value.")
    ] = None,
    retries: Annotated[int, typer.Option(help="Regenerate an image at most so often; the best one is kept.")] = 2,
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Measure robustness and diversity for the manifest.")
    ] = True,
    record: Annotated[
        bool, typer.Option("--record", help="Animate and plot the path of each target's first image.")
    ] = False,
    precision: Annotated[
        str, typer.Option(help="Precision of the network's products on a GPU: float32, bf16 or fp16.")
    ] = "float32",
    compile_network: Annotated[
        bool, typer.Option("--compile", help="Run the network under torch.compile, for long jobs on GPUs.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Start again, and remove another job's images.")] = False,
    checkpoint: Checkpoint = None,
    device_name: Device = "auto",
    json_out: Json = False,
) -> None:
    """Turn embeddings back into faces. A job that was stopped resumes with the same command."""
    from arcinvert.distributed import process_group
    from arcinvert.inversion.reconstruct import Settings

    settings = Settings(
        variations=variations,
        preset=preset,
        steps=steps,
        seed=seed,
        batch_size=batch_size,
        min_cosine=min_cosine,
        retries=retries,
        record=record,
        pose=pose,
        expression=expression,
        precision=precision,
        compile=compile_network,
    )
    if (embedding is None) == (identity is None):
        raise UsageError("expected either --embedding or --identity")
    if objective not in ("cosine", "margin") or (objective == "margin" and identity is None):
        raise UsageError(f"expected --objective cosine, or margin with --identity, got {objective!r}")
    with process_group() as ranks:
        if ranks.rank:
            log_to_stderr(quiet=True)  # only the first process prints messages
            state.quiet = True
        if ranks.world_size > 1 and embedding == "-":
            raise UsageError("expected a file of embeddings, got standard input, which several processes cannot share")
        manifest = _run(
            settings, ranks, embedding, identity, objective, array, out, report, force, checkpoint, device_name
        )
    if ranks.rank:
        return
    if json_out:
        answer(json.dumps(manifest))
    else:
        cosine = "none finite" if manifest["mean_cosine"] is None else f"mean cosine {manifest['mean_cosine']:.3f}"
        answer(f"{len(manifest['results'])} faces in {out}, {cosine}")
    for count, what in ((manifest["diverged"], "diverged"), (manifest["below_min_cosine"], "stay below --min-cosine")):
        if count:
            log.info(f"{count} reconstructions {what}; the manifest marks them")
    if manifest["diverged"] or manifest["below_min_cosine"]:
        raise typer.Exit(4)


def _run(
    settings: "Settings",
    ranks: "Processes",
    embedding: str | None,
    identity: str | None,
    objective_name: str,
    array: str | None,
    out: Path,
    report: bool,
    force: bool,
    checkpoint: Path | None,
    device_name: str,
) -> dict[str, Any]:
    import torch

    from arcinvert.embeddings import class_centers, read_embeddings
    from arcinvert.inversion.reconstruct import Objective, margin_objective
    from arcinvert.recognizer import default_checkpoint
    from arcinvert.synthesis.job import synthesize

    recognizer = open_recognizer(checkpoint, device_name, ranks)
    objective: Objective | None = None
    if embedding is None:
        classes, path = _classes(identity or ""), checkpoint or default_checkpoint()
        found = class_centers(path, classes)
        if objective_name == "margin":
            centers = torch.from_numpy(class_centers(path).rows).to(recognizer.device)
            objective = margin_objective(centers, classes)
    else:
        found = read_embeddings(embedding, size=recognizer.embedding_size, key=array)
    if note := found.note():
        log.info(note)
    if dropped := recognizer.dropped_channels():
        log.info(f"{dropped} BatchNorm channels store no usable statistics and are left out")
    return synthesize(
        open_inverter(recognizer, ranks),  # bad input is refused before a calibration
        torch.from_numpy(found.rows),
        out,
        settings=settings,
        report=report,
        force=force,
        ranks=ranks,
        objective=objective,
        objective_name="" if objective_name == "cosine" else objective_name,
        progress=ProgressLine("step"),
    )


def _classes(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"expected numbers of identities such as 17,42, got {text!r}") from None
