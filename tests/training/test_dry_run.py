"""The dry run: what it counts, and that its estimate of memory is what is used."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import TINY

from arcinvert.distributed import SINGLE_PROCESS, Processes
from arcinvert.errors import UsageError
from arcinvert.training.dry_run import dry_run, memory_estimate
from arcinvert.training.run import Run
from arcinvert.training.trainer import open_data


def test_it_counts_and_makes_a_step_and_writes_nothing(
    tiny_faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    caplog.set_level("INFO", "arcinvert")
    found = dry_run(tiny_faces, config=TINY)
    expected = {"images": 24, "identities": 4, "held_out": 2, "held_out_images": 12, "fewest_images": 6, "steps": 6}
    assert {name: found[name] for name in expected} == expected
    run = Run(open_data(tiny_faces, TINY)[0], TINY, torch.device("cpu"))
    told = run.advance(*run.data.at(0))
    assert (found["loss"], found["angle"]) == (told.loss, told.angle)
    (message,) = caplog.messages
    assert "activations" in message
    assert list(tmp_path.iterdir()) == []


def test_unfit_data_is_refused(tiny_faces: Path) -> None:
    with pytest.raises(UsageError, match="at least one batch of 64 images, got 24"):
        dry_run(tiny_faces, config=replace(TINY, batch_size=64))


@pytest.mark.parametrize("settings", [{}, {"sampling": 0.25, "subcenters": 3}], ids=str)
def test_the_estimate_is_what_weights_and_momenta_take(settings: dict[str, Any], tiny_faces: Path) -> None:
    config = replace(TINY, **settings)
    run = Run(open_data(tiny_faces, config)[0], config, torch.device("cpu"))
    run.advance(*run.data.at(0))
    found = memory_estimate(config, 4, 24)
    weights = sum(p.nbytes for p in run.parameters)
    momenta = [state["momentum_buffer"].nbytes for state in run.optimizer.state.values()]
    assert found["backbone"] == 2 * weights + sum(buffer.nbytes for buffer in run.network.buffers())
    assert found["optimizer"] == sum(momenta) + run.velocities["centers"].nbytes
    assert found["data"] == run.faces.images.nbytes
    assert found["head"] >= 2 * run.head.centers.nbytes


def test_each_part_grows_with_what_it_depends_on() -> None:
    def of(processes: Processes = SINGLE_PROCESS, **settings: Any) -> dict[str, int]:
        return memory_estimate(replace(TINY, batch_size=64, **settings), 1_000_000, 10_000, processes=processes)

    whole, two = of(), of(Processes(0, 2))
    assert two["activations"] == pytest.approx(whole["activations"] / 2)
    assert two["head"] == pytest.approx(whole["head"] / 2)
    assert two["backbone"] == whole["backbone"]
    assert of(accumulate=4)["activations"] == pytest.approx(whole["activations"] / 4)
    assert of(sampling=0.1)["head"] < 0.6 * of()["head"]
    assert of(amp="bf16")["activations"] < 0.8 * whole["activations"]
    row = 16 * 4 * 1_000_000
    assert whole["head"] == 2 * row + 3 * 64 * 4 * 1_000_000


def test_activations_are_what_autograd_keeps() -> None:
    """Of a network small enough to count by hand."""
    from arcinvert.training.dry_run import MEASURED, _kept

    network = torch.nn.Sequential(torch.nn.AvgPool2d(28), torch.nn.Flatten(), torch.nn.Linear(48, 10), torch.nn.PReLU())
    # 48 inputs of the linear layer and its 10 outputs; the pool keeps nothing of images without gradient
    assert _kept(network, "none") == 4 * MEASURED * (48 + 10)
