"""``arcinvert plot``: the pictures of the papers, PNG or SVG."""

import json
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from arcinvert.cli.common import Json, answer, printable, say
from arcinvert.errors import InputError, UsageError

if TYPE_CHECKING:
    from arcinvert.evaluation.metrics import Scored
    from arcinvert.evaluation.readers.stored_embeddings import Stored

NAME = "plot"
MAX_ROWS = 10_000
"""Embeddings of one file: all their pairs, 50 million, are held in memory."""

app = typer.Typer(help="Draw ROC, DET, CMC, angles, margins and the toy example.", no_args_is_help=True)

Embeddings = Annotated[list[Path], typer.Option("--embeddings", help="A .npy of (N, D); may be given several times.")]
Labels = Annotated[list[Path], typer.Option("--labels", help="A label a line, one file for each --embeddings.")]
Names = Annotated[
    list[str] | None, typer.Option("--name", help="What to call each; default: the name of the .npy file.")
]
Out = Annotated[Path, typer.Option("--out", "-o", help="The .png or .svg to write.")]


@app.command()
def roc(embeddings: Embeddings, labels: Labels, out: Out, name: Names = None, json_out: Json = False) -> None:
    """True accept rate over false match rate, all pairs, with 95 % intervals."""
    from arcinvert.evaluation import plots

    plots.check_output(out)
    scores, read = _scores(embeddings, labels, name)
    plots.roc(out, scores)
    _done(out, read, json_out)


@app.command()
def det(embeddings: Embeddings, labels: Labels, out: Out, name: Names = None, json_out: Json = False) -> None:
    """False non-match rate over false match rate, all pairs, with 95 % intervals."""
    from arcinvert.evaluation import plots

    plots.check_output(out)
    scores, read = _scores(embeddings, labels, name)
    plots.det(out, scores)
    _done(out, read, json_out)


@app.command()
def angles(embeddings: Embeddings, labels: Labels, out: Out, name: Names = None, json_out: Json = False) -> None:
    """Histograms of the angles of genuine and impostor pairs, in degrees."""
    from arcinvert.evaluation import plots

    plots.check_output(out)
    scores, read = _scores(embeddings, labels, name)
    plots.angles(out, scores)
    _done(out, read, json_out)


@app.command()
def cmc(
    embeddings: Embeddings,
    labels: Labels,
    out: Out,
    name: Names = None,
    max_rank: Annotated[int, typer.Option("--max-rank", min=1, help="Where the curve ends.")] = 20,
    json_out: Json = False,
) -> None:
    """Share of probes found by each rank: the first row of an identity is the gallery, its others are probes."""
    import numpy as np

    from arcinvert.evaluation import plots
    from arcinvert.evaluation.protocols.identification import identify

    plots.check_output(out)
    rates, read = {}, []
    for title, stored in _stored(embeddings, labels, name):
        gallery = np.unique(stored.labels, return_index=True)[1]
        probes = np.setdiff1d(np.arange(len(stored.rows)), gallery)
        if not len(probes) or len(gallery) < 2:
            raise InputError(f"expected two identities and a second picture of one, {title!r} has none")
        found = identify(
            stored.rows[gallery],
            stored.rows[probes],
            gallery_labels=stored.labels[gallery],
            probe_labels=stored.labels[probes],
            max_rank=max_rank,
        )
        if found.cmc is None:
            raise InputError(f"no curve for {title!r}: {found.note}")
        rates[title] = (found.cmc, found.mated)
        read.append({"name": title, "files": stored.files, "gallery": len(gallery), "probes": len(probes)})
    plots.cmc(out, rates)
    _done(out, read, json_out)


@app.command()
def logits(
    out: Out,
    scale: Annotated[float, typer.Option("--scale", min=0.001, help="s, the factor on every cosine.")] = 64.0,
    json_out: Json = False,
) -> None:
    """Logit of the right class over its angle, from 20 to 100 degrees, for all margins."""
    import torch

    from arcinvert.evaluation import plots
    from arcinvert.training.margins import MARGINS

    plots.check_output(out)
    angle = torch.linspace(20, 100, 321, dtype=torch.float64)
    curves = {
        f"{name} ({margin.m1:g}, {margin.m2:g}, {margin.m3:g})": (
            angle.numpy(),
            (scale * margin(torch.cos(torch.deg2rad(angle)))).numpy(),
        )
        for name, margin in MARGINS.items()
    }
    plots.logits(out, curves, scale=scale)
    _done(out, [{"name": name, "margins": astuple(margin)} for name, margin in MARGINS.items()], json_out)


@app.command()
def toy(
    out: Out,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="DIR/<identity>/<picture>: its first eight; default: made-up features."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    json_out: Json = False,
) -> None:
    """Eight identities in two dimensions, trained in seconds with softmax and with ArcFace."""
    from arcinvert.cli.plot import toy_experiment as experiment
    from arcinvert.evaluation import plots
    from arcinvert.training.margins import MARGINS

    plots.check_output(out)
    features, labels = experiment.made_up_features(seed) if data is None else experiment.face_features(data)
    panels, read = {}, []
    for name, title in (("softmax", "softmax"), ("arcface", "ArcFace")):
        points, centers, right = experiment.embed_in_two_dimensions(features, labels, MARGINS[name], seed=seed)
        within, gap = experiment.spread(points, labels.numpy(), centers)
        panels[f"{title}: {within:.1f}° to the own center on average,\n{gap:.1f}° between neighbors at least"] = (
            points,
            labels.numpy(),
            centers,
        )
        read.append({"name": name, "rows": len(points), "right": right, "to_center": within, "least_gap": gap})
    plots.toy(out, panels)
    _done(out, read, json_out)


def _stored(embeddings: list[Path], labels: list[Path], names: list[str] | None) -> "Iterator[tuple[str, Stored]]":
    """The files with their titles, which are all different."""
    from arcinvert.evaluation.readers.stored_embeddings import read_stored

    if len(embeddings) != len(labels) or len(names or labels) != len(labels):
        raise UsageError(
            f"expected a --labels (and, if any, a --name) for each --embeddings, got {len(embeddings)} --embeddings, "
            f"{len(labels)} --labels and {len(names or [])} --name"
        )
    titles = [printable(title) for title in names or [path.stem for path in embeddings]]
    if len(set(titles)) < len(titles):
        raise UsageError(f"expected different names, got {', '.join(titles)}; give --name for each")
    for title, rows, owners in zip(titles, embeddings, labels, strict=True):
        stored = read_stored(rows, owners)
        if stored.note:
            say(f"{title}: {stored.note}")
        yield title, stored


def _scores(
    embeddings: list[Path], labels: list[Path], names: list[str] | None
) -> tuple[dict[str, "Scored"], list[dict[str, object]]]:
    """Title -> all pairs; and what was read."""
    from arcinvert.evaluation.metrics import score_pairs

    scores, read = {}, []
    for title, stored in _stored(embeddings, labels, names):
        if len(stored.rows) > MAX_ROWS:
            raise InputError(
                f"expected at most {MAX_ROWS:,} embeddings for a picture, {title!r} has {len(stored.rows):,}"
            )
        scores[title] = found = score_pairs(stored.rows, stored.labels)
        pairs = {"genuine_pairs": len(found.genuine), "impostor_pairs": len(found.impostor)}
        read.append({"name": title, "files": stored.files, **pairs})
    return scores, read


def _done(out: Path, read: object, json_out: bool) -> None:
    answer(json.dumps({"out": str(out), "curves": read}) if json_out else f"{out}: written")
