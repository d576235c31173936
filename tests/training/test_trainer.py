import json
import math
import pickle
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from runs import CPU, TINY, KilledError, assert_same_tensors, kill_at, made_up_faces, state_of
from torch import Tensor, nn

from arcinvert.backbones import build_backbone
from arcinvert.checkpoint import load_checkpoint, load_strictly
from arcinvert.errors import CheckpointError, EnvironmentProblem, InputError, UsageError
from arcinvert.faces.augmentation import Augmentation
from arcinvert.training.config import DistillationConfig, ExtraLosses, TrainConfig
from arcinvert.training.data.faces import load_faces
from arcinvert.training.margins import ALL_MARGINS, Margin
from arcinvert.training.run import Run
from arcinvert.training.trainer import train, validate

# 4 epochs of 3 steps.
LONGER = replace(TINY, dropout=0.1, epochs=4, keep_head=True)


@pytest.fixture(scope="module")
def whole(tiny_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of an undisturbed run of LONGER. Do not write beside it."""
    out = tmp_path_factory.mktemp("whole") / "net.safetensors"
    train(tiny_faces, out, config=LONGER)
    return out


@pytest.fixture(scope="module")
def killed_state(tiny_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of a run of LONGER that was killed at step 2."""
    out = tmp_path_factory.mktemp("killed") / "net.safetensors"
    with pytest.raises(KilledError):
        train(tiny_faces, out, config=LONGER, save_every=0, progress=kill_at(2))
    return state_of(out)


@pytest.fixture
def killed(killed_state: Path, tmp_path: Path) -> Path:
    """Where the checkpoint of that run would be; its state lies beside it."""
    out = tmp_path / "net.safetensors"
    shutil.copy(killed_state, state_of(out))
    return out


class TestLearning:
    def test_loss_falls_and_the_identities_are_told_apart(self, tiny_faces: Path, tmp_path: Path) -> None:
        config = replace(
            LONGER, margin="softmax", epochs=10, dropout=0.0, held_out=0, augmentation=Augmentation(cutout=0)
        )
        losses: list[float] = []
        out = tmp_path / "net.safetensors"
        train(tiny_faces, out, config=config, progress=lambda _, __, text: losses.append(float(text.split()[3])))
        assert len(losses) == 4 * 10
        assert losses[-1] < 0.7 * losses[0]  # a running average, so the last value still remembers the first
        checkpoint = load_checkpoint(out)
        network = build_backbone(config.backbone, **checkpoint.header["backbone_settings"])
        load_strictly(network, checkpoint.section("network"), "it")
        faces = load_faces(tiny_faces, [f"id{number}" for number in range(6)])
        assert validate(network, faces, CPU)["auc"] > 0.95

    @pytest.mark.parametrize(("name", "width"), [("iresnet18", 0.05), ("iresnet18", 0.25), ("mobilefacenet", 0.25)])
    def test_one_step_moves_every_parameter(self, name: str, width: float) -> None:
        run = Run(made_up_faces(), replace(LONGER, backbone=name, width=width, dropout=0.0, warmup=0.0), CPU)
        parameters = {**dict(run.network.named_parameters()), **dict(run.head.named_parameters())}
        before = {key: value.detach().clone() for key, value in parameters.items()}
        run.advance(*next(run.batches()))
        still = {key for key, value in parameters.items() if torch.equal(value, before[key])}
        assert still == {key for key, value in parameters.items() if not value.requires_grad}

    def test_only_the_backbone_is_clipped(self) -> None:
        run = Run(made_up_faces(), replace(LONGER, clip=1e-9, weight_decay=0.0, warmup=0.0, lr=1.0), CPU)
        weight, centers = run.network.conv1.weight.detach().clone(), run.head.centers.detach().clone()
        run.advance(*next(run.batches()))
        assert (run.network.conv1.weight - weight).abs().max() < 1e-8
        assert (run.head.centers - centers).abs().max() > 1e-3


class TestBatches:
    def test_an_epoch_sees_every_image_once_in_another_order(self) -> None:
        config = replace(LONGER, augmentation=Augmentation(0, 0, 0, 0, 0, 0, 0, 0))
        run = Run(made_up_faces(), config, CPU)
        originals = run.faces.images.permute(0, 3, 1, 2).float().div(127.5).sub(1)
        seen: list[list[int]] = []
        for images, labels in run.batches():
            assert images.shape == (8, 3, 112, 112)
            rows = torch.cdist(images.flatten(1), originals.flatten(1)).argmin(1)
            torch.testing.assert_close(images, originals[rows], atol=1e-3, rtol=0)
            assert torch.equal(labels, run.faces.labels[rows])
            seen.append(rows.tolist())
            run.step += 1
        epochs = [[row for batch in seen[start : start + 3] for row in batch] for start in range(0, 12, 3)]
        assert len(seen) == 12
        assert all(sorted(epoch) == list(range(24)) for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) == 4

    def test_batches_depend_on_seed_and_step_alone(self) -> None:
        faces = made_up_faces()

        def batch(step: int, seed: int = 0) -> Tensor:
            run = Run(faces, replace(LONGER, seed=seed), CPU)
            run.step = step
            torch.manual_seed(step + 100)
            return next(run.batches())[0]

        run = Run(faces, LONGER, CPU)
        for step, (images, _) in enumerate(run.batches()):
            if step in (0, 2, 3, 7):
                assert torch.equal(images, batch(step))
            run.step += 1
        assert not torch.equal(batch(1), batch(1, seed=1))
        assert -1 <= images.min() < -0.5
        assert 0.5 < images.max() <= 1

    @pytest.mark.parametrize(("second_stage_from", "first"), [(0, 0), (1.67, 5)])
    def test_the_second_augmentation_replaces_the_first_after_its_epochs(
        self, second_stage_from: float, first: int
    ) -> None:
        late = Augmentation(gray=1.0, surroundings=0.5)
        faces = made_up_faces()

        def batches(**settings: Any) -> list[Tensor]:
            run = Run(faces, replace(LONGER, **settings), CPU)
            images = []
            for batch, _ in run.batches():
                images.append(batch)
                run.step += 1
            return images

        both, early_only, late_only = (
            batches(second_stage=late, second_stage_from=second_stage_from),
            batches(),
            batches(augmentation=late),
        )
        for step, images in enumerate(both):
            expected = early_only if step < first else late_only
            assert torch.equal(images, expected[step])
            assert not torch.equal(early_only[step], late_only[step])


class TestLearningRate:
    @staticmethod
    def rates(**settings: Any) -> list[float]:
        run = Run(made_up_faces(), replace(LONGER, **settings), CPU)
        rates = []
        for step in range(run.total_steps):
            run.step = step
            rates.append(run.learning_rate())
        return rates

    def test_warm_up_is_linear_and_the_rest_half_a_cosine(self) -> None:
        rates = self.rates(lr=0.6, warmup=2.0, epochs=6)
        assert rates[:6] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
        assert rates[6] == pytest.approx(0.6)
        assert rates[12] == pytest.approx(0.3)  # half way
        assert rates[10] - rates[14] == pytest.approx(0.6 * math.sin(math.pi / 6))
        assert all(later < earlier for earlier, later in pairwise(rates[6:]))
        assert 0 < rates[-1] < 0.02

    def test_a_warm_up_longer_than_the_run(self) -> None:
        rates = self.rates(lr=0.6, warmup=10.0, epochs=2)
        assert rates == pytest.approx([0.02 * step for step in range(1, 7)])

    def test_the_optimizer_is_given_the_rate_of_the_step(self) -> None:
        run = Run(made_up_faces(), replace(LONGER, lr=0.6, warmup=2.0), CPU)
        batches = run.batches()
        for expected in (0.1, 0.2):
            run.advance(*next(batches))
            assert [group["lr"] for group in run.optimizer.param_groups] == pytest.approx([expected])


class TestResume:
    @pytest.mark.parametrize("step", [3, 7])
    def test_a_killed_run_ends_with_the_very_same_weights(
        self, tiny_faces: Path, tmp_path: Path, whole: Path, step: int
    ) -> None:
        """Killed at the end of an epoch, and in the middle of one, after a state was saved."""
        out = tmp_path / "net.safetensors"
        with pytest.raises(KilledError):
            train(tiny_faces, out, config=LONGER, save_every=0, progress=kill_at(step))
        assert not out.exists()
        torch.manual_seed(12345)  # the other process's random numbers have nothing to do with ours
        steps: list[int] = []
        header = train(tiny_faces, out, config=LONGER, progress=lambda done, _, __: steps.append(done))
        assert steps == list(range(step + 1, 13))
        assert_same_tensors(out, whole)
        assert header["validation"] == load_checkpoint(whole).header["validation"]
        assert [entry["epoch"] for entry in header["history"]] == [1, 2, 3, 4]

    def test_killed_in_an_epoch_it_goes_back_to_the_last_state(
        self, tiny_faces: Path, tmp_path: Path, whole: Path
    ) -> None:
        """Without a state since the end of the epoch, the steps after it are done again."""
        out = tmp_path / "net.safetensors"
        with pytest.raises(KilledError):
            train(tiny_faces, out, config=LONGER, save_every=3600, progress=kill_at(5))
        steps: list[int] = []
        train(tiny_faces, out, config=LONGER, progress=lambda done, _, __: steps.append(done))
        assert steps == list(range(4, 13))
        assert_same_tensors(out, whole)

    def test_a_run_that_has_ended_only_writes_its_checkpoint_again(
        self, tiny_faces: Path, tmp_path: Path, whole: Path
    ) -> None:
        out = tmp_path / "net.safetensors"
        shutil.copy(state_of(whole), state_of(out))
        steps: list[int] = []
        train(tiny_faces, out, config=LONGER, progress=lambda done, _, __: steps.append(done))
        assert steps == []
        assert out.read_bytes() == whole.read_bytes()

    def test_force_starts_again(self, tiny_faces: Path, killed: Path) -> None:
        steps: list[int] = []
        config = replace(LONGER, epochs=1, lr=0.01)
        train(tiny_faces, killed, config=config, force=True, progress=lambda done, _, __: steps.append(done))
        assert steps == [1, 2, 3]
        assert load_checkpoint(killed).header["training"]["lr"] == 0.01

    @pytest.mark.parametrize(
        ("change", "named"),
        [
            ({"lr": 0.06}, "lr"),
            ({"seed": 1, "epochs": 5}, "epochs, seed"),
            ({"margin": (1.0, 0.5, 0.0)}, "margin"),
            ({"augmentation": Augmentation(cutout=0.3)}, "augmentation"),
        ],
        ids=str,
    )
    def test_the_state_of_another_configuration_is_refused(
        self, tiny_faces: Path, killed: Path, change: dict[str, Any], named: str
    ) -> None:
        before = state_of(killed).read_bytes()
        with pytest.raises(CheckpointError, match=f"belongs to another run: {named} differs"):
            train(tiny_faces, killed, config=replace(LONGER, **change))
        assert state_of(killed).read_bytes() == before
        assert not killed.exists()

    def test_the_state_of_other_data_is_refused(self, tiny_faces: Path, tmp_path: Path, killed: Path) -> None:
        other = tmp_path / "faces"
        shutil.copytree(tiny_faces, other)
        Image.new("RGB", (112, 112)).save(other / "id0" / "0.png")
        with pytest.raises(CheckpointError, match="belongs to another run: the data differs"):
            train(other, killed, config=LONGER)

    @pytest.mark.parametrize("keep", [0.0, 0.5, 0.999])
    def test_a_truncated_state_is_refused(self, tiny_faces: Path, killed: Path, keep: float) -> None:
        content = state_of(killed).read_bytes()
        state_of(killed).write_bytes(content[: int(len(content) * keep)])
        with pytest.raises(CheckpointError, match="cannot read the training state"):
            train(tiny_faces, killed, config=LONGER)

    def test_a_state_with_one_wrong_bit_in_a_weight_is_refused(self, tiny_faces: Path, killed: Path) -> None:
        """torch.load would take it."""
        content = bytearray(state_of(killed).read_bytes())
        weight = torch.load(state_of(killed), weights_only=True)["network"]["layer4.1.conv2.weight"]
        place = content.find(weight.flatten()[:64].numpy().tobytes())
        assert place > 0
        content[place + 2] ^= 1
        state_of(killed).write_bytes(content)
        torch.load(state_of(killed), weights_only=True)
        with pytest.raises(CheckpointError, match=r"cannot read the training state .* is damaged"):
            train(tiny_faces, killed, config=LONGER)

    def test_what_is_no_state_is_refused(self, tiny_faces: Path, killed: Path) -> None:
        state_of(killed).write_text("not a state")
        with pytest.raises(CheckpointError, match="cannot read the training state"):
            train(tiny_faces, killed, config=LONGER)
        with zipfile.ZipFile(state_of(killed), "w") as archive:  # torch's own error has no text here
            archive.writestr("archive/data.pkl", b"")
            archive.writestr("archive/version", "3\n")
        with pytest.raises(CheckpointError, match="cannot read the training state"):
            train(tiny_faces, killed, config=LONGER)
        torch.save({"weights": torch.ones(3)}, state_of(killed))
        with pytest.raises(CheckpointError, match="is not a training state"):
            train(tiny_faces, killed, config=LONGER)

    @pytest.mark.parametrize("part", ["network", "head", "optimizer", "rng", "step"])
    def test_a_state_with_a_part_missing_is_refused(self, tiny_faces: Path, killed: Path, part: str) -> None:
        state = torch.load(state_of(killed), weights_only=True)
        del state[part]
        torch.save(state, state_of(killed))
        with pytest.raises(CheckpointError, match=f"does not fit this run: '{part}'"):
            train(tiny_faces, killed, config=LONGER)

    def test_a_hostile_state_never_runs(self, tiny_faces: Path, tmp_path: Path) -> None:
        out, mark = tmp_path / "net.safetensors", tmp_path / "ran"

        class Payload:
            def __reduce__(self) -> tuple[Any, ...]:
                return (Path.touch, (mark,))

        for write in (lambda: state_of(out).write_bytes(pickle.dumps(Payload())), self.saved(Payload(), state_of(out))):
            write()
            with pytest.raises(CheckpointError, match="cannot read the training state"):
                train(tiny_faces, out, config=LONGER)
            assert not mark.exists()

    @staticmethod
    def saved(value: object, path: Path) -> Callable[[], None]:
        return lambda: torch.save({"config": value}, path)

    def test_a_full_disk_keeps_the_old_state(self, killed: Path, tmp_path: Path) -> None:
        resource = pytest.importorskip("resource")
        before, names = state_of(killed).read_bytes(), sorted(tmp_path.iterdir())
        run = Run(made_up_faces(), LONGER, CPU)
        old = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, old[1]))
        try:
            with pytest.raises(EnvironmentProblem, match="cannot write"):
                run.save(state_of(killed))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)
        assert state_of(killed).read_bytes() == before
        assert sorted(tmp_path.iterdir()) == names


