"""Parts of `gpu.py`: a step as a CUDA graph, and where its time goes."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from gpu_speed import Bench
from stepping import attack_of, seconds_of, step_seconds, synchronize
from torch import Tensor

from arcinvert.inversion.presets import preset_of
from arcinvert.inversion.reconstruct import PRECISIONS
from arcinvert.inversion.tracer import Tracer
from arcinvert.inversion.transforms import Jitter, warped


def profiles(bench: Bench) -> list[dict[str, Any]]:
    """Where the time of ten steps goes: the kernels and operators that take most of it."""
    found = []
    for name, batch in (
        ("default", 1),
        ("default", bench.best("default")[0]),
        (bench.large[0], 1 if bench.quick else 64),
    ):
        inverter, precision = bench.inverter(name), bench.best(name)[1]
        tracer = Tracer(PRECISIONS[precision])
        step_seconds(inverter, batch, 2, tracer=tracer)
        started = time.perf_counter()
        with torch.profiler.profile() as profile:
            step_seconds(inverter, batch, bench.steps(name), tracer=tracer)
        averages = profile.key_averages()
        kernels = [one for one in averages if str(one.device_type).endswith("CUDA")]
        top = sorted(kernels, key=lambda one: one.self_device_time_total)
        ops = sorted(averages, key=lambda one: one.self_cpu_time_total)
        found.append(
            {
                "network": name,
                "batch": batch,
                "precision": precision,
                "steps": bench.steps(name) + 1,
                "seconds": time.perf_counter() - started,
                "device_ms": sum(one.self_device_time_total for one in kernels) / 1e3,
                "kernels": [[one.key[:90], one.count, one.self_device_time_total / 1e3] for one in reversed(top[-25:])],
                "operators": [[one.key[:60], one.count, one.self_cpu_time_total / 1e3] for one in reversed(ops[-15:])],
            }
        )
    return found


def graphs(bench: Bench) -> list[dict[str, Any]]:
    """A step through the attacked network, Adam included: as the loop runs it, without waiting, and as a CUDA graph."""
    rows = []
    cases = [("default", batch) for batch in ((1,) if bench.quick else (1, 8, 64, 256))]
    cases += [(name, 8) for name in bench.large[:1] if not bench.quick]
    for name, batch in cases:
        for precision in ("float32",) if bench.quick else ("float32", "bf16"):
            if bench.left() < 3:
                return rows
            rows.append(_graph(bench, name, batch, precision))
    return rows


def _graph(bench: Bench, name: str, batch: int, precision: str) -> dict[str, Any]:
    device, inverter, repeats = bench.device, bench.inverter(name), 2 if bench.quick else 40
    tracer = Tracer(PRECISIONS[precision])
    loop = step_seconds(inverter, batch, bench.steps(name), tracer=tracer, warm=1 if bench.quick else 4)

    def prepare() -> Callable[[], Tensor]:
        attack = attack_of(inverter, batch, tracer)
        recipe = preset_of("fast").recipe(attack)
        face = recipe.parameterization
        places = Jitter(flip=0).draw(attack.generators, (112, 112)).to(device)
        view = replace(recipe.views[0], transform=lambda images, generators: warped(images, places))
        parameters = list(face.parameters())
        optimizer = torch.optim.Adam(
            parameters, lr=recipe.lr, betas=recipe.betas, foreach=False, capturable=device.type == "cuda"
        )

        def step() -> Tensor:
            optimizer.zero_grad(set_to_none=True)
            total, _, embedding = view.costs(face(), face.latent(), attack.generators, 0)
            (total.sum() * tracer.scale).backward()  # type: ignore[no-untyped-call]
            for parameter in parameters:
                if tracer.scale != 1 and parameter.grad is not None:
                    parameter.grad /= tracer.scale
            optimizer.step()
            return (embedding * attack.target).sum(1)

        return step

    eager = prepare()
    plain = seconds_of(eager, repeats, device)
    row = {
        "network": name,
        "batch": batch,
        "precision": precision,
        "loop_ms": loop.own * 1e3,
        "without_waiting_ms": plain * 1e3,
        "cosine_plain": float(eager().mean()),
    }
    if device.type != "cuda":
        return row | {"reason": "CUDA graphs need a GPU"}
    step = prepare()
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        cosine = step()
    replayed = seconds_of(graph.replay, repeats, device, warm=0)
    graph.replay()
    synchronize(device)
    row |= {"graph_ms": replayed * 1e3, "cosine_graph": float(cosine.mean()), "gain": loop.own / replayed}
    return row
