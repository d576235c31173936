"""``arcinvert eval distance``: kernel distance and Fréchet distance between two sets of faces."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from arcinvert.cli.common import (
    Checkpoint,
    Device,
    Json,
    ProgressLine,
    answer,
    answer_json,
    device,
    log,
    skipped_entries,
)
from arcinvert.cli.eval.common import BatchSize
from arcinvert.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arcinvert.evaluation.generation.distances import Features, SetDistance


NAME = "distance"


def main(
    first: Annotated[
        Path, typer.Argument(metavar="DIR_A", help="The first folder of aligned 112x112 crops, at any depth.")
    ],
    second: Annotated[Path, typer.Argument(metavar="DIR_B", help="The second folder.")],
    features: Annotated[
        str, typer.Option("--features", metavar="recognizer|inception", help="Compare features of this network.")
    ] = "recognizer",
    weights: Annotated[
        Path | None,
        typer.Option("--weights", help="Read the weights of Inception from this file; default: from torch's cache."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed the random subsets of KID.")] = 0,
    batch_size: BatchSize = 32,
    checkpoint: Checkpoint = None,
    device_name: Device = "auto",
    json_out: Json = False,
) -> None:
    """Kernel distance (KID) and, with at least 2,048 images per set, Frechet distance; FID with Inception only.

    Examples:
        arcinvert eval distance faces/ generated/
    """
    from arcinvert.evaluation.embedding import embed_files
    from arcinvert.evaluation.generation.distances import compare_sets, cosine_features
    from arcinvert.evaluation.generation.inception import open_inception
    from arcinvert.evaluation.readers.crops import files_digest, read_crop
    from arcinvert.faces.listing import report_skipped
    from arcinvert.faces.photos import list_photos
    from arcinvert.recognizer import Recognizer

    if features not in ("recognizer", "inception"):
        raise UsageError(f"expected --features recognizer or inception, got {features!r}")
    if features == "recognizer" and weights is not None:
        raise UsageError("expected --features inception with --weights")
    if features == "inception" and checkpoint is not None:
        log.info(f"the checkpoint {str(checkpoint)!r} is not used: the features are those of Inception")
    sets: list[list[Path]] = []
    rows: Sequence[Features]
    skipped: list[tuple[str, str]] = []
    for folder in (first, second):
        if not folder.is_dir():
            raise InputError(f"expected a folder of pictures, got {str(folder)!r}")
        good = []
        images, others = list_photos([folder])
        skipped += others
        for path in images:
            try:
                read_crop(path)
                good.append(path)
            except InputError as error:
                skipped.append((str(path), str(error)))
        sets.append(good)
    if min(map(len, sets)) < 4:
        raise InputError(f"expected at least 4 pictures in each set, got {len(sets[0])} and {len(sets[1])}")
    where, progress = device(device_name), ProgressLine("picture")
    if features == "inception":
        network = open_inception(weights, device=where)
        rows = [network.features(files, batch_size=batch_size, progress=progress) for files in sets]
        space, digest, published = network.space, network.digest, network.published
    else:
        recognizer = Recognizer.load(checkpoint, device=where)
        rows = [embed_files(recognizer, files, batch_size=batch_size, progress=progress) for files in sets]
        space, digest, published = Path(checkpoint or "default").stem, recognizer.digest, False
        rows = [cosine_features(part) for part in rows]
    found = compare_sets(*rows, space=space, fid=published, seed=seed)
    read = [
        {"folder": str(folder), "pictures": len(files), "sha256": files_digest(folder, files)}
        for folder, files in zip((first, second), sets, strict=True)
    ]
    if json_out:
        answer_json(
            "eval distance",
            {**asdict(found), "network_sha256": digest, "sets": read, "skipped": skipped_entries(skipped)},
        )
    else:
        _table(found)
        for entry in read:
            answer(f"{entry['folder']}: {entry['pictures']} pictures, sha256 {str(entry['sha256'])[:12]}")
        answer(f"features: {space}, {found.dimension}-d, sha256 {digest[:12]}")
    report_skipped(skipped)
    if skipped:
        raise typer.Exit(4)


def _table(found: "SetDistance") -> None:
    kid = found.kid
    counts = f"{found.first} and {found.second}"
    answer("| distance | value | n |")
    answer("|---|---|---|")
    answer(
        f"| KID in the feature space of {found.space} ({kid.subsets} subsets of {kid.size}) "
        f"| {kid.mean:.6f} ± {kid.std:.6f} | {counts} |"
    )
    value = found.reason if found.frechet is None else f"{found.frechet:.4f}"
    answer(f"| {found.frechet_name} | {value} | {counts} |")
