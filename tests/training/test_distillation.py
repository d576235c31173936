import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from arcinvert.calibration.auxiliary import default_auxiliary
from arcinvert.errors import CheckpointError, InputError, UsageError
from arcinvert.formats import open_checkpoint
from arcinvert.formats.export import export_onnx
from arcinvert.recognizer import Recognizer
from arcinvert.training.data.faces import load_faces, to_float
from arcinvert.training.distillation import (
    Teacher,
    distillation_loss,
    embedding_distance,
    similarity_divergence,
)
from arcinvert.training.losses import class_products


def unit(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


def slow_divergence(student: list[float], teacher: list[float], scale: float) -> float:
    p = [math.exp(scale * value) for value in teacher]
    q = [math.exp(scale * value) for value in student]
    return sum(a / sum(p) * math.log((a / sum(p)) / (b / sum(q))) for a, b in zip(p, q, strict=True))


def test_against_sums_written_out() -> None:
    x, t, w, v = unit(5, 8, seed=0), unit(5, 8, seed=1), unit(7, 8, seed=2), unit(7, 8, seed=3)
    student, teacher = class_products(x, w), class_products(t, v)
    found = distillation_loss(x, t, student, teacher, scale=6.0, l2=2.0, kl=0.3)
    for row in range(5):
        far = sum((float(a) - float(b)) ** 2 for a, b in zip(x[row], t[row], strict=True))
        apart = slow_divergence(student[row].tolist(), teacher[row].tolist(), 6.0)
        assert float(found[row]) == pytest.approx(2 * far + 0.3 * apart, rel=1e-12)
    paper = distillation_loss(x, t, student, teacher)
    both = embedding_distance(x, t) + 0.1 * similarity_divergence(student, teacher, scale=64.0)
    assert torch.allclose(paper, both)
    assert torch.allclose(embedding_distance(x, t), 2 - 2 * (x * t).sum(1))  # of unit vectors


def test_a_student_that_is_its_teacher_has_no_loss() -> None:
    x, w = unit(4, 8, seed=0), unit(6, 8, seed=1)
    cosines = class_products(x, w)
    assert distillation_loss(x, x, cosines, cosines).abs().max() < 1e-12
    assert (similarity_divergence(cosines.flip(1), cosines) > 0).all()


def test_the_divergence_is_not_symmetric_and_finite_for_large_logits() -> None:
    sure, unsure = torch.tensor([[1.0, -1.0, -1.0]]).double(), torch.tensor([[0.1, 0.0, 0.0]]).double()
    from_teacher = similarity_divergence(unsure, sure, scale=64.0)
    assert float(from_teacher) == pytest.approx(math.log(1 + 2 * math.exp(-6.4)), rel=1e-5)  # p is (1, 0, 0)
    assert float(similarity_divergence(sure, unsure, scale=64.0)) != pytest.approx(float(from_teacher))
    assert torch.isfinite(similarity_divergence(sure, -sure, scale=1000.0)).all()


def test_gradients() -> None:
    x, w = unit(3, 5, seed=0).requires_grad_(), unit(4, 5, seed=1).requires_grad_()
    t, v = unit(3, 5, seed=2).requires_grad_(), unit(4, 5, seed=3)
    teacher = class_products(t, v)

    def loss(x: Tensor, w: Tensor) -> Tensor:
        x, w = normalize(x), normalize(w)
        return distillation_loss(x, t.detach(), class_products(x, w), teacher.detach(), scale=8.0)

    assert torch.autograd.gradcheck(loss, (x, w))
    distillation_loss(x, t, class_products(x, w), teacher).sum().backward()
    assert x.grad is not None
    assert w.grad is not None
    assert t.grad is None  # the teacher gets no gradient


def test_half_precision_is_widened() -> None:
    x, t, w = unit(4, 8, seed=0), unit(4, 8, seed=1), unit(6, 8, seed=2)
    exact = distillation_loss(x, t, class_products(x, w), class_products(t, w))
    half = [value.bfloat16() for value in (x, t, class_products(x, w), class_products(t, w))]
    found = distillation_loss(*half)
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), exact, rtol=0.2, atol=0.1)


