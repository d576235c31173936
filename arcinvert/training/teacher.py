"""What a run has from finished recognizers: the weights that it begins with, and what a teacher tells it meanwhile.

The loss is :mod:`arcinvert.training.distillation`'s.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from arcinvert.calibration.regression import Accumulators
from arcinvert.checkpoint import build_network, load_strictly
from arcinvert.distributed import ALONE, Ranks
from arcinvert.errors import UsageError
from arcinvert.formats import open_checkpoint
from arcinvert.recognizer import Recognizer
from arcinvert.training.config import TrainConfig
from arcinvert.training.data.faces import Faces, to_float
from arcinvert.training.distillation import Teacher, distillation_loss
from arcinvert.training.heads import MarginHead
from arcinvert.training.losses import class_products

READOUT_RIDGE = 1.0
"""Of the first readout, in units of one face: less fits pictures as they are better, but not their augmented views."""


@dataclass(frozen=True, eq=False)
class Lesson:
    """A teacher and where the classes lie for it.

    Attributes:
        teacher: the recognizer that is followed.
        centers: (N, D), unit norm; (0, D) if the similarities are not looked at.
        readout: what of the student's embedding is compared with the teacher's; None: the embedding itself.
        scale, l2, kl: see :func:`~arcinvert.training.distillation.distillation_loss`.
    """

    teacher: Teacher
    centers: Tensor
    readout: nn.Linear | None
    scale: float
    l2: float
    kl: float

    def loss(self, images: Tensor, features: Tensor, centers: Tensor) -> Tensor:
        """What is added to the margin loss of these images, (B,).

        Args:
            images: (B, 3, 112, 112) in [-1, 1], as the student was given them.
            features: (B, D) of the student, of any norm.
            centers: (N, D) or (N, K, D), the student's class centers, of any norm.
        """
        with torch.autocast(images.device.type, enabled=False):
            student, teacher = normalize(features.float()), self.teacher.embed(images)
            told = student if self.readout is None else self.readout(student)
            if not self.kl:
                none = student.new_zeros(len(student), 1)
                return distillation_loss(told, teacher, none, none, l2=self.l2, kl=0.0)
            mine = class_products(student, normalize(centers.float(), dim=-1))
            its = class_products(teacher, self.centers)
            return distillation_loss(told, teacher, mine, its, scale=self.scale, l2=self.l2, kl=self.kl)


def begin_from(
    path: str, network: nn.Module, head: MarginHead, lesson: Lesson | None, faces: Faces, device: torch.device
) -> None:
    """Begin with a checkpoint: its weights, its mean embedding of each class, and what of the teacher they tell.

    Args:
        path: of the checkpoint.
        network: gets its weights.
        head: each class center is moved to the mean of the class's embeddings.
        lesson: its readout, if it has one, becomes the ridge regression from these embeddings to the teacher's.
        faces: all pictures, seen once.
        device: of the network.

    Raises:
        CheckpointError: a file that is no recognizer, or one of another network.
    """
    stored = open_checkpoint(path)
    load_strictly(network, build_network(stored, path).state_dict(), repr(path))
    first = Teacher(Recognizer.from_checkpoint(stored, path).to(device))
    readout = None if lesson is None else lesson.readout
    total = torch.zeros(len(faces.identities), first.embedding_size, device=device)
    both: Accumulators | None = None
    for images, labels in _shown(faces, device):
        mine = first.embed(images)
        total.index_add_(0, labels, mine)
        if lesson is not None and readout is not None:
            part = Accumulators.of(mine.cpu(), lesson.teacher.embed(images).cpu())
            both = part if both is None else both + part
    own = normalize(total)[head.part.start : head.part.stop]
    with torch.no_grad():
        head.centers.add_(own if head.centers.ndim == 2 else own[:, None])
        if readout is not None and both is not None:
            fit = both.solve(READOUT_RIDGE)
            readout.weight.copy_(fit[:-1].T)
            readout.bias.copy_(fit[-1])


def _shown(faces: Faces, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Every picture once, in batches: (B, 3, 112, 112) in [-1, 1], and labels (B,)."""
    for start in range(0, len(faces), 64):
        rows = slice(start, start + 64)
        yield to_float(faces.images[rows].to(device)).mul_(2).sub_(1), faces.labels[rows].to(device)


def open_lesson(config: TrainConfig, faces: Faces, device: torch.device, ranks: Ranks = ALONE) -> Lesson | None:
    """The teacher that ``config`` names, which looks at every picture once; None if it names none.

    Raises:
        CheckpointError: a file that is no recognizer.
        UsageError: the similarities to all classes are not to be had, or its embeddings are of another size and
            there are several ranks.
    """
    if not config.teacher:
        return None
    if config.distill_kl and (ranks.world > 1 or config.sampling < 1):
        raise UsageError("the similarities to all classes need one rank and sampling = 1; else set distill_kl = 0")
    teacher = Teacher.load(config.teacher, device)
    readout = None
    if teacher.embedding_size != config.embedding_size:
        if ranks.world > 1:
            raise UsageError(
                f"expected one rank, or embedding_size = {teacher.embedding_size}, which is the teacher's, "
                f"got {config.embedding_size}"
            )
        readout = nn.Linear(config.embedding_size, teacher.embedding_size, device=device)
        nn.init.zeros_(readout.weight)
        nn.init.zeros_(readout.bias)
    if config.distill_kl:
        centers = teacher.class_centers(_shown(faces, device), len(faces.identities))
    else:
        centers = torch.empty(0, teacher.embedding_size, device=device)
    return Lesson(teacher, centers, readout, config.scale, config.distill_l2, config.distill_kl)
