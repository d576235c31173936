"""``arcinvert plot toy``: eight identities on a circle, with softmax and with ArcFace."""

from pathlib import Path
from typing import Annotated

import typer

from arcinvert.cli.common import Json
from arcinvert.cli.plot.common import Out, done

NAME = "toy"


def main(
    out: Out,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Use the first eight of DIR/<identity>/<image>; default: random features."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed the features and the training.")] = 0,
    json_out: Json = False,
) -> None:
    """Eight identities in two dimensions, trained in seconds with softmax and with ArcFace.

    Examples:
        arcinvert plot toy -o toy.png --seed 3
    """
    from arcinvert.cli.plot import toy_experiment as experiment
    from arcinvert.evaluation import plots
    from arcinvert.training.margins import MARGINS

    plots.check_output(out)
    features, labels = experiment.random_features(seed) if data is None else experiment.face_features(data)
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
    done(NAME, out, read, json_out)
