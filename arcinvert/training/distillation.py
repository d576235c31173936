"""Distillation: a student is held to what a finished recognizer, its teacher, says of the same images.

The loss of Deng et al. 2021 (section on LFR2019): the margin loss, which is the trainer's, plus
``1.0 * |x - t|^2 + 0.1 * KL(p || q)``, where x and t are the unit embeddings of student and teacher, and
p and q the softmax of the teacher's and the student's cosines to the classes. All functions are
pure and give one value per image.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, normalize

from arcinvert.calibration.auxiliary import default_auxiliary
from arcinvert.errors import InputError, UsageError
from arcinvert.recognizer import Recognizer

AUXILIARY = "auxiliary"
"""The name of the shipped auxiliary recognizer as a teacher."""


@dataclass(frozen=True, eq=False)
class Teacher:
    """A frozen recognizer of any kind; it says the same of an image whatever the student does."""

    recognizer: Recognizer

    @classmethod
    def load(cls, path: Path | str, device: torch.device | str = "cpu") -> "Teacher":
        """Whatever :meth:`Recognizer.load` opens, ONNX and other foreign formats included; or ``auxiliary``.

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
        """(B, 3, 112, 112) RGB in [-1, 1], as the trainer has them -> (B, D), unit norm, without gradient."""
        return self.recognizer.trace((images.to(self.recognizer.device).float() + 1) / 2).embedding

    def class_centers(self, batches: Iterable[tuple[Tensor, Tensor]], classes: int) -> Tensor:
        """Where the classes lie for the teacher: the mean of the embeddings of each, one batch in memory at a time.

        Args:
            batches: images (B, 3, 112, 112) in [-1, 1] and labels (B,) below ``classes``.
            classes: N.

        Returns:
            (N, D), unit norm.

        Raises:
            InputError: a class without a picture, or one whose embeddings cancel each other.
        """
        sums = torch.zeros(classes, self.embedding_size, device=self.recognizer.device)
        for images, labels in batches:
            sums.index_add_(0, labels.to(sums.device), self.embed(images))
        if without := int((sums.norm(dim=1) < 1e-6).sum()):
            raise InputError(f"expected pictures of every class for the teacher, {without} of {classes} have no center")
        return normalize(sums)


def embedding_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """``|x - t|^2`` of unit embeddings (B, D): (B,) in [0, 4]."""
    return (student - teacher).square().sum(1)


def similarity_divergence(student: Tensor, teacher: Tensor, *, scale: float = 64.0) -> Tensor:
    """``KL(p || q)``: how much the student's class similarities differ from the teacher's.

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
    """What distillation adds to the margin loss, per image: ``l2 * |x - t|^2 + kl * KL(p || q)``.

    Args:
        student, teacher: (B, D), unit norm.
        student_similarities: (B, N) cosines of the student to its class centers, without margin
            (:func:`~arcinvert.training.losses.class_products`).
        teacher_similarities: (B, N) cosines of the teacher to the same classes (:meth:`Teacher.class_centers`).
        scale: see :func:`similarity_divergence`.
        l2, kl: the weights; the paper's by default.

    Returns:
        (B,), float32 at least. The gradient goes to the student alone.

    Raises:
        UsageError: shapes of student and teacher that differ.
    """
    for mine, its in ((student, teacher), (student_similarities, teacher_similarities)):
        if mine.shape != its.shape:
            raise UsageError(f"expected {tuple(its.shape)} of the student, as of the teacher, got {tuple(mine.shape)}")
    kind = torch.promote_types(student.dtype, torch.float32)
    far = embedding_distance(student.to(kind), teacher.detach().to(kind))
    apart = similarity_divergence(student_similarities.to(kind), teacher_similarities.detach().to(kind), scale=scale)
    return l2 * far + kl * apart