class TestCheckpoint:
    def test_header(self, tiny_faces: Path, whole: Path) -> None:
        header = load_checkpoint(whole).header
        assert header["backbone"] == "iresnet18"
        assert header["backbone_settings"] == {"width": 0.05, "embedding_size": 16}
        assert header["embedding_size"] == 16
        assert header["preprocessing"] == {
            "size": [112, 112],
            "color": "RGB",
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
        }
        assert TrainConfig.from_mapping(header["training"]) == LONGER
        assert header["data"] == {
            "digest": load_faces(tiny_faces, ["id0", "id1", "id2", "id3"]).digest,
            "identities": 4,
            "images": 24,
            "skipped": 0,
            "held_out": ["id4", "id5"],
        }

    def test_thresholds_that_36_impostor_pairs_cannot_support_are_null(self, whole: Path) -> None:
        header = load_checkpoint(whole).header
        validation = header["validation"]
        assert 0 <= validation["auc"] <= 1
        assert (validation["identities"], validation["images"]) == (2, 12)
        for point, fmr in zip(validation["thresholds"], (1e-2, 1e-3), strict=True):
            expected = {"fmr": fmr, "threshold": None, "tar": None, "impostor_pairs": 36, "genuine_pairs": 30}
            assert {name: point[name] for name in expected} == expected
            assert "fewer than 3 fix no threshold" in point["reason"]
        assert [entry["tar"] for entry in header["history"]] == [None] * 4
        assert header["history"][-1]["auc"] == validation["auc"]

    def test_weights_are_float16_and_counters_whole(self, whole: Path) -> None:
        tensors = load_checkpoint(whole).tensors
        for key, value in tensors.items():
            assert value.dtype == (torch.int64 if key.endswith("num_batches_tracked") else torch.float16), key
            assert value.float().isfinite().all()
        assert tensors["network.bn1.num_batches_tracked"] == 12

    def test_centers_are_kept_on_request_with_unit_norm(self, whole: Path) -> None:
        centers = load_checkpoint(whole).tensors["head.centers"]
        assert centers.shape == (4, 16)
        torch.testing.assert_close(centers.float().norm(dim=1), torch.ones(4), atol=2e-3, rtol=0)

    def test_held_out_identities_never_reach_the_weights(self, tiny_faces: Path, tmp_path: Path, whole: Path) -> None:
        """Other pictures in their folders change the validation and nothing else."""
        other, out = tmp_path / "faces", tmp_path / "net.safetensors"
        shutil.copytree(tiny_faces, other)
        for number, path in enumerate(sorted(other.glob("id[45]/*.png"))):
            noise = np.random.default_rng(number).integers(0, 256, (112, 112, 3), dtype=np.uint8)
            Image.fromarray(noise).save(path)
        header = train(other, out, config=LONGER)
        assert load_checkpoint(out).header == {"format": 2, **header}
        assert_same_tensors(out, whole)
        assert header["validation"] != load_checkpoint(whole).header["validation"]
        assert header["data"] == load_checkpoint(whole).header["data"]

    def test_progress_reports_every_step(self, tiny_faces: Path, tmp_path: Path) -> None:
        told: list[tuple[int, int, str]] = []
        config = replace(LONGER, epochs=2, validate_every=2)
        header = train(tiny_faces, tmp_path / "a", config=config, progress=lambda *what: told.append(what))
        assert [(done, total) for done, total, _ in told] == [(step, 6) for step in range(1, 7)]
        assert told[3][2].startswith("epoch 2/2 loss ")
        assert "AUC" not in told[2][2]
        assert "AUC" in told[5][2]
        assert [entry["epoch"] for entry in header["history"]] == [2]


