"""The target beside a picture: what the attacked recognizer and the others say of the two."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from arcinvert.app.reconstruction import Made
from arcinvert.app.state import Studio
from arcinvert.audit.judges import Threshold
from arcinvert.audit.rates import MEAN, RANDOM, control_faces
from arcinvert.faceprior.prior import FacePrior
from arcinvert.progress import Progress, silent

RECONSTRUCTION, MEAN_FACE, SOMEBODY = "the reconstruction", "the mean face", "another person"
SHOWN = (RECONSTRUCTION, MEAN_FACE, SOMEBODY)


@dataclass(frozen=True)
class Opinion:
    """What one recognizer says.

    Attributes:
        name: of it.
        attacked: whether the picture was made against it, so that its word counts little.
        cosine: None where it cannot say: it cannot read another's embedding, and there is no photo.
        thresholds: where it accepts; () if none are known.
    """

    name: str
    attacked: bool
    cosine: float | None
    thresholds: tuple[Threshold, ...]


def controls(prior: FacePrior, seed: int = 0) -> Mapping[str, Tensor]:
    """The mean face and somebody of the face prior, each (112, 112, 3) uint8."""
    found = control_faces(prior, 1, seed)
    return {MEAN_FACE: found[MEAN][0], SOMEBODY: found[RANDOM][0]}


def own_opinion(studio: Studio, made: Made, picture: Tensor) -> Opinion:
    """Of the attacked recognizer, to the embedding itself."""
    seen = studio.recognizer(made.name).embed(picture.permute(2, 0, 1)[None])[0].cpu()
    return Opinion(made.name, True, float(seen @ made.target.embedding), studio.thresholds(made.name))


def opinions(
    studio: Studio, made: Made, picture: Tensor, judges: Sequence[str], *, progress: Progress = silent
) -> Iterator[Opinion]:
    """Of the attacked recognizer, then of each of ``judges``, whose thresholds are fixed on first use.

    Args:
        studio: knows the recognizers.
        made: what was inverted, and the photo behind it.
        picture: (112, 112, 3) uint8 that is held against the target.
        judges: names of recognizers.
        progress: told while thresholds are fixed.
    """
    if not studio.thresholds(made.name):
        studio.judge(made.name, progress=progress)
    yield own_opinion(studio, made, picture)
    for name in judges:
        if name == made.name:
            continue
        judge = studio.judge(name, progress=progress)
        cosine = None
        if made.target.crop is not None:
            first, second = judge.embed(torch.stack([made.target.crop, picture]))
            cosine = float(first @ second)
        yield Opinion(name, False, cosine, judge.thresholds)
