"""Distillation: a student network learns to predict the embeddings of a finished recognizer, its teacher.

The loss of Deng et al. 2021 (section on LFR2019): the margin loss, which is the trainer's, plus
``1.0 * |x - t|^2 + 0.1 * KL(p || q)``, where x and t are the unit embeddings of student and teacher, and
p and q the softmax of the teacher's and the student's cosines to the classes. The loss functions are
pure and give one value per image.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, normalize

from arcinvert.calibration.auxiliary import default_auxiliary
from arcinvert.distributed import SINGLE_PROCESS, Processes
from arcinvert.errors import InputError, UsageError
from arcinvert.recognizer import Recognizer
from arcinvert.training.config import TrainConfig
from arcinvert.training.data.faces import FaceDataset, to_float
from arcinvert.training.losses import class_products

AUXILIARY = "auxiliary"
"""The name of the shipped auxiliary recognizer as a teacher."""


@dataclass(frozen=True, eq=False)
class Teacher:
    """A frozen recognizer of any kind, in the image range of training."""

    recognizer: Recognizer

    @classmethod
    def load(cls, path: Path | str, device: torch.device | str = "cpu") -> "Teacher":
        """Any file that :meth:`Recognizer.load` opens, ONNX and other foreign formats included; or ``auxiliary``.

        Raises:
            CheckpointError: see there.
        """
        known = default_auxiliary(device) if str(path) == AUXILIARY else Recognizer.load(path, device=device)
        return cls(known)

    @property
    def embedding_size(self) -> int:
        """D of its embeddings."""
        return self.recognizer.embedding_size

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, 112, 112) RGB in [-1, 1] -> (B, D), unit norm, without gradient."""
        return self.recognizer.trace((images.to(self.recognizer.device).float() + 1) / 2).embedding

    def class_centers(self, batches: Iterable[tuple[Tensor, Tensor]], classes: int) -> Tensor:
        """The normalized mean embedding of each class, with one batch in memory at a time.

        Args:
            batches: images (B, 3, 112, 112) in [-1, 1] and labels (B,) below ``classes``.
            classes: N.

        Returns:
            (N, D), unit norm.

        Raises:
            InputError: a class without an image, or one whose embeddings cancel each other.
        """
        sums = torch.zeros(classes, self.embedding_size, device=self.recognizer.device)
        for images, labels in batches:
            sums.index_add_(0, labels.to(sums.device), self.embed(images))
        if without := int((sums.norm(dim=1) < 1e-6).sum()):
            raise InputError(f"expected images of every class for the teacher, {without} of {classes} have no center")
        return normalize(sums)


