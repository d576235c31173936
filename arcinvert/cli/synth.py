"""``arcinvert synth``: embeddings become faces."""

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
    log,
    log_to_stderr,
    open_inverter,
    open_recognizer,
    state,
)
from arcinvert.cli.store_options import Column, Table
from arcinvert.cli.targets import Source, numbers
from arcinvert.errors import UsageError

if TYPE_CHECKING:
    from arcinvert.distributed import Processes
    from arcinvert.inversion.reconstruct import Settings
    from arcinvert.synthesis.credentials import ContentCredentials

NAME = "synth"


def main(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the images, sheet.png and manifest.json.")],
    embedding: Annotated[
        str | None,
        typer.Option("--embedding", "-e", help="An .npy or .npz file of (D,) or (N, D) embeddings; - reads stdin."),
    ] = None,
    photo: Annotated[
        list[Path] | None,
        typer.Option(
            "--photo", help="Embed the largest face of this photo (or of each in a folder) first; may be repeated."
        ),
    ] = None,
    store: Annotated[
        str | None, typer.Option("--store", help="Take the targets from this store of embeddings; needs --row.")
    ] = None,
    row: Annotated[
        str | None, typer.Option("--row", metavar="N,...", help="Rows of --store to reconstruct, counted from 0.")
    ] = None,
    identity: Annotated[
        str | None,
        typer.Option(help="Reconstruct these classes, such as 17,42, of a checkpoint that keeps its centers."),
    ] = None,
    array: Annotated[str | None, typer.Option(help="Array to read, if an .npz has several.")] = None,
    aligned: Annotated[bool, typer.Option("--aligned", help="Take the photos as aligned 112x112 crops.")] = False,
    table: Table = None,
    column: Column = None,
    objective: Annotated[
        str, typer.Option(help="With --identity: match the center by cosine, or by the margin loss over all classes.")
    ] = "cosine",
    variations: Annotated[int, typer.Option(help="Number of images for each target.")] = 1,
    steps: Annotated[int | None, typer.Option(help="Optimization steps; the default is the preset's own.")] = None,
    preset: Annotated[str, typer.Option(help="Recipe of the inversion; `arcinvert presets` lists them.")] = "fast",
    seed: Annotated[
        int,
        typer.Option(
            help="Seed of every draw; the same command gives the same bytes on a machine. Another --variations or "
            "--batch-size changes the rounding; with --batch-size 1, --variations changes no byte."
        ),
    ] = 0,
    batch_size: Annotated[int, typer.Option(help="Number of images that are optimized together.")] = 8,
    pose: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|YAW,PITCH",
            help="Pose of the face: frontal, left, right, up, down, or two numbers in degrees, such as --pose=-20,5.",
        ),
    ] = None,
    expression: Annotated[str | None, typer.Option(help="Expression of the face: neutral or smile.")] = None,
    light: Annotated[str | None, typer.Option(help="Light on the face: even, left or right.")] = None,
    vary: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT,...",
            help="What the variations differ in, out of pose, expression, light, color (also hair and background), "
            "age; the default is all but age.",
        ),
    ] = None,
    alike: Annotated[
        bool, typer.Option("--alike", help="Variations alike: only what the embedding leaves open.")
    ] = False,
    size: Annotated[
        int,
        typer.Option(
            "--image-size",
            "--size",
            help="Width and height of the images: 112, 224, or 448 (drawn by `fast` and `best`, resampled by others).",
        ),
    ] = 224,
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
    c2pa_certificate: Annotated[
        Path | None,
        typer.Option(
            metavar="CHAIN.pem",
            help="Sign the images as C2PA content credentials with this certificate chain, the signing one first.",
        ),
    ] = None,
    c2pa_key: Annotated[
        Path | None,
        typer.Option(metavar="KEY.pem", help="Private key of --c2pa-certificate, without a password."),
    ] = None,
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
    """Turn embeddings back into faces. A job that was stopped resumes with the same command.

    Examples:
        arcinvert synth -e target.npy -o out --variations 4
        arcinvert synth --photo photo.jpg -o out
        arcinvert synth --store people.parquet --row 17 -o out --checkpoint net.onnx
        arcinvert synth -e target.npy -o out --pose=-20,5 --expression smile --light left
        arcinvert synth -e target.npy -o out --variations 6 --vary pose,age
        arcinvert synth -e target.npy -o out --c2pa-certificate chain.pem --c2pa-key key.pem
    """
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
        light=light,
        vary=_varied(vary, alike),
        size=size,
        precision=precision,
        compile=compile_network,
    )
    source = Source(embedding, tuple(photo or ()), store, identity, array, aligned, row, table, column)
    source.check()
    if objective not in ("cosine", "margin") or (objective == "margin" and identity is None):
        raise UsageError(f"expected --objective cosine, or margin with --identity, got {objective!r}")
    credentials = _credentials(c2pa_certificate, c2pa_key)
    with process_group() as ranks:
        if ranks.rank:
            log_to_stderr(quiet=True)  # only the first process prints messages
            state.quiet = True
        if ranks.world_size > 1 and embedding == "-":
            raise UsageError("expected a file of embeddings, got standard input, which several processes cannot share")
        manifest, skipped = _run(
            settings, ranks, source, objective, out, report, force, checkpoint, device_name, credentials
        )
    if ranks.rank:
        return
    if json_out:
        answer_json(NAME, manifest)
    else:
        cosine = "none finite" if manifest["mean_cosine"] is None else f"mean cosine {manifest['mean_cosine']:.3f}"
        answer(f"{len(manifest['results'])} faces in {out}, {cosine}")
    for count, what in ((manifest["diverged"], "diverged"), (manifest["below_min_cosine"], "stay below --min-cosine")):
        if count:
            log.info(f"{count} reconstructions {what}; the manifest marks them")
    if skipped or manifest["diverged"] or manifest["below_min_cosine"]:
        raise typer.Exit(4)


