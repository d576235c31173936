"""Two photos, each reconstructed from its numbers alone, and each reconstruction compared with the other photo."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from arcinvert.app.comparison import strictest
from arcinvert.app.state import AppState
from arcinvert.app.targets import Target
from arcinvert.app.task import Task
from arcinvert.audit.thresholds import Threshold
from arcinvert.errors import InputError

PHOTOS = "photo 1 and photo 2"
FIRST, SECOND = "face from photo 1, and photo 2", "face from photo 2, and photo 1"


@dataclass(frozen=True)
class Answer:
    """How one recognizer judges the pairs.

    Attributes:
        name: of the recognizer.
        attacked: whether the faces were made for it, so that its answer proves little.
        cosines: of the two photos, and of each face with the photo that it was not made from.
        thresholds: from which it accepts.
    """

    name: str
    attacked: bool
    cosines: Mapping[str, float]
    thresholds: tuple[Threshold, ...]

    @property
    def accepted(self) -> dict[str, Threshold | None]:
        """The strictest threshold that each pair passes."""
        return {pair: strictest(cosine, self.thresholds) for pair, cosine in self.cosines.items()}


@dataclass(frozen=True, eq=False)
class BothWays:
    """What two photos became.

    Attributes:
        faces: (2, 112, 112, 3) uint8, of the two photos in turn, as recognizers see them.
        pictures: (2, S, S, 3) uint8, the same as they were drawn.
        answers: of the recognizers, the attacked one first.
    """

    faces: Tensor
    pictures: Tensor
    answers: tuple[Answer, ...]


def both_ways(
    state: AppState, name: str, judges: Sequence[str], photos: tuple[Target, Target], steps: int, task: Task[BothWays]
) -> BothWays:
    """Reconstruct both photos from their numbers, and let every recognizer compare.

    Args:
        state: has the recognizers.
        name: of the one that is inverted.
        judges: names of others; their thresholds are fixed on first use.
        photos: the targets; each has a crop.
        steps: of each inversion.
        task: that this is the work of.

    Raises:
        InputError: a target is no photo.
        Canceled: the task was canceled.
    """
    crops = [photo.crop for photo in photos if photo.crop is not None]
    if len(crops) < 2:
        raise InputError("expected two photos, got a file of numbers")
    inverter = state.inverter(name, task.progress)
    found = inverter.reconstruct(
        torch.stack([photo.embedding for photo in photos]), steps=steps, progress=task.progress
    )
    made = [face.reconstructions[0] for face in found]
    faces = torch.stack([one.pixels for one in made])
    compared = torch.stack([*crops, *faces]).permute(0, 3, 1, 2)
    answers = []
    for title in dict.fromkeys([name, *judges]):
        if not state.thresholds(title):
            state.judge(title, progress=task.progress)
        first, second, made_first, made_second = state.recognizer(title).embed(compared).cpu()
        pairs = {PHOTOS: (first, second), FIRST: (made_first, second), SECOND: (made_second, first)}
        cosines = {pair: float(one @ other) for pair, (one, other) in pairs.items()}
        answers.append(Answer(title, title == name, cosines, state.thresholds(title)))
    return BothWays(faces, torch.stack([one.picture for one in made]), tuple(answers))