@dataclass(frozen=True, eq=False)
class Distillation:
    """A teacher, its class centers, and the weights of the loss.

    Attributes:
        teacher: the recognizer.
        centers: (N, D), unit norm; (0, D) if ``kl`` is 0.
        projection_head: maps the student's embedding to the teacher's size; None: they have the same.
        scale, l2, kl: see :func:`distillation_loss`.
    """

    teacher: Teacher
    centers: Tensor
    projection_head: nn.Linear | None
    scale: float
    l2: float
    kl: float

    @classmethod
    def of(
        cls, config: TrainConfig, faces: FaceDataset, device: torch.device, processes: Processes = SINGLE_PROCESS
    ) -> "Distillation | None":
        """The distillation of a configuration, None if it has no teacher; the teacher embeds every image once.

        Raises:
            CheckpointError: a file that is not a recognizer.
            UsageError: settings that need one process, or all classes.
        """
        chosen = config.distillation
        if not chosen.teacher:
            return None
        if chosen.kl and (processes.world_size > 1 or config.sampling < 1):
            raise UsageError("distillation.kl needs one process and sampling = 1; expected it to be 0 otherwise")
        teacher = Teacher.load(chosen.teacher, device)
        projection = None
        if teacher.embedding_size != config.embedding_size:
            if processes.world_size > 1:
                raise UsageError(
                    f"expected one process, or embedding_size = {teacher.embedding_size}, which is the teacher's, "
                    f"got {config.embedding_size}"
                )
            projection = nn.Linear(config.embedding_size, teacher.embedding_size, device=device)
            nn.init.zeros_(projection.weight)
            nn.init.zeros_(projection.bias)
        centers = torch.empty(0, teacher.embedding_size, device=device)
        if chosen.kl:
            centers = teacher.class_centers(image_batches(faces, device), len(faces.identities))
        return cls(teacher, centers, projection, config.scale, chosen.l2, chosen.kl)

    def loss(self, images: Tensor, features: Tensor, centers: Tensor) -> Tensor:
        """The loss of each image, (B,).

        Args:
            images: (B, 3, 112, 112) in [-1, 1], the student's input.
            features: (B, D), the student's output, of any norm.
            centers: (N, D) or (N, K, D), the student's class centers, of any norm.
        """
        with torch.autocast(images.device.type, enabled=False):
            student, teacher = normalize(features.float()), self.teacher.embed(images)
            predicted = student if self.projection_head is None else self.projection_head(student)
            if not self.kl:
                none = student.new_zeros(len(student), 1)
                return distillation_loss(predicted, teacher, none, none, l2=self.l2, kl=0.0)
            mine = class_products(student, normalize(centers.float(), dim=-1))
            its = class_products(teacher, self.centers)
            return distillation_loss(predicted, teacher, mine, its, scale=self.scale, l2=self.l2, kl=self.kl)


def image_batches(faces: FaceDataset, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """All images in order, without augmentation: (B, 3, 112, 112) in [-1, 1], and (B,) labels."""
    for start in range(0, len(faces), 64):
        rows = slice(start, start + 64)
        yield to_float(faces.images[rows].to(device)).mul_(2).sub_(1), faces.labels[rows].to(device)


def embedding_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """``|x - t|^2`` of unit embeddings (B, D): (B,) in [0, 4]."""
    return (student - teacher).square().sum(1)


def similarity_divergence(student: Tensor, teacher: Tensor, *, scale: float = 64.0) -> Tensor:
    """``KL(p || q)``: the divergence of the student's class similarities from the teacher's.

    Args:
        student: (B, N) cosines to the classes: q is the softmax of ``scale`` times these.
        teacher: (B, N), likewise: p.
        scale: the inverse temperature of both.

    Returns:
        (B,) of at least 0, natural logarithm.
    """
    log_q, log_p = log_softmax(scale * student, 1), log_softmax(scale * teacher, 1)
    return (log_p.exp() * (log_p - log_q)).sum(1)


def distillation_loss(
    student: Tensor,
    teacher: Tensor,
    student_similarities: Tensor,
    teacher_similarities: Tensor,
    *,
    scale: float = 64.0,
    l2: float = 1.0,
    kl: float = 0.1,
) -> Tensor:
    """The loss of distillation per image: ``l2 * |x - t|^2 + kl * KL(p || q)``.

    Args:
        student, teacher: (B, D), unit norm.
        student_similarities: (B, N) cosines of the student to its class centers, without margin
            (:func:`~arcinvert.training.losses.class_products`).
        teacher_similarities: (B, N) cosines of the teacher to the same classes (:meth:`Teacher.class_centers`).
        scale: see :func:`similarity_divergence`.
        l2, kl: the weights; the paper's by default.

    Returns:
        (B,), float32 at least. Only the student gets a gradient.

    Raises:
        UsageError: student and teacher differ in shape.
    """
    for mine, its in ((student, teacher), (student_similarities, teacher_similarities)):
        if mine.shape != its.shape:
            raise UsageError(f"expected {tuple(its.shape)} of the student, as of the teacher, got {tuple(mine.shape)}")
    kind = torch.promote_types(student.dtype, torch.float32)
    distance = embedding_distance(student.to(kind), teacher.detach().to(kind))
    divergence = similarity_divergence(
        student_similarities.to(kind), teacher_similarities.detach().to(kind), scale=scale
    )
    return l2 * distance + kl * divergence
