"""On a GPU the engine and the trainer do what they do on a CPU; `scripts/gpu_check` runs these."""

import dataclasses
import tempfile
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from arcinvert.inversion.reconstruct import Settings
from arcinvert.inversion.tracer import Tracer
from arcinvert.inverter import Inverter
from arcinvert.recognizer import Recognizer
from arcinvert.training.config import TrainConfig
from arcinvert.training.data.faces import FaceDataset
from arcinvert.training.run import Run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use; scripts/gpu_check"),
]


@pytest.fixture(autouse=True)
def full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of 24-bit mantissas, as on a CPU."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture(scope="module")
def inverter() -> Inverter:
    return Inverter.load(device="cuda")


@pytest.fixture(scope="module")
def target(inverter: Inverter) -> Tensor:
    with torch.no_grad():
        face = inverter.prior.render(inverter.prior.latents(range(40, 42)))
    return inverter.recognizer.embed(face.clamp(0, 1)).cpu()


def cosines(inverter: Inverter, target: Tensor, **settings: object) -> Tensor:
    found = [one for part in inverter.reconstruct_batches(target, Settings(**settings)) for one in part]  # type: ignore[arg-type]
    assert not any(one.diverged for one in found)
    return torch.tensor([one.cosine for one in found])


def test_an_image_has_the_embedding_that_the_cpu_gives_it() -> None:
    images = torch.rand(4, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    here, there = Recognizer.load(device="cpu"), Recognizer.load(device="cuda")
    torch.testing.assert_close(there.embed(images).cpu(), here.embed(images), atol=2e-5, rtol=0)


def test_an_inversion_reaches_the_cosine_that_it_reaches_on_the_cpu(inverter: Inverter, target: Tensor) -> None:
    expected = cosines(Inverter.load(device="cpu"), target, steps=20)
    torch.testing.assert_close(cosines(inverter, target, steps=20), expected, atol=0.01, rtol=0)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_reaches_about_the_same_cosine(inverter: Inverter, target: Tensor, precision: str) -> None:
    plain = cosines(inverter, target, steps=20)
    assert (cosines(inverter, target, steps=20, precision=precision) - plain).min() > -0.02


def test_the_same_seed_gives_nearly_the_same_image(inverter: Inverter, target: Tensor) -> None:
    # Not the same bytes: sums of a GPU are in no fixed order.
    first, second = (inverter.reconstruct(target, steps=5, batch_size=2) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert (one.pixels.float() - other.pixels.float()).abs().mean() < 0.5


def test_a_step_of_the_network_can_be_captured(inverter: Inverter) -> None:
    images = torch.rand(2, 3, 112, 112, device="cuda", requires_grad=True)
    recognizer, tracer = inverter.recognizer, Tracer()

    def gradient() -> Tensor:
        return torch.autograd.grad(tracer.trace(recognizer, images, (), None).embedding.sum(), images)[0]

    expected = gradient()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        gradient()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = gradient()
    graph.replay()
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


@pytest.fixture
def one_process() -> object:
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group("nccl", store=dist.FileStore(str(Path(folder) / "store"), 1), rank=0, world_size=1)
        yield None
        dist.destroy_process_group()


@pytest.mark.parametrize("amp", ["none", "bf16", "fp16"])
def test_data_parallel_training_is_that_of_the_network(one_process: object, amp: str) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (16, 112, 112, 3), dtype=torch.uint8, generator=generator)
    names = tuple(map(str, range(4)))
    faces = FaceDataset(tuple(map(str, range(16))), images, torch.arange(16) % 4, names, "")
    config = TrainConfig(width=0.25, embedding_size=16, batch_size=8, epochs=2, amp=amp, lr=0.01)
    losses = []
    for parallel in (False, True):
        run = Run(faces, dataclasses.replace(config), torch.device("cuda"))
        if parallel:
            run.forward = torch.nn.parallel.DistributedDataParallel(run.network, device_ids=[0])
        losses.append([run.advance(*batch).loss for batch in run.batches()])
        run.forward = run.network
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