def test_shapes_that_differ() -> None:
    x, t, w = unit(4, 8, seed=0), unit(4, 6, seed=1), unit(5, 8, seed=2)
    with pytest.raises(UsageError, match=r"expected \(4, 6\) of the student, as of the teacher, got \(4, 8\)"):
        distillation_loss(x, t, class_products(x, w), class_products(x, w))
    with pytest.raises(UsageError, match=r"expected \(4, 3\)"):
        distillation_loss(x, x, class_products(x, w), class_products(x, w[:3]))


def test_a_teacher_embeds_as_its_recognizer(tiny_checkpoint: Path, tiny_faces: Path) -> None:
    teacher = Teacher.load(tiny_checkpoint)
    images = to_float(load_faces(tiny_faces, ["id0", "id3"]).images)
    found = teacher.embed(images * 2 - 1)
    assert torch.allclose(found, Recognizer.load(tiny_checkpoint).embed(images), atol=1e-5)
    assert not found.requires_grad
    assert not any(weight.requires_grad for weight in teacher.recognizer.network.parameters())
    with pytest.raises(CheckpointError):
        Teacher.load(tiny_faces / "id0" / "0.png")


def test_the_shipped_auxiliary_network_is_a_teacher(tiny_faces: Path) -> None:
    images = to_float(load_faces(tiny_faces, ["id0"]).images)
    teacher = Teacher.load("auxiliary")
    assert teacher.embedding_size == 128
    assert torch.equal(teacher.embed(images * 2 - 1), default_auxiliary().trace((images * 2 - 1 + 1) / 2).embedding)


def test_an_onnx_teacher(tiny_checkpoint: Path, tiny_faces: Path, tmp_path: Path) -> None:
    export_onnx(open_checkpoint(tiny_checkpoint), tmp_path / "teacher.onnx")
    images = to_float(load_faces(tiny_faces, ["id1"]).images) * 2 - 1
    foreign = Teacher.load(tmp_path / "teacher.onnx").embed(images)
    assert torch.allclose(foreign, Teacher.load(tiny_checkpoint).embed(images), atol=1e-4)


def test_class_centers_are_mean_embeddings(tiny_checkpoint: Path, tiny_faces: Path) -> None:
    teacher, faces = Teacher.load(tiny_checkpoint), load_faces(tiny_faces, ["id0", "id1", "id2"])
    images = to_float(faces.images) * 2 - 1
    order = torch.randperm(len(faces), generator=torch.Generator().manual_seed(0))
    found = teacher.class_centers(((images[rows], faces.labels[rows]) for rows in order.split(5)), 3)
    for label in range(3):
        each = torch.stack([teacher.embed(images[row : row + 1])[0] for row in range(len(faces))])
        mean = each[faces.labels == label].mean(0)
        assert torch.allclose(found[label], mean / mean.norm(), atol=1e-5)
    with pytest.raises(InputError, match="1 of 4 have no center"):
        teacher.class_centers([(images, faces.labels)], 4)


def test_distillation_pulls_a_student_to_its_teacher() -> None:
    """Plain gradient descent on free embeddings: the loss falls, and the embeddings arrive."""
    t, w = unit(6, 8, seed=0), unit(5, 8, seed=1)
    free = unit(6, 8, seed=2).requires_grad_()
    before = float((normalize(free.detach()) * t).sum(1).mean())
    for _ in range(200):
        x = normalize(free)
        loss = distillation_loss(x, t, class_products(x, w), class_products(t, w), scale=4.0).sum()
        (gradient,) = torch.autograd.grad(loss, free)
        free = (free.detach() - 0.1 * gradient).requires_grad_()
    assert before < 0.6
    assert float((normalize(free.detach()) * t).sum(1).min()) > 0.999