class TestValidate:
    def test_threshold_and_rates_against_all_pairs_by_hand(self) -> None:
        """A stand-in network: the mean color of the picture, so all cosines can be counted."""

        class MeanColor(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return x.mean((2, 3))

        rng = np.random.default_rng(0)
        colors = rng.uniform(20, 235, (8, 1, 3)) + rng.normal(0, 20, (8, 15, 3))
        colors = colors.clip(0, 255).astype(np.uint8).reshape(120, 3)
        faces = replace(
            made_up_faces(8, 15), images=torch.tensor(colors)[:, None, None].expand(120, 112, 112, 3).contiguous()
        )
        figures = validate(MeanColor(), faces, CPU)
        vectors = colors.astype(np.float64) / 127.5 - 1
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        pairs = [(i, j) for i in range(120) for j in range(i)]
        genuine = np.array([vectors[i] @ vectors[j] for i, j in pairs if i // 15 == j // 15])
        impostor = np.sort([vectors[i] @ vectors[j] for i, j in pairs if i // 15 != j // 15])
        assert figures["auc"] == pytest.approx((genuine[:, None] > impostor).mean(), abs=1e-4)
        assert (figures["identities"], figures["images"]) == (8, 120)
        assert [point["impostor_pairs"] for point in figures["thresholds"]] == [6300, 6300]
        assert [point["genuine_pairs"] for point in figures["thresholds"]] == [840, 840]
        for point, allowed in zip(figures["thresholds"], (63, 6), strict=True):
            assert impostor[-allowed - 1] - 1e-6 <= point["threshold"] <= impostor[-allowed] + 1e-6
            assert point["tar"] == pytest.approx((genuine >= point["threshold"]).mean(), abs=0.01)

    def test_the_network_is_validated_in_eval_mode_and_not_changed(self) -> None:
        network = build_backbone("iresnet18", width=0.02, embedding_size=8, dropout=0.5).train()
        before = {key: value.clone() for key, value in network.state_dict().items()}
        first = validate(network, made_up_faces(), CPU)
        assert first == validate(network.train(), made_up_faces(), CPU)
        assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


class TestConfig:
    def test_from_a_document(self) -> None:
        document = {"backbone": "mobilefacenet", "lr": 1, "margin": [1.0, 0.3, 0.2], "augmentation": {"flip": 0}}
        config = TrainConfig.from_mapping(document)
        assert (config.backbone, config.lr, config.epochs) == ("mobilefacenet", 1, TrainConfig().epochs)
        assert config.augmentation == replace(Augmentation(), flip=0)
        assert config.resolve_margin() == Margin(1.0, 0.3, 0.2)
        assert set(document) == {"backbone", "lr", "margin", "augmentation"}  # it is not changed
        assert TrainConfig.from_mapping({}) == TrainConfig()
        for name, margin in ALL_MARGINS.items():
            assert TrainConfig.from_mapping({"margin": name}).resolve_margin() == margin

    def test_it_survives_json(self) -> None:
        config = TrainConfig.from_mapping(
            {
                "second_stage": {"gray": 0.4},
                "second_stage_from": 3,
                "extra_losses": {"intra": 1.0},
                "distillation": {"teacher": "auxiliary", "kl": 0},
                "milestones": [1.0, 1.5],
                "amp": "bf16",
            }
        )
        assert (config.second_stage, config.second_stage_from) == (replace(Augmentation(), gray=0.4), 3)
        assert (config.extra_losses, config.distillation) == (
            ExtraLosses(intra=1.0),
            DistillationConfig("auxiliary", kl=0),
        )
        assert TrainConfig.from_mapping(json.loads(json.dumps(asdict(config)))) == config

    def test_names_of_earlier_versions_are_read_and_the_new_ones_said(self, caplog: pytest.LogCaptureFixture) -> None:
        old = {
            "beyond": "easy", "start": "a", "bits": 6, "keep_last": True, "late": {"grey": 0.4}, "late_from": 2.0,
            "subcentres": 2, "intra": 0.5, "centre": 0.1, "teacher": "b", "distill_kl": 0.0, "exact": True,
            "augmentation": {"colour": 0.2},
        }  # fmt: skip
        expected = TrainConfig(
            past_pi="easy", init_from="a", weight_bits=6, drop_last=False, second_stage=Augmentation(gray=0.4),
            second_stage_from=2.0, subcenters=2, extra_losses=ExtraLosses(intra=0.5, center=0.1),
            distillation=DistillationConfig("b", kl=0.0), augmentation=Augmentation(color=0.2),
        )  # fmt: skip
        assert TrainConfig.from_mapping(old) == expected
        (message,) = caplog.messages
        for said in (
            "keep_last is now drop_last, its opposite",
            "late is now second_stage",
            "grey is now second_stage.gray",
        ):
            assert said in message
        assert set(old["late"]) == {"grey"}  # type: ignore[call-overload]
        caplog.clear()
        TrainConfig.from_mapping(asdict(expected))
        assert caplog.messages == []

    @pytest.mark.parametrize(
        ("document", "said"),
        [
            ({"late": {}, "second_stage": {}}, "late is the old name of second_stage; .* both"),
            ({"distillation": {"l2": 1.0}, "distill_l2": 2.0}, "distill_l2 is the old name of distillation.l2"),
            ({"exact": False}, "exact = false is no longer offered"),
        ],
    )
    def test_old_names_that_are_refused(self, document: dict[str, Any], said: str) -> None:
        with pytest.raises(UsageError, match=said):
            TrainConfig.from_mapping(document)

    @pytest.mark.parametrize(
        ("document", "said"),
        [
            ({"learning_rate": 0.1}, "do not fit: .*learning_rate"),
            ({"augmentation": {"blur": 1}}, "do not fit: .*blur"),
            ({"augmentation": 3}, "do not fit"),
            ({"augmentation": None}, "do not fit"),
            ({"second_stage": [1]}, "do not fit"),
            ({"epochs": 0}, "at least 1 as epochs, got 0"),
            ({"epochs": "3"}, "int of at least 0 for epochs, got '3'"),
            ({"epochs": True}, "int of at least 0 for epochs, got True"),
            ({"batch_size": 1}, "at least 2 as batch_size, got 1"),
            ({"validate_every": 0}, "as validate_every, got 0"),
            ({"lr": -0.1}, "float of at least 0 for lr, got -0.1"),
            ({"lr": math.nan}, "for lr, got nan"),
            ({"clip": math.inf}, "for clip, got inf"),
            ({"momentum": None}, "for momentum, got None"),
            ({"compile": "yes"}, "bool for compile, got 'yes'"),
            ({"margin": "arc"}, "a margin out of softmax, .*adaface, softmax-bias, got 'arc'"),
            ({"margin": [1.0, -0.5, 0.0]}, "m2=-0.5"),
            ({"margin": [1.0, 0.5, 0.0, 0.0]}, "do not fit"),
            ({"margin": ["a", "b", "c"]}, "do not fit"),
            ({"margin": 0.5}, "do not fit"),
            ({"augmentation": {"flip": "often"}}, "float of at least 0 for augmentation.flip, got 'often'"),
            ({"second_stage": {"shift": -1}}, "for second_stage.shift, got -1"),
            ({"distillation": {"teacher": 1}}, "str for distillation.teacher, got 1"),
            ({"extra_losses": {"intra": -1}}, "float of at least 0 for extra_losses.intra, got -1"),
            ({"past_pi": "hard"}, "past_pi out of"),
            ({"subcenters": 0}, "as subcenters, got 0"),
            ({"sampling": 0}, "above 0 and up to 1 as sampling, got 0"),
            ({"sampling": 1.5}, "as sampling, got 1.5"),
            ({"label_noise": 2}, "as label_noise, got 2"),
            ({"accumulate": 0}, "as accumulate, got 0"),
            ({"accumulate": 33}, "half of batch_size as accumulate, got 33"),
            ({"amp": "fp8"}, "one of none, bf16, fp16 as amp, got 'fp8'"),
            ({"milestones": [0]}, "a list of numbers above 0 for milestones"),
            ({"milestones": 3}, "a list of numbers above 0 for milestones"),
            ({"weight_bits": 1}, "as weight_bits, got 1"),
            ({"weight_bits": 12}, "16, or 2 to 8 as weight_bits, got 12"),
        ],
        ids=str,
    )
    def test_values_that_do_not_fit_are_refused(self, document: dict[str, Any], said: str) -> None:
        with pytest.raises(UsageError, match=said):
            TrainConfig.from_mapping(document)


class TestRefusals:
    def test_fewer_images_than_a_batch(self, tiny_faces: Path, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="at least one batch of 25 images, got 24"):
            train(tiny_faces, tmp_path / "a", config=replace(LONGER, batch_size=25))

    def test_too_few_identities(self, tiny_faces: Path, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="got 5 of 6 identities"):
            train(tiny_faces, tmp_path / "a", config=replace(LONGER, held_out=5))
        assert list(tmp_path.iterdir()) == []

    def test_unknown_backbone(self, tiny_faces: Path, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="got 'resnet'"):
            train(tiny_faces, tmp_path / "a", config=replace(LONGER, backbone="resnet"))
