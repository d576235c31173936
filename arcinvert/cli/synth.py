"""``arcinvert synth``: embeddings become faces."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arcinvert.cli.common import Checkpoint, Device, Json, ProgressLine, answer, device, say, state
from arcinvert.errors import UsageError

if TYPE_CHECKING:
    from arcinvert.distributed import Processes
    from arcinvert.synthesis.reconstruct import SynthConfig

NAME = "synth"


def main(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the pictures, sheet.png and manifest.json.")],
    embedding: Annotated[
        str | None, typer.Option("--embedding", "-e", help="An .npy or .npz of (D,) or (N, D); - is stdin.")
    ] = None,
    identity: Annotated[
        str | None, typer.Option(help="Or classes of a checkpoint that keeps its centers, such as 17,42.")
    ] = None,
    match: Annotated[
        str, typer.Option(help="With --identity: cosine to the center, or the margin loss over all classes.")
    ] = "cosine",
    variations: Annotated[int, typer.Option(help="Pictures per target.")] = 1,
    steps: Annotated[int | None, typer.Option(help="Optimization steps; default: the preset's own.")] = None,
    preset: Annotated[str, typer.Option(help="See `arcinvert presets`.")] = "fast",
    seed: Annotated[int, typer.Option(help="Same seed, same machine: same bytes.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Pictures optimized together.")] = 8,
    pose: Annotated[str | None, typer.Option(help="frontal, left, right, up, down, or YAW,PITCH in degrees.")] = None,
    expression: Annotated[str | None, typer.Option(help="neutral or smile.")] = None,
    key: Annotated[str | None, typer.Option(help="Which array of an .npz.")] = None,
    min_cosine: Annotated[float | None, typer.Option(help="Make a picture less like its target again.")] = None,
    retries: Annotated[int, typer.Option(help="How often at most; the best is kept.")] = 2,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Test each picture, for the manifest.")] = True,
    record: Annotated[bool, typer.Option("--record", help="Animate and plot the path of each first picture.")] = False,
    precision: Annotated[str, typer.Option(help="float32, bf16 or fp16: how a GPU computes the network.")] = "float32",
    compile_network: Annotated[bool, typer.Option("--compile", help="torch.compile: for long runs on GPUs.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Start anew, and remove another run's pictures.")] = False,
    checkpoint: Checkpoint = None,
    device_name: Device = "auto",
    json_out: Json = False,
) -> None:
    """Turn embeddings back into faces. The same command again goes on where it was stopped."""
    from arcinvert.distributed import process_group
    from arcinvert.synthesis.reconstruct import SynthConfig

    config = SynthConfig(
        variations=variations,
        preset=preset,
        steps=steps,
        seed=seed,
        batch_size=batch_size,
        min_cosine=min_cosine,
        retries=retries,
        report=report,
        record=record,
        pose=pose,
        expression=expression,
        precision=precision,
        compile=compile_network,
    )
    if (embedding is None) == (identity is None):
        raise UsageError("expected either --embedding or --identity")
    if match not in ("cosine", "margin") or (match == "margin" and identity is None):
        raise UsageError(f"expected --match cosine, or margin with --identity, got {match!r}")
    with process_group() as ranks:
        if ranks.rank:
            state.quiet = True  # the first process speaks for all
        if ranks.world_size > 1 and embedding == "-":
            raise UsageError("expected a file of embeddings, got standard input, which several processes cannot share")
        manifest = _run(config, ranks, embedding, identity, match, key, out, force, checkpoint, device_name)
    if ranks.rank:
        return
    if json_out:
        answer(json.dumps(manifest))
    else:
        cosine = "none finite" if manifest["mean_cosine"] is None else f"mean cosine {manifest['mean_cosine']:.3f}"
        answer(f"{len(manifest['results'])} faces in {out}, {cosine}")
    for count, what in ((manifest["diverged"], "diverged"), (manifest["below_min_cosine"], "stay below --min-cosine")):
        if count:
            say(f"{count} reconstructions {what}; the manifest marks them")
    if manifest["diverged"] or manifest["below_min_cosine"]:
        raise typer.Exit(4)


def _run(
    config: "SynthConfig",
    ranks: "Processes",
    embedding: str | None,
    identity: str | None,
    match: str,
    key: str | None,
    out: Path,
    force: bool,
    checkpoint: Path | None,
    device_name: str,
) -> dict[str, Any]:
    import torch

    from arcinvert.calibration.calibration import calibration_for
    from arcinvert.embeddings import class_centers, read_embeddings
    from arcinvert.faceprior.prior import default_face_prior
    from arcinvert.recognizer import Recognizer, default_checkpoint
    from arcinvert.synthesis.job import synthesize
    from arcinvert.synthesis.reconstruct import Objective, margin_objective, targets_tensor

    chosen = device(device_name)
    if ranks.world_size > 1 and chosen == torch.device("cuda"):
        chosen = torch.device("cuda", ranks.local_rank % torch.cuda.device_count())
    recognizer = Recognizer.load(checkpoint, device=chosen)
    objective: Objective | None = None
    if embedding is None:
        classes, path = _classes(identity or ""), checkpoint or default_checkpoint()
        found = class_centers(path, classes)
        if match == "margin":
            objective = margin_objective(targets_tensor(class_centers(path).rows).to(chosen), classes)
    else:
        found = read_embeddings(embedding, size=recognizer.embedding_size, key=key)
    if note := found.note():
        say(note)
    if dropped := recognizer.dropped_channels():
        say(f"{dropped} BatchNorm channels store no usable statistics and are left out")
    prior = default_face_prior().to(recognizer.device)
    if ranks.rank:
        ranks.wait()  # for the first process to calibrate, if that is to be done
    calibration = calibration_for(recognizer, prior, say=say, progress=ProgressLine("face"))
    if not ranks.rank:
        ranks.wait()
    return synthesize(
        recognizer,
        targets_tensor(found.rows),
        prior,
        calibration,
        out,
        config=config,
        force=force,
        ranks=ranks,
        objective=objective,
        about="" if match == "cosine" else match,
        say=say,
        progress=ProgressLine("step"),
    )


def _classes(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"expected numbers of identities such as 17,42, got {text!r}") from None
