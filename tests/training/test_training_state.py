"""The state on disk: what earlier versions wrote is taken up, and only rows of this rank are read."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from arcinvert.backbones import build_backbone, memory_format
from arcinvert.distributed import Processes
from arcinvert.errors import CheckpointError
from arcinvert.training.config import TrainConfig
from arcinvert.training.data.faces import FaceDataset
from arcinvert.training.heads import MarginHead
from arcinvert.training.run import Run

CPU = torch.device("cpu")
TINY = TrainConfig(width=0.05, embedding_size=16, scale=16.0, epochs=2, batch_size=8, lr=0.05, dropout=0.1)
BEFORE = (
    "backbone", "width", "embedding_size", "dropout", "margin", "scale", "epochs", "batch_size", "lr", "momentum",
    "weight_decay", "warmup", "clip", "held_out", "validate_every", "seed", "keep_head", "compile", "augmentation",
    "second_stage", "second_stage_from",
)  # fmt: skip


def faces() -> FaceDataset:
    images = torch.randint(0, 256, (24, 112, 112, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    labels = torch.arange(4).repeat_interleave(6)
    return FaceDataset(tuple(f"{row}.png" for row in range(24)), images, labels, ("a", "b", "c", "d"), "digest")


def write_early_state(path: Path, config: TrainConfig) -> None:
    """One step as the first edition made it: one SGD of torch over network and head, cross-entropy's mean."""
    images, labels = Run(faces(), config, CPU).data.at(0)
    torch.manual_seed(config.seed)
    network = build_backbone(config.backbone, **config.backbone_settings()).train()
    network.to(memory_format=memory_format(network))  # type: ignore[call-overload]
    head = MarginHead(config.embedding_size, 4, margin=config.resolve_margin(), scale=config.scale)
    parameters = [p for p in [*network.parameters(), *head.parameters()] if p.requires_grad]
    rate = config.lr / 3  # the first of three steps of warm-up
    optimizer = torch.optim.SGD(parameters, lr=rate, momentum=config.momentum, weight_decay=config.weight_decay)
    head(network(images), labels).mean().backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip)
    optimizer.step()
    state = {
        "config": json.dumps({key: value for key, value in asdict(config).items() if key in BEFORE}),
        "data": "digest",
        "step": 1,
        "history": [],
        "network": network.state_dict(),
        "head": {"centers": head.centers.detach()},
        "optimizer": optimizer.state_dict(),
        "rng": torch.get_rng_state(),
    }
    torch.save(state, path)


def test_a_state_of_the_first_edition_goes_on_as_if_it_were_ours(tmp_path: Path) -> None:
    write_early_state(tmp_path / "state", TINY)
    run = Run(faces(), TINY, CPU)
    run.advance(*run.data.at(0))
    expected = [run.advance(*run.data.at(step)) for step in (1, 2)]
    again = Run(faces(), TINY, CPU)
    again.resume(tmp_path / "state")
    assert again.step == 1
    assert again.velocities["centers"].abs().max() > 0
    for step, told in zip((1, 2), expected, strict=True):
        assert again.advance(*again.data.at(step)) == pytest.approx(told, rel=1e-4)
    for key, value in run.network.state_dict().items():
        torch.testing.assert_close(again.network.state_dict()[key], value, atol=1e-5, rtol=1e-3, msg=key)
    torch.testing.assert_close(again.head.centers, run.head.centers, atol=1e-5, rtol=1e-3)


def test_what_is_saved_is_in_the_layout_of_torchs_own_optimizer(tmp_path: Path) -> None:
    run = Run(faces(), TINY, CPU)
    run.advance(*run.data.at(0))
    run.save(tmp_path / "state")
    state = torch.load(tmp_path / "state", weights_only=True)
    parameters = [p.detach().clone().requires_grad_() for p in [*run.parameters, *run.head.parameters()]]
    optimizer = torch.optim.SGD(parameters, lr=1.0)
    optimizer.load_state_dict(state["optimizer"])
    assert torch.equal(optimizer.state[parameters[-1]]["momentum_buffer"], run.velocities["centers"])
    assert state["rng"].shape[0] == 1


@pytest.mark.parametrize("world", [2, 3])
def test_each_rank_takes_its_rows_of_the_one_matrix(
    world: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(TINY, margin="softmax-bias", center=0.1, subcenters=2)
    whole = Run(faces(), config, CPU)
    whole.advance(*whole.data.at(0))
    whole.save(tmp_path / "state")
    monkeypatch.setattr("arcinvert.training.run.data_parallel", lambda network, processes, device: network)
    parts = []
    for rank in range(world):
        part = Run(faces(), config, CPU, processes=Processes(rank, world))
        part.resume(tmp_path / "state")
        parts.append(part)
    for key in ("centers", "bias", "moving_centers", "hits"):
        joint = torch.cat([part.head.state_dict()[key] for part in parts])
        assert torch.equal(joint, whole.head.state_dict()[key]), key
        assert joint.any()
    for key, velocity in whole.velocities.items():
        assert torch.equal(torch.cat([part.velocities[key] for part in parts]), velocity)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda state: state["head"].update(centers=torch.zeros(5, 16)), "it has 5 classes, expected 4"),
        (lambda state: state["head"].pop("centers"), "Missing key"),
        (lambda state: state["network"].pop("conv1.weight"), "Missing key"),
        (lambda state: state.update(rng=torch.zeros(1, 7, dtype=torch.uint8)), "does not fit"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(damage: Any, said: str, tmp_path: Path) -> None:
    run = Run(faces(), TINY, CPU)
    run.save(tmp_path / "state")
    state = torch.load(tmp_path / "state", weights_only=True)
    damage(state)
    torch.save(state, tmp_path / "state")
    with pytest.raises(CheckpointError, match=said):
        Run(faces(), TINY, CPU).resume(tmp_path / "state")
