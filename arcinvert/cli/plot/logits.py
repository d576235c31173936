"""``arcinvert plot logits``: target logits of the margins."""

from dataclasses import astuple
from typing import Annotated

import typer

from arcinvert.cli.common import Json
from arcinvert.cli.plot.common import Out, done

NAME = "logits"


def main(
    out: Out,
    scale: Annotated[float, typer.Option("--scale", min=0.001, help="Multiply every cosine by this factor s.")] = 64.0,
    json_out: Json = False,
) -> None:
    """Logit of the right class over its angle, from 20 to 100 degrees, for all margins.

    Examples:
        arcinvert plot logits -o logits.png
    """
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
    done(NAME, out, [{"name": name, "margins": astuple(margin)} for name, margin in MARGINS.items()], json_out)
