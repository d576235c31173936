"""Training in several gloo processes: the run is the same, whatever their number."""

import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import runs
import torch
from processes import on_processes
from runs import CPU, KilledError, made_up_faces, state_of
from torch import nn

from arcinvert.backbones import BACKBONES, build_backbone
from arcinvert.backbones.iresnet import BLOCKS, IResNet
from arcinvert.checkpoint import load_checkpoint
from arcinvert.distributed import SINGLE_PROCESS, Processes
from arcinvert.errors import EnvironmentProblem, UsageError
from arcinvert.training.config import TrainConfig
from arcinvert.training.run import Run
from arcinvert.training.trainer import train


class GroupNormResNet(IResNet):
    """IResNet-18 without BatchNorm, whose statistics depend on the number of processes, and without PReLU's kink."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(BLOCKS[18], **settings)
        for name, module in list(self.named_modules()):
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                self.set_submodule(name, nn.GroupNorm(1, module.num_features))
            if isinstance(module, nn.PReLU):  # a rounding error may move its input across 0
                self.set_submodule(name, nn.SiLU())


BACKBONES["group-norm"] = GroupNormResNet
# Batches of 9, 9 and 6 images, so 3 steps an epoch, 9 in all.
TINY = replace(
    runs.TINY, backbone="group-norm", epochs=3, batch_size=9, drop_last=False, lr=0.005, warmup=0.0, keep_head=True,
    sampling=0.5, subcenters=2,
)  # fmt: skip


def part_of_a_run(processes: Processes, data: str, out: str, settings: dict[str, Any], until: int) -> list[float]:
    """Train until a step, then end; returns the losses."""
    run_losses: list[float] = []

    def progress(done: int, total: int, text: str) -> None:
        run_losses.append(float(text.split()[3]))
        if done == until:
            raise KilledError

    config = TrainConfig.from_mapping(settings)
    try:
        train(Path(data), Path(out), config=config, save_every=0, processes=processes, progress=progress)
    except KilledError:
        processes.wait()
    return run_losses


@pytest.fixture(scope="module")
def whole(tiny_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "net.safetensors"
    part_of_a_run(SINGLE_PROCESS, str(tiny_faces), str(out), asdict(TINY), 0)
    return out


def test_two_then_three_then_one_process_end_where_one_would(tiny_faces: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "net.safetensors"
    first = on_processes(2, part_of_a_run, str(tiny_faces), str(out), asdict(TINY), 2)
    second = on_processes(3, part_of_a_run, str(tiny_faces), str(out), asdict(TINY), 7)
    assert [len(losses) for losses in first + second] == [2, 2, 5, 5, 5]
    assert not out.exists()
    third = part_of_a_run(SINGLE_PROCESS, str(tiny_faces), str(out), asdict(TINY), 0)
    assert len(third) == 2
    expected, found = load_checkpoint(whole).tensors, load_checkpoint(out).tensors
    states = [torch.load(state_of(path), weights_only=True) for path in (whole, out)]
    assert expected["head.centers"].shape == (4, 16)
    for key in expected:
        assert (found[key].float() - expected[key].float()).abs().max() <= 1e-3, key  # half precision
    start = first_weights(TINY)
    assert max(float((states[0]["network"][key] - value).abs().max()) for key, value in start.items()) > 1e-2
    for part in ("network", "head"):
        for key, value in states[0][part].items():
            assert (states[1][part][key].float() - value.float()).abs().max() <= 1e-4, key
    momenta = [[entry["momentum_buffer"] for entry in state["optimizer"]["state"].values()] for state in states]
    assert momenta[0][-1].shape == (4, 2, 16)
    for expected_momentum, momentum in zip(*momenta, strict=True):
        assert (expected_momentum - momentum).abs().max() <= 1e-3 * expected_momentum.abs().max().clamp_min(1)
    assert states[0]["average"] == pytest.approx(states[1]["average"], abs=1e-4)


def first_weights(config: TrainConfig) -> dict[str, torch.Tensor]:
    """The weights that a run begins with."""
    network = Run(made_up_faces(), config, CPU).network
    return {key: value.clone() for key, value in network.state_dict().items() if value.is_floating_point()}


def steps_of(processes: Processes, settings: dict[str, Any], world: int) -> dict[str, Any]:
    """Two steps; the weights after them, and what was told."""
    run = Run(made_up_faces(), TrainConfig.from_mapping(settings), CPU, processes=processes)
    told = [tuple(run.advance(*run.data.at(step))) for step in range(2)]
    return {"told": told, "network": run.network.state_dict(), "centers": run.head.centers.detach()}


@pytest.mark.parametrize("settings", [{}, {"accumulate": 2, "batch_size": 12, "margin": "adaface"}], ids=str)
def test_the_backbone_is_the_same_in_all_processes_and_learns_from_all(settings: dict[str, Any]) -> None:
    """BatchNorm normalizes each share by its own statistics; the weights still agree."""
    config = asdict(replace(TINY, backbone="iresnet18", sampling=1.0)) | settings
    first, second = on_processes(2, steps_of, config, 2)
    assert first["told"] == second["told"]
    alone = steps_of(SINGLE_PROCESS, config, 1)
    for key, value in first["network"].items():
        if "running" not in key:
            assert torch.equal(value, second["network"][key]), key
    assert len(first["centers"]) + len(second["centers"]) == len(alone["centers"])
    assert first["told"][0] == pytest.approx(alone["told"][0], rel=0.2)
    assert first["told"] != alone["told"]


@pytest.mark.parametrize("name", ["iresnet18", "mobilefacenet"])
def test_torchs_batchnorm_over_processes_keeps_the_names_of_the_weights(name: str) -> None:
    network = build_backbone(name, width=0.25, embedding_size=16)
    before = network.state_dict()
    after = nn.SyncBatchNorm.convert_sync_batchnorm(network).state_dict()
    assert list(after) == list(before)
    assert all(after[key].data_ptr() == value.data_ptr() for key, value in before.items())


@pytest.mark.parametrize(
    ("settings", "world", "said"),
    [
        ({"batch_size": 9}, 4, "two images for each of 4 processes and passes, got a batch of 6"),
        ({"batch_size": 8, "accumulate": 4}, 2, "each of 8 processes and passes, got a batch of 8"),
        ({"drop_last": True, "batch_size": 24}, 5, "an identity for each of 5 processes"),
        ({"batch_size": 23, "drop_last": False}, 1, "would be one image"),
        ({"amp": "fp16"}, 1, "fp16 needs a GPU, got cpu"),
        ({"sync_batchnorm": True}, 2, "sync_batchnorm over several processes needs GPUs, got cpu"),
    ],
)
def test_what_cannot_be_shared_is_refused(settings: dict[str, Any], world: int, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Run(made_up_faces(), replace(TINY, **settings), CPU, processes=Processes(0, world))


def one_that_dies(processes: Processes, data: str, out: str, settings: dict[str, Any]) -> str:
    def progress(done: int, total: int, text: str) -> None:
        if done == 2 and processes.rank == 1:
            os._exit(9)

    try:
        train(Path(data), Path(out), config=TrainConfig.from_mapping(settings), processes=processes, progress=progress)
    except EnvironmentProblem as error:
        return str(error)
    return "it went on"


def test_a_process_that_dies_ends_the_others_in_one_line(tiny_faces: Path, tmp_path: Path) -> None:
    (said,) = on_processes(2, one_that_dies, str(tiny_faces), str(tmp_path / "net"), asdict(TINY), dead=1)
    assert said == "another process of this run has ended; see its messages"
    assert not (tmp_path / "net").exists()


def one_that_sees_other_files(processes: Processes, data: str, out: str, settings: dict[str, Any]) -> str:
    keep = {f"id{person}/{picture}.png" for person in range(4) for picture in range(5 + processes.rank)}
    try:
        train(Path(data), Path(out), config=TrainConfig.from_mapping(settings), processes=processes, keep=keep)
    except EnvironmentProblem as error:
        return str(error)
    return "it went on"


def test_processes_that_see_other_images_do_not_train_together(tiny_faces: Path, tmp_path: Path) -> None:
    config = asdict(replace(TINY, drop_last=True))
    said = on_processes(2, one_that_sees_other_files, str(tiny_faces), str(tmp_path / "net"), config)
    assert said == ["the processes do not see the same images; expected files that all of them can read"] * 2
