"""Parts of `gpu.py`: parity with the CPU, and faces a second by network, batch, precision and compilation."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from stepping import bare_pass, faces_targets, inverter_of, peak_bytes, seconds_of, step_seconds, synchronize
from torch import Tensor

from arcinvert.backbones.frozen import FrozenBatchNorm
from arcinvert.inversion.memory import out_of_memory
from arcinvert.inversion.presets import preset_of
from arcinvert.inversion.reconstruct import PRECISIONS, Settings
from arcinvert.inversion.tracer import Tracer
from arcinvert.inverter import Inverter

STEPS = preset_of("fast").steps


@dataclass(frozen=True)
class Bench:
    """Where and how large.

    Attributes:
        device: that is measured.
        quick: the smallest sizes, to try the script itself.
        left: seconds of the time budget that are left.
        notes: what parts tell later ones.
    """

    device: torch.device
    quick: bool
    left: Callable[[], float]
    inverters: dict[str, Inverter] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    def inverter(self, name: str) -> Inverter:
        """The inverter of a network, made once."""
        if name not in self.inverters:
            self.inverters[name] = inverter_of(name, self.device)
        return self.inverters[name]

    @property
    def large(self) -> tuple[str, ...]:
        """The large networks, with random weights."""
        return ("iresnet18:0.25",) if self.quick else ("iresnet50", "iresnet100")

    def steps(self, name: str) -> int:
        """Steps that are timed, fewer of the large networks."""
        return 2 if self.quick else 20 if name == "default" else 10

    def best(self, name: str) -> tuple[int, str]:
        """Batch and precision with the most faces a second so far."""
        return self.notes.get(name, (1 if self.quick else 64, "float32"))  # type: ignore[no-any-return]


def parity(bench: Bench) -> dict[str, Any]:
    """The same inversions on the CPU and on the device: same targets, same seed."""
    count, steps = (1, 2) if bench.quick else (2, None)
    here = Inverter.load(device="cpu")
    targets = faces_targets(here, count)
    settings = Settings(steps=steps, batch_size=count)
    tf32 = torch.backends.cudnn.allow_tf32

    def run(inverter: Inverter) -> tuple[Tensor, Tensor, float]:
        started = time.perf_counter()
        (batch,) = inverter.reconstruct_batches(targets, settings)
        seconds = time.perf_counter() - started
        return torch.tensor([one.cosine for one in batch]), torch.stack([one.pixels for one in batch]), seconds

    cosine, pixels, seconds = run(here)
    found: dict[str, Any] = {"cosine_cpu": cosine.tolist(), "seconds_cpu": seconds}
    there = bench.inverter("default")
    run(there)  # warms up
    for name, allowed in (("float32", False), ("tf32", True)):
        torch.backends.cudnn.allow_tf32 = allowed
        try:
            other, shown, seconds = run(there)
            found[name] = {
                "cosine": other.tolist(),
                "difference": float((other - cosine).abs().max()),
                "mean_pixel_difference": float((shown.float() - pixels.float()).abs().mean()),
                "embedding_difference": float(
                    (there.recognizer.embed(pixels).cpu() - here.recognizer.embed(pixels)).abs().max()
                ),
                "seconds": seconds,
                "repeated_pixels_apart": float((run(there)[1].float() - shown.float()).abs().max()),
            }
        finally:
            torch.backends.cudnn.allow_tf32 = tf32
    return found


def sweep(bench: Bench, name: str, batches: tuple[int, ...], precisions: tuple[str, ...]) -> list[dict[str, Any]]:
    """Faces a second of ``fast`` by batch and precision, each beside the bare pass of the network at this batch."""
    rows: list[dict[str, Any]] = []
    for precision in precisions:
        for batch in batches:
            if bench.left() < 2:
                return rows
            try:
                row = pair(bench, name, batch, precision)
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                row = None
            if row is None:
                torch.cuda.empty_cache()
                rows.append({"network": name, "batch": batch, "precision": precision, "out_of_memory": True})
                break
            rows.append(row)
    found = [row for row in rows if "faces_per_second" in row]
    if found:
        best = max(found, key=lambda row: row["faces_per_second"])
        bench.notes[name] = best["batch"], best["precision"]
    return rows


def pair(bench: Bench, name: str, batch: int, precision: str, *, compile: bool = False) -> dict[str, Any]:
    kind = PRECISIONS[precision]
    started = time.perf_counter()
    with Tracer(kind, compile=compile) as tracer, peak_bytes(bench.device) as peak:
        step = step_seconds(bench.inverter(name), batch, bench.steps(name), tracer=tracer, warm=1 if bench.quick else 4)
        compiled = tracer.compile
    bare = bare_pass(name, batch, bench.device, kind)
    repeats = 2 if bench.quick else 10
    plain = seconds_of(bare, repeats, bench.device)
    return {
        "network": name,
        "batch": batch,
        "precision": precision,
        "compiled": compiled,
        "step_ms": step.whole * 1e3,
        "own_step_ms": step.own * 1e3,
        "bare_ms": plain * 1e3,
        "ratio": step.whole / plain,
        "ratio_own": step.own / plain,
        "faces_per_second": batch / (STEPS * step.whole),
        "peak_gb": peak[0] / 1e9 if peak else None,
        "seconds": time.perf_counter() - started,
    }


def default_sweep(bench: Bench) -> list[dict[str, Any]]:
    return sweep(bench, "default", (1, 2) if bench.quick else (1, 8, 64, 256, 1024), ("float32",))


def precisions(bench: Bench, names: tuple[str, ...] = tuple(PRECISIONS)) -> list[dict[str, Any]]:
    """Own cosine that each precision reaches on the same targets, and faces a second, report of each image included."""
    count = 2 if bench.quick else 128
    inverter = bench.inverter("default")
    targets = faces_targets(inverter, count).cpu()
    rows = []
    for precision in names:
        if bench.device.type == "cpu" and precision == "fp16":
            continue
        settings = Settings(precision=precision, batch_size=count, steps=2 if bench.quick else None)
        list(inverter.reconstruct_batches(targets, replace(settings, steps=2)))  # warms up
        started = time.perf_counter()
        (batch,) = inverter.reconstruct_batches(targets, settings)
        synchronize(bench.device)
        seconds = time.perf_counter() - started
        cosine = torch.tensor([one.cosine for one in batch])
        rows.append(
            {
                "precision": precision,
                "images": count,
                "cosine": float(cosine.mean()),
                "least": float(cosine.min()),
                "diverged": sum(one.diverged for one in batch),
                "faces_per_second": count / seconds,
            }
        )
    return rows


def low_precision_sweep(bench: Bench) -> list[dict[str, Any]]:
    """The default network in bf16 and fp16."""
    names = ("bf16",) if bench.device.type == "cpu" else ("bf16", "fp16")
    return sweep(bench, "default", (1,) if bench.quick else (256, 1024), names)


def large_networks(bench: Bench) -> list[dict[str, Any]]:
    """Networks with random weights."""
    rows = []
    for name in bench.large:
        rows += sweep(bench, name, (1,) if bench.quick else (8, 64, 256), ("float32", "bf16"))
    return rows


@contextmanager
def chosen_kernels() -> Iterator[None]:
    """cuDNN chooses its kernels by trial."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


