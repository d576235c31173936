"""What a student is told by its teacher while it trains; the loss is :mod:`arcinvert.training.distillation`'s."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from arcinvert.errors import UsageError
from arcinvert.ranks import ALONE, Ranks
from arcinvert.training.config import TrainConfig
from arcinvert.training.data import Faces, to_float
from arcinvert.training.distillation import Teacher, distillation_loss
from arcinvert.training.losses import class_products


@dataclass(frozen=True, eq=False)
class Lesson:
    """A teacher and where the classes lie for it.

    Attributes:
        teacher: the recogniser that is followed.
        centres: (N, D), unit norm; (0, D) if the similarities are not looked at.
        scale, l2, kl: see :func:`~arcinvert.training.distillation.distillation_loss`.
    """

    teacher: Teacher
    centres: Tensor
    scale: float
    l2: float
    kl: float

    def loss(self, images: Tensor, features: Tensor, centres: Tensor) -> Tensor:
        """What is added to the margin loss of these images, (B,).

        Args:
            images: (B, 3, 112, 112) in [-1, 1], as the student was given them.
            features: (B, D) of the student, of any norm.
            centres: (N, D) or (N, K, D), the student's class centres, of any norm.
        """
        with torch.autocast(images.device.type, enabled=False):
            student, teacher = normalize(features.float()), self.teacher.embed(images)
            if not self.kl:
                none = student.new_zeros(len(student), 1)
                return distillation_loss(student, teacher, none, none, l2=self.l2, kl=0.0)
            mine = class_products(student, normalize(centres.float(), dim=-1))
            its = class_products(teacher, self.centres)
            return distillation_loss(student, teacher, mine, its, scale=self.scale, l2=self.l2, kl=self.kl)


def open_lesson(config: TrainConfig, faces: Faces, device: torch.device, ranks: Ranks = ALONE) -> Lesson | None:
    """The teacher that ``config`` names, which looks at every picture once; None if it names none.

    Raises:
        CheckpointError: a file that is no recogniser.
        UsageError: its embeddings are of another size, or the similarities to all classes are not to be had.
    """
    if not config.teacher:
        return None
    if config.distill_kl and (ranks.world > 1 or config.sampling < 1):
        raise UsageError("the similarities to all classes need one rank and sampling = 1; else set distill_kl = 0")
    teacher = Teacher.load(Path(config.teacher), device)
    teacher.check(config.embedding_size)

    def shown() -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(faces), 64):
            rows = slice(start, start + 64)
            yield to_float(faces.images[rows].to(device)).mul_(2).sub_(1), faces.labels[rows].to(device)

    if config.distill_kl:
        centres = teacher.class_centres(shown(), len(faces.identities))
    else:
        centres = torch.empty(0, config.embedding_size, device=device)
    return Lesson(teacher, centres, config.scale, config.distill_l2, config.distill_kl)
