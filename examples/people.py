"""Faces for the examples: a folder ``<identity>/<picture>`` of the user's, or one made of the shipped face prior."""

from pathlib import Path

import torch

from arcinvert import Inverter, write_png


def people(data: Path | None, folder: Path, count: int, pictures: int = 10) -> Path:
    """``data``; or without it ``folder``, with up to ``pictures`` renderings of each of ``count`` synthetic people.

    The shipped networks were trained on these people, so figures measured on them flatter.
    """
    if data is not None:
        return data
    prior = Inverter.load().prior
    for label in torch.unique(prior.labels)[-count:].tolist():
        rows = (prior.labels == label).nonzero()[:pictures, 0]
        (folder / f"{label:05d}").mkdir(parents=True, exist_ok=True)
        with torch.no_grad():
            images = (prior.render(prior.codes[rows] * prior.code_scale).clamp(0, 1) * 255).round().to(torch.uint8)
        for number, image in enumerate(images.permute(0, 2, 3, 1)):
            write_png(folder / f"{label:05d}" / f"{number:02d}.png", image)
    return folder