def _varied(vary: str | None, alike: bool) -> tuple[str, ...]:
    from arcinvert.inversion.controls import VARIED

    if alike and vary is not None:
        raise UsageError("expected --vary or --alike, got both")
    if alike:
        return ()
    return VARIED if vary is None else tuple(part.strip() for part in vary.split(","))


def _credentials(certificate: Path | None, key: Path | None) -> "ContentCredentials | None":
    if (certificate is None) != (key is None):
        raise UsageError("expected --c2pa-certificate and --c2pa-key, got one of them alone")
    if certificate is None or key is None:
        return None
    from arcinvert.synthesis.credentials import ContentCredentials

    return ContentCredentials.load(certificate, key)


def _run(
    settings: "Settings",
    ranks: "Processes",
    source: Source,
    objective_name: str,
    out: Path,
    report: bool,
    force: bool,
    checkpoint: Path | None,
    device_name: str,
    credentials: "ContentCredentials | None",
) -> tuple[dict[str, Any], int]:
    """The manifest, and how many photos could not be used."""
    import torch

    from arcinvert.embeddings import class_centers
    from arcinvert.inversion.reconstruct import Objective, margin_objective
    from arcinvert.recognizer import default_checkpoint
    from arcinvert.synthesis.job import synthesize

    recognizer = open_recognizer(checkpoint, device_name, ranks)
    objective: Objective | None = None
    path = checkpoint or default_checkpoint()
    found, skipped = source.read(recognizer, path)
    if objective_name == "margin":
        centers = torch.from_numpy(class_centers(path).rows).to(recognizer.device)
        objective = margin_objective(centers, numbers("--identity", source.identity or ""))
    if note := found.note():
        log.info(note)
    if dropped := recognizer.dropped_channels():
        log.info(f"{dropped} BatchNorm channels store no usable statistics and are left out")
    manifest = synthesize(
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
        credentials=credentials,
    )
    return manifest, skipped