@contextmanager
def half_norms() -> Iterator[None]:
    """A frozen BatchNorm layer leaves a map in its precision, where it otherwise makes it float32."""
    plain = FrozenBatchNorm.forward

    def forward(self: FrozenBatchNorm, x: Tensor) -> Tensor:
        return torch.addcmul(self.shift.to(x.dtype), x, self.scale.to(x.dtype))

    FrozenBatchNorm.forward = forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        FrozenBatchNorm.forward = plain  # type: ignore[method-assign]


def variants(bench: Bench) -> list[dict[str, Any]]:
    """Two changes that the package does not make, each on the default network and a large one at their best batch."""
    rows = []
    for name in ("default", *bench.large[:1]):
        batch, precision = bench.best(name)
        for what, changed in (("cuDNN by trial", chosen_kernels), ("half norms", half_norms)):
            kind = "bf16" if changed is half_norms else precision
            plain = pair(bench, name, batch, kind)
            with changed():
                row = pair(bench, name, batch, kind)
                cosines = precisions(bench, (kind,)) if name == "default" else []
            row |= {"variant": what, "plain_step_ms": plain["step_ms"], "gain": plain["step_ms"] / row["step_ms"]}
            rows.append(row | {"cosine": [one["cosine"] for one in cosines]})
    return rows


def compiled(name: str, bench: Bench) -> list[dict[str, Any]]:
    """torch.compile of the attacked network, beside the same without; the time to start is that of the first steps."""
    longest = bench.notes.get("compile seconds", 8.0)
    if bench.left() < 2 * longest or (bench.quick and name != "default"):
        return [{"network": name, "reason": f"not compiled: {bench.left():.0f} s were left"}]
    batch, precision = bench.best(name)
    plain = pair(bench, name, batch, precision)
    fast = pair(bench, name, batch, precision, compile=True)
    bench.notes["compile seconds"] = fast["seconds"]
    gain, start = plain["step_ms"] / fast["step_ms"], fast["seconds"] - plain["seconds"]
    return [fast | {"plain_step_ms": plain["step_ms"], "gain": gain, "start_seconds": start}]
