"""The target compared with an image, by the attacked recognizer and by judges."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from arcinvert.app.reconstruction import FinishedReconstruction
from arcinvert.app.state import AppState
from arcinvert.audit.rates import MEAN, RANDOM, control_faces
from arcinvert.audit.thresholds import Threshold
from arcinvert.faceprior.prior import FacePrior
from arcinvert.progress import Progress, silent

RECONSTRUCTION, MEAN_FACE, OTHER_PERSON = "the reconstruction", "the mean face", "another person"
CHOICES = (RECONSTRUCTION, MEAN_FACE, OTHER_PERSON)


@dataclass(frozen=True)
class Comparison:
    """The answer of one recognizer.

    Attributes:
        name: of the recognizer.
        attacked: whether the image was optimized for it, so that its answer proves little.
        cosine: None for a judge without a photo: it cannot use the embedding of another recognizer.
        thresholds: from which it accepts; () if none are known.
    """

    name: str
    attacked: bool
    cosine: float | None
    thresholds: tuple[Threshold, ...]

    @property
    def door(self) -> Threshold | None:
        """The strictest threshold that the image passes; None without one, and for the attacked recognizer."""
        return None if self.attacked or self.cosine is None else strictest(self.cosine, self.thresholds)


def strictest(cosine: float, thresholds: Sequence[Threshold]) -> Threshold | None:
    """The threshold of the lowest false match rate that a cosine passes."""
    passed = [known for known in thresholds if known.threshold is not None and cosine >= known.threshold]
    return min(passed, key=lambda known: known.fmr, default=None)


def controls(prior: FacePrior, seed: int = 0) -> Mapping[str, Tensor]:
    """The mean face and a random face of the face prior, each (112, 112, 3) uint8."""
    faces = control_faces(prior, 1, seed)
    return {MEAN_FACE: faces[MEAN][0], OTHER_PERSON: faces[RANDOM][0]}


def compare(
    state: AppState,
    result: FinishedReconstruction,
    image: Tensor,
    judges: Sequence[str],
    *,
    progress: Progress = silent,
) -> Iterator[Comparison]:
    """Compare by the attacked recognizer, then by each of ``judges``, whose thresholds are fixed on first use.

    Args:
        state: has the recognizers.
        result: of the reconstruction, with its target.
        image: (112, 112, 3) uint8, compared with the target.
        judges: names of recognizers.
        progress: called while thresholds are fixed.
    """
    attacked = result.name
    if not state.thresholds(attacked):
        state.judge(attacked, progress=progress)
    embedding = state.recognizer(attacked).embed(image.permute(2, 0, 1)[None])[0].cpu()
    yield Comparison(attacked, True, float(embedding @ result.target.embedding), state.thresholds(attacked))
    for name in judges:
        if name == attacked:
            continue
        judge = state.judge(name, progress=progress)
        cosine = None
        if result.target.crop is not None:
            first, second = judge.embed(torch.stack([result.target.crop, image]))
            cosine = float(first @ second)
        yield Comparison(name, False, cosine, judge.thresholds)
