"""What the measurements of the loop share: an inverter of any network, its bare pass, and seconds of a step."""

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from arcinvert.backbones import build_backbone
from arcinvert.calibration.fit import calibrate
from arcinvert.checkpoint import build_network
from arcinvert.faceprior.prior import default_face_prior
from arcinvert.formats import open_checkpoint
from arcinvert.inversion.invert import View, invert
from arcinvert.inversion.presets import Attack, preset_of
from arcinvert.inversion.reconstruct import generator_for
from arcinvert.inversion.tracer import Tracer
from arcinvert.inverter import Inverter
from arcinvert.preprocessing import Preprocessing
from arcinvert.recognizer import Recognizer, default_checkpoint

FACES = 12
"""Of the calibration of any network but the default one: its quality does not matter here."""


class VisionTransformer(nn.Module):
    """ViT-S on crops: 196 patches of 8 pixels, 384 numbers each, 12 layers of 6 heads, a linear layer over them all."""

    def __init__(self, embedding_size: int, width: int = 384, layers: int = 12, heads: int = 6, patch: int = 8) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        count = (112 // patch) ** 2
        self.places = nn.Parameter(0.02 * torch.randn(1, count, width))
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(count * width, embedding_size)

    def forward(self, pixels: Tensor) -> Tensor:
        tokens = self.patches(pixels).flatten(2).transpose(1, 2) + self.places
        return self.head(self.encoder(tokens).flatten(1))  # type: ignore[no-any-return]


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(work: Callable[[], object], repeats: int, device: torch.device, *, warm: int = 3) -> float:
    """Seconds of one call, after ``warm`` calls."""
    for _ in range(warm):
        work()
    synchronize(device)
    started = time.perf_counter()
    for _ in range(repeats):
        work()
    synchronize(device)
    return (time.perf_counter() - started) / repeats


def plain_network(name: str) -> nn.Module:
    """A network as its file describes it, not frozen.

    Args:
        name: ``default``; the path of a checkpoint; or with random weights ``vit-s``, or a backbone (``iresnet50``,
            ``iresnet18:0.25`` with a width).
    """
    if name == "default" or Path(name).is_file():
        path = default_checkpoint() if name == "default" else Path(name)
        return build_network(open_checkpoint(path), str(path))
    torch.manual_seed(0)
    if name == "vit-s":
        return VisionTransformer(512)
    backbone, _, width = name.partition(":")
    return build_backbone(backbone, embedding_size=512, width=float(width or 1))


def inverter_of(name: str, device: torch.device) -> Inverter:
    """The inverter of such a network; any but the default one is calibrated on a few faces."""
    if name == "default":
        return Inverter.load(device=device)
    prior = default_face_prior()
    few = prior.first(FACES).to(device)
    if Path(name).is_file():
        recognizer = Recognizer.load(name, device=device)
    else:
        recognizer = Recognizer(plain_network(name), Preprocessing(), embedding_size=512).to(device)
    return Inverter(recognizer, few, calibrate(recognizer, few, batch_size=4))


def bare_pass(name: str, batch: int, device: torch.device, precision: torch.dtype) -> Callable[[], None]:
    """The network as its checkpoint describes it, frozen, in channels-last memory: forward, and backward to pixels."""
    network = plain_network(name).eval().requires_grad_(False)
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.rand(batch, 3, 112, 112, device=device).contiguous(memory_format=torch.channels_last)
    images.requires_grad_(True)

    def run() -> None:
        images.grad = None
        with torch.autocast(device.type, precision, enabled=precision != torch.float32):
            features = network(images)
        features.float().sum().backward()

    return run


def attack_of(inverter: Inverter, batch: int, tracer: Tracer | None = None) -> Attack:
    """An attack on random targets, one image each."""
    size = inverter.recognizer.embedding_size
    target = normalize(torch.randn(batch, size, generator=torch.Generator().manual_seed(0))).to(
        inverter.recognizer.device
    )
    variation = torch.zeros(batch, dtype=torch.int64, device=target.device)
    return inverter.attack(target, variation, [generator_for(0, i, 0) for i in range(batch)], tracer=tracer)


@dataclass(frozen=True)
class StepSeconds:
    """Mean seconds of a step, as often as each view takes one; and of those through the attacked network alone.

    ``cpu_whole`` and ``cpu_own`` are processor seconds of all threads.
    """

    whole: float
    own: float
    cpu_whole: float
    cpu_own: float


def step_seconds(
    inverter: Inverter, batch: int, steps: int, *, preset: str = "fast", tracer: Tracer | None = None, warm: int = 1
) -> StepSeconds:
    """What users run: steps of a preset on random targets, the first ``warm`` ones apart."""
    attack = attack_of(inverter, batch, tracer)
    device = attack.target.device
    ticks: list[tuple[float, float]] = []

    def tick(step: int, steps: int, text: str) -> None:
        synchronize(device)
        ticks.append((time.perf_counter(), time.process_time()))

    recipe = preset_of(preset, steps + warm).recipe(attack)
    invert(recipe, target=attack.target, generators=attack.generators, progress=tick)
    views = [recipe.view(step) for step in range(warm, steps + warm)]
    taken = list(itertools.pairwise(ticks))[warm - 1 :]
    whole, own = _means([after[0] - before[0] for before, after in taken], views, recipe.views[0])
    cpu_whole, cpu_own = _means([after[1] - before[1] for before, after in taken], views, recipe.views[0])
    return StepSeconds(whole, own, cpu_whole, cpu_own)


def _means(seconds: Sequence[float], views: Sequence[View], attacked: View) -> tuple[float, float]:
    """Mean of a step, in which a view counts as often as its turns come, and of the attacked network's own."""
    own = statistics.mean([s for s, view in zip(seconds, views, strict=True) if view is attacked] or seconds)
    others = {id(view): view for view in views if view is not attacked}
    whole = own
    for view in others.values():
        turns = [s for s, other in zip(seconds, views, strict=True) if other is view]
        whole += (statistics.mean(turns) - own) / view.every
    return whole, own


@contextmanager
def peak_bytes(device: torch.device) -> Iterator[list[int]]:
    """A list that holds, in the end, the peak: bytes of tensors on a GPU; of this whole process on a CPU (Linux)."""
    found: list[int] = []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the peak is the present size from here on
    yield found
    if device.type == "cuda":
        found.append(torch.cuda.max_memory_allocated(device))
    else:
        with suppress(OSError, StopIteration):
            lines = Path("/proc/self/status").read_text().splitlines()
            found.append(next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM")))


def faces_targets(inverter: Inverter, count: int) -> Tensor:
    """(count, D): embeddings of synthetic faces of the prior, spread over all of them, by the attacked network."""
    rows = torch.linspace(0, len(inverter.prior) - 1, count).round().long().tolist()
    return inverter.recognizer.embed(inverter.prior.pictures(rows).permute(0, 3, 1, 2))
