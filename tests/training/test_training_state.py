"""The state on disk: states of earlier versions are resumed, and each process reads its own rows."""

import json
import zipfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import CPU, made_up_faces
from runs import TINY as SMALL

from arcinvert.backbones import build_backbone, memory_format
from arcinvert.distributed import Processes
from arcinvert.errors import CheckpointError
from arcinvert.faces.augmentation import Augmentation
from arcinvert.training.config import DistillationConfig, ExtraLosses, TrainConfig
from arcinvert.training.heads import MarginHead
from arcinvert.training.run import Run
from arcinvert.training.state import load_state

TINY = replace(SMALL, dropout=0.1)
FIRST_SETTINGS = (
    "backbone", "width", "embedding_size", "dropout", "margin", "scale", "epochs", "batch_size", "lr", "momentum",
    "weight_decay", "warmup", "clip", "held_out", "validate_every", "seed", "keep_head", "compile",
)  # fmt: skip
BRITISH = {"late": None, "late_from": 0.0, "augmentation": {"grey": 0.1, "colour": 0.08}}


def write_early_state(path: Path, config: TrainConfig) -> None:
    """One step as the first version made it: one SGD of torch over network and head, cross-entropy's mean."""
    images, labels = Run(made_up_faces(), config, CPU).data.at(0)
    torch.manual_seed(config.seed)
    network = build_backbone(config.backbone, **config.backbone_settings()).train()
    network.to(memory_format=memory_format(network))  # type: ignore[call-overload]
    head = MarginHead(config.embedding_size, 4, margin=config.resolve_margin(), scale=config.scale)
    parameters = [p for p in [*network.parameters(), *head.parameters()] if p.requires_grad]
    rate = config.lr / 3  # the first of three steps of warm-up
    optimizer = torch.optim.SGD(parameters, lr=rate, momentum=config.momentum, weight_decay=config.weight_decay)
    head(network(images), labels).loss.mean().backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip)
    optimizer.step()
    state = {
        "config": json.dumps({key: value for key, value in asdict(config).items() if key in FIRST_SETTINGS} | BRITISH),
        "data": "digest",
        "step": 1,
        "history": [],
        "network": network.state_dict(),
        "head": {"centres": head.centers.detach()},
        "optimiser": optimizer.state_dict(),
        "rng": torch.get_rng_state(),
    }
    torch.save(state, path)


def test_a_state_of_the_first_version_resumes_under_its_old_names(tmp_path: Path) -> None:
    write_early_state(tmp_path / "state", TINY)
    run = Run(made_up_faces(), TINY, CPU)
    run.advance(*run.data.at(0))
    expected = [run.advance(*run.data.at(step)) for step in (1, 2)]
    again = Run(made_up_faces(), TINY, CPU)
    again.resume(tmp_path / "state")
    assert again.step == 1
    assert again.velocities["centers"].abs().max() > 0
    for step, told in zip((1, 2), expected, strict=True):
        assert again.advance(*again.data.at(step)) == pytest.approx(told, rel=1e-4)
    for key, value in run.network.state_dict().items():
        torch.testing.assert_close(again.network.state_dict()[key], value, atol=1e-5, rtol=1e-3, msg=key)
    torch.testing.assert_close(again.head.centers, run.head.centers, atol=1e-5, rtol=1e-3)


def test_a_state_of_the_version_before_resumes_to_the_same_step(tmp_path: Path) -> None:
    """Its keys in British spelling, its settings flat and under their old names."""
    config = replace(
        SMALL, margin="softmax-bias", subcenters=2, extra_losses=ExtraLosses(center=0.1), drop_last=False,
        second_stage=Augmentation(gray=0.4), second_stage_from=1.0,
        distillation=DistillationConfig("auxiliary", kl=0.0),
    )  # fmt: skip
    run = Run(made_up_faces(), config, CPU)
    run.advance(*run.data.at(0))
    run.save(tmp_path / "state")
    state = torch.load(tmp_path / "state", weights_only=True)
    settings = json.loads(state["config"])
    for table in ("extra_losses", "distillation"):
        settings |= settings.pop(table)
    for table in ("augmentation", "second_stage"):
        settings[table]["grey"], settings[table]["colour"] = settings[table].pop("gray"), settings[table].pop("color")
    settings["keep_last"] = not settings.pop("drop_last")
    names = {
        "subcenters": "subcentres", "past_pi": "beyond", "init_from": "start", "weight_bits": "bits",
        "center": "centre", "second_stage": "late", "second_stage_from": "late_from",
        "l2": "distill_l2", "kl": "distill_kl",
    }  # fmt: skip
    settings = {names.get(name, name): value for name, value in settings.items()} | {"exact": True}
    state["config"] = json.dumps(settings)
    state["optimiser"], state["readout"] = state.pop("optimizer"), state.pop("projection_head")
    state["head"] = {name.replace("centers", "centres"): value for name, value in state["head"].items()}
    torch.save(state, tmp_path / "state")
    again = Run(made_up_faces(), config, CPU)
    again.resume(tmp_path / "state")
    assert again.advance(*again.data.at(1)) == run.advance(*run.data.at(1))
    assert torch.equal(again.head.centers, run.head.centers)
    other = Run(made_up_faces(), replace(config, drop_last=True, past_pi="easy"), CPU)
    with pytest.raises(CheckpointError, match="belongs to another run: drop_last, past_pi differs"):
        other.resume(tmp_path / "state")


def test_the_optimizer_state_has_the_layout_of_torchs_sgd(tmp_path: Path) -> None:
    run = Run(made_up_faces(), TINY, CPU)
    run.advance(*run.data.at(0))
    run.save(tmp_path / "state")
    state = torch.load(tmp_path / "state", weights_only=True)
    parameters = [p.detach().clone().requires_grad_() for p in [*run.parameters, *run.head.parameters()]]
    optimizer = torch.optim.SGD(parameters, lr=1.0)
    optimizer.load_state_dict(state["optimizer"])
    assert torch.equal(optimizer.state[parameters[-1]]["momentum_buffer"], run.velocities["centers"])
    assert state["rng"].shape[0] == 1


@pytest.mark.parametrize("world", [2, 3])
def test_each_process_reads_its_rows_of_the_one_matrix(
    world: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(TINY, margin="softmax-bias", extra_losses=ExtraLosses(center=0.1), subcenters=2)
    whole = Run(made_up_faces(), config, CPU)
    whole.advance(*whole.data.at(0))
    whole.save(tmp_path / "state")
    monkeypatch.setattr("arcinvert.training.run.data_parallel", lambda network, processes, device: network)
    parts = []
    for rank in range(world):
        part = Run(made_up_faces(), config, CPU, processes=Processes(rank, world))
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
    run = Run(made_up_faces(), TINY, CPU)
    run.save(tmp_path / "state")
    state = torch.load(tmp_path / "state", weights_only=True)
    damage(state)
    torch.save(state, tmp_path / "state")
    with pytest.raises(CheckpointError, match=said):
        Run(made_up_faces(), TINY, CPU).resume(tmp_path / "state")


def test_a_compressed_state_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "state", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("state/data.pkl", b"0" * 1000)
    with pytest.raises(CheckpointError, match="compression"):
        load_state(tmp_path / "state")
