"""Options of a training run: precision, passes, schedule, label noise, clean lists, distillation, initialization."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import CPU, TINY, made_up_faces
from torch import Tensor, nn
from torch.nn.functional import normalize

from arcinvert.calibration.auxiliary import default_auxiliary
from arcinvert.calibration.regression import Accumulators
from arcinvert.checkpoint import load_checkpoint
from arcinvert.distributed import SINGLE_PROCESS, Processes
from arcinvert.errors import CheckpointError, DivergedError, EnvironmentProblem, InputError, UsageError
from arcinvert.faces.augmentation import Augmentation
from arcinvert.recognizer import Recognizer
from arcinvert.training import run as run_module
from arcinvert.training.config import DistillationConfig, TrainConfig
from arcinvert.training.data.batches import Batches
from arcinvert.training.distillation import Distillation
from arcinvert.training.run import Run
from arcinvert.training.tensorboard import open_scalars
from arcinvert.training.trainer import open_data, released_centers, train, validate
from arcinvert.training.wrappers import compile_network


def weights_after(steps: int, **settings: Any) -> tuple[list[float], dict[str, Tensor]]:
    run = Run(made_up_faces(), replace(TINY, **settings), CPU)
    losses = [run.advance(*run.data.at(step)).loss for step in range(steps)]
    return losses, {**run.network.state_dict(), **run.head.state_dict()}


class Linear(nn.Module):
    """A network without BatchNorm, whose passes do not depend on each other."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.pool, self.out = nn.AvgPool2d(28), nn.Linear(48, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.pool(x).flatten(1))


class TestPrecisionAndPasses:
    @pytest.mark.parametrize("settings", [{}, {"sampling": 0.5, "margin": "softmax-bias"}], ids=str)
    def test_passes_make_no_difference_without_batchnorm(
        self, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(run_module, "build_backbone", lambda name, **_: Linear())
        if settings:  # the passes draw other classes; with all drawn it must agree
            settings = {**settings, "sampling": 0.999}
        losses, whole = weights_after(3, warmup=0.0, **settings)
        again, parts = weights_after(3, warmup=0.0, accumulate=3, **settings)
        assert again == pytest.approx(losses, rel=1e-5)
        assert losses[0] != pytest.approx(losses[2], rel=1e-4)
        for key, value in whole.items():
            torch.testing.assert_close(parts[key], value, atol=1e-5, rtol=1e-4, msg=key)

    def test_bf16_follows_full_precision_with_a_head_in_float32(self) -> None:
        seen = []
        run = Run(made_up_faces(), replace(TINY, amp="bf16"), CPU)
        run.head.register_forward_pre_hook(lambda head, inputs: seen.append(inputs[0].dtype))
        losses = [run.advance(*run.data.at(step)).loss for step in range(2)]
        full, _ = weights_after(2)
        assert seen == [torch.bfloat16] * 2
        assert losses == pytest.approx(full, rel=0.05)
        assert losses != full
        assert all(value.dtype == torch.float32 for value in run.parameters)

    def test_a_loss_scale_that_is_too_large_is_halved_and_the_step_left_out(self) -> None:
        run = Run(made_up_faces(), TINY, CPU)
        run.config = replace(run.config, amp="fp16")  # what a GPU would do, in full precision here
        run._precision = lambda: torch.autocast("cpu", enabled=False)  # type: ignore[method-assign]
        run.loss_scale = 2.0**127
        before = {key: value.clone() for key, value in run.network.state_dict().items()}
        run.advance(*run.data.at(0))
        assert (run.step, run.loss_scale, run.good_steps) == (1, 2.0**126, 0)
        assert torch.equal(run.network.conv1.weight, before["conv1.weight"])
        run.loss_scale = 2.0**10
        run.advance(*run.data.at(1))
        assert (run.step, run.good_steps) == (2, 1)
        assert not torch.equal(run.network.conv1.weight, before["conv1.weight"])

    def test_the_loss_scale_makes_no_difference_also_when_it_grows(self) -> None:
        _, plain = weights_after(1, sampling=0.5)
        run = Run(made_up_faces(), replace(TINY, sampling=0.5), CPU)
        run.config = replace(run.config, amp="fp16")  # what a GPU would do, in full precision here
        run._precision = lambda: torch.autocast("cpu", enabled=False)  # type: ignore[method-assign]
        run.loss_scale, run.good_steps = 1024.0, run_module.GROWTH_INTERVAL - 1
        run.advance(*run.data.at(0))
        assert run.loss_scale == 2048
        for key, value in {**run.network.state_dict(), **run.head.state_dict()}.items():
            torch.testing.assert_close(value, plain[key], atol=1e-6, rtol=1e-4)


class TestCompile:
    def test_where_it_does_not_work_training_continues_with_a_warning(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(network: nn.Module) -> Callable[..., Tensor]:
            def fail(images: Tensor) -> Tensor:
                network(images)
                raise torch._dynamo.exc.InternalTorchDynamoError("no compiler\nfound here")

            return fail

        monkeypatch.setattr(torch, "compile", broken)
        run = Run(made_up_faces(), replace(TINY, compile=True, dropout=0.1), CPU)
        assert caplog.messages == ["torch.compile does not work here, training continues without it: no compiler"]
        plain = Run(made_up_faces(), replace(TINY, dropout=0.1), CPU)
        for key, value in plain.network.state_dict().items():
            assert torch.equal(run.network.state_dict()[key], value), key
        told = []
        for each in (run, plain):
            torch.manual_seed(1)  # for dropout
            told.append(each.advance(*each.data.at(0)))
        assert told[0] == told[1]

    @pytest.mark.slow
    def test_compiled_its_output_is_the_same(self) -> None:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4), nn.Flatten(), nn.LazyLinear(5))
        images = torch.randn(4, 3, 8, 8)
        network(images)
        before = {key: value.clone() for key, value in network.state_dict().items()}
        fast, reason = compile_network(network, images)
        if reason is not None:
            pytest.skip(f"torch.compile does not work here: {reason}")
        assert fast is not network
        assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
        assert all(value.grad is None for value in network.parameters())
        torch.testing.assert_close(fast(images), network(images), atol=1e-5, rtol=1e-4)


class TestBatches:
    @pytest.mark.parametrize(("world", "batch_size"), [(2, 40), (3, 7), (5, 24)])
    def test_the_shares_of_the_ranks_are_the_batch(self, world: int, batch_size: int) -> None:
        faces = made_up_faces(10, 5)
        config = replace(TINY, batch_size=batch_size, augmentation=Augmentation(surroundings=0.5, gray=0.5))
        whole = Batches(faces, config, CPU, torch.contiguous_format)
        processes = [
            Batches(faces, config, CPU, torch.contiguous_format, Processes(rank, world)) for rank in range(world)
        ]
        images, labels = whole.at(1)
        shares = [part.at(1) for part in processes]
        assert torch.equal(torch.cat([share[0] for share in shares]), images)
        assert torch.equal(torch.cat([share[1] for share in shares]), labels)

    @pytest.mark.parametrize(("drop_last", "sizes"), [(True, [7, 7, 7]), (False, [7, 7, 7, 3])])
    def test_the_last_batch(self, drop_last: bool, sizes: list[int]) -> None:
        config = replace(TINY, batch_size=7, drop_last=drop_last)
        batches = Batches(made_up_faces(), config, CPU, torch.contiguous_format)
        assert batches.total_steps == 2 * len(sizes)
        for epoch in range(2):
            rows = [batches.rows(epoch * len(sizes) + step) for step in range(len(sizes))]
            assert [len(part) for part in rows] == sizes
            assert len(set(torch.cat(rows).tolist())) == sum(sizes)

    def test_the_rate_falls_to_a_tenth_at_each_milestone(self) -> None:
        config = TrainConfig.from_mapping({"lr": 0.1, "milestones": [2, 3.5], "epochs": 5, "warmup": 0.5})
        rates = [config.learning_rate(step, 4) for step in range(20)]
        assert rates == pytest.approx([0.05] + [0.1] * 7 + [0.01] * 6 + [0.001] * 6)


class TestDivergence:
    def test_a_loss_that_is_not_finite_changes_nothing_and_gives_advice(self, tiny_faces: Path, tmp_path: Path) -> None:
        out = tmp_path / "net"
        config = replace(TINY, lr=1e30, clip=1e30, warmup=0.0, momentum=0.0)
        with pytest.raises(
            DivergedError, match=r"try a lower lr \(it was 9.33e\+29\), or a longer warmup, .*saved yet"
        ):
            train(tiny_faces, out, config=config)
        assert not out.exists()

    def test_the_last_good_state_is_kept(
        self, tiny_faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out, advance = tmp_path / "net", Run.advance

        def poisoned(run: Run, images: Tensor, labels: Tensor) -> Any:
            return advance(run, images * (float("nan") if run.step == 4 else 1.0), labels)

        with monkeypatch.context() as patch:
            patch.setattr(Run, "advance", poisoned)
            with pytest.raises(DivergedError, match=r"nan at step 5; .*last good state is"):
                train(tiny_faces, out, config=TINY, save_every=0)
        state = torch.load(tmp_path / "net.state", weights_only=True)
        assert state["step"] == 4
        assert all(value.isfinite().all() for value in state["network"].values() if value.is_floating_point())
        train(tiny_faces, out, config=TINY)  # without the poison it goes on
        assert out.exists()

    def test_weights_that_are_not_finite_are_not_saved(self, tmp_path: Path) -> None:
        run = Run(made_up_faces(), TINY, CPU)
        with torch.no_grad():
            run.head.centers[0, 0] = float("inf")
        with pytest.raises(DivergedError, match="a weight is no longer finite at step 0"):
            run.save(tmp_path / "state")
        assert not (tmp_path / "state").exists()


class TestData:
    def test_a_clean_list_leaves_the_held_out_identities_alone(self, tiny_faces: Path) -> None:
        keep = {f"id{person}/{picture}.png" for person in (0, 2, 3) for picture in range(4)}
        faces, validation, held_out = open_data(tiny_faces, TINY, keep=keep)
        assert set(faces.files) == keep
        assert faces.identities == ("id0", "id2", "id3")
        assert validation is not None
        assert (len(validation), held_out) == (12, ["id4", "id5"])
        with pytest.raises(InputError):
            open_data(tiny_faces, TINY, keep={"id0/17.png"})

    def test_label_noise_is_a_setting_of_the_run_and_its_labels_are_written(
        self, tiny_faces: Path, tmp_path: Path
    ) -> None:
        right, _, _ = open_data(tiny_faces, TINY)
        noisy, validation, _ = open_data(tiny_faces, replace(TINY, label_noise=0.5))
        assert int((right.labels != noisy.labels).sum()) == 12
        assert torch.equal(noisy.labels.bincount(), right.labels.bincount())
        assert validation is not None
        assert validation.labels.tolist() == [0] * 6 + [1] * 6
        header = train(tiny_faces, tmp_path / "net", config=replace(TINY, label_noise=0.5, epochs=1))
        assert header["training"]["label_noise"] == 0.5
        lines = (tmp_path / "net.labels").read_text().splitlines()
        told = dict(line.split("\t") for line in lines)
        assert told == {f: noisy.identities[n] for f, n in zip(noisy.files, noisy.labels.tolist(), strict=True)}
        with pytest.raises(CheckpointError, match="label_noise differs"):
            train(tiny_faces, tmp_path / "net", config=replace(TINY, epochs=1))


class TestHead:
    def test_the_dominant_subcenter_is_released_if_it_is_known(self, caplog: pytest.LogCaptureFixture) -> None:
        centers = torch.randn(3, 2, 5)
        released = released_centers({"centers": centers, "hits": torch.tensor([[1, 4], [9, 0], [0, 1]])})
        assert torch.equal(released, torch.stack([centers[0, 1], centers[1, 0], centers[2, 1]]))
        assert released_centers({"centers": centers[:, 0]}).shape == (3, 5)
        assert not caplog.messages
        released = released_centers({"centers": centers, "hits": torch.tensor([[1, 4], [0, 0], [0, 1]])})
        assert torch.equal(released, centers)
        (message,) = caplog.messages
        assert "all 2 sub-centers" in message
        assert "1 identities" in message

    def test_hits_are_those_of_the_last_epoch(self, tiny_faces: Path, tmp_path: Path) -> None:
        train(tiny_faces, tmp_path / "net", config=replace(TINY, subcenters=2, keep_head=True))
        state = torch.load(tmp_path / "net.state", weights_only=True)
        assert state["head"]["hits"].sum(1).tolist() == [6] * 4
        centers = load_checkpoint(tmp_path / "net").tensors["head.centers"]
        kept = state["head"]["centers"][torch.arange(4), state["head"]["hits"].argmax(1)]
        torch.testing.assert_close(centers.float(), nn.functional.normalize(kept), atol=1e-3, rtol=0)


class TestDistillation:
    STILL = Augmentation(0, 0, 0, 0, 0, 0, 0, 0)

    def test_its_loss_is_added(self, tiny_checkpoint: Path) -> None:
        def first_loss(**weights: float) -> float:
            return weights_after(1, warmup=0.0, distillation=DistillationConfig(str(tiny_checkpoint), **weights))[0][0]

        plain, l2 = weights_after(1)[0][0], first_loss(kl=0.0)
        assert first_loss(kl=0.0, l2=0.0) == pytest.approx(plain)
        assert first_loss() > l2 > plain > l2 - 4

    def test_the_distance_to_the_teacher_falls(self, tiny_checkpoint: Path) -> None:
        distillation = DistillationConfig(str(tiny_checkpoint), l2=50.0, kl=0.0)
        config = replace(TINY, batch_size=24, distillation=distillation, augmentation=self.STILL, warmup=0.0, lr=0.02)
        run = Run(made_up_faces(), config, CPU)
        losses = [run.advance(*run.data.at(0)).loss for _ in range(6)]
        assert losses[-1] < 0.9 * losses[0]

    def test_settings_that_need_one_process_or_all_classes(self, tiny_checkpoint: Path) -> None:
        config, two = replace(TINY, distillation=DistillationConfig(str(tiny_checkpoint))), Processes(0, 2)
        for settings, processes in (({"sampling": 0.5}, SINGLE_PROCESS), ({}, two)):
            with pytest.raises(UsageError, match=r"distillation\.kl needs one process and sampling = 1"):
                Distillation.of(replace(config, **settings), made_up_faces(), CPU, processes)
        other = replace(config, embedding_size=8, distillation=replace(config.distillation, kl=0.0))
        with pytest.raises(UsageError, match=r"expected one process, or embedding_size = 16, .* got 8"):
            Distillation.of(other, made_up_faces(), CPU, two)

    def test_a_projection_head_is_learned_for_a_teacher_of_another_size(
        self, tiny_checkpoint: Path, tmp_path: Path
    ) -> None:
        distillation = DistillationConfig(str(tiny_checkpoint), l2=50.0)
        config = replace(TINY, embedding_size=8, batch_size=24, augmentation=self.STILL, distillation=distillation)
        run = Run(made_up_faces(), replace(config, warmup=0.0, lr=0.02), CPU)
        assert run.distillation is not None
        assert run.projection_head is not None
        images, labels = run.data.at(0)
        first = replace(run.distillation, kl=0.0).loss(images, torch.randn(24, 8), torch.ones(4, 8))
        torch.testing.assert_close(first.detach(), torch.full((24,), 50.0))  # its prediction is 0 at first
        losses = [run.advance(images, labels).loss for _ in range(8)]
        assert losses[-1] < 0.9 * losses[0]
        run.save(tmp_path / "state")
        again = Run(made_up_faces(), run.config, CPU)
        again.resume(tmp_path / "state")
        assert again.projection_head is not None
        assert torch.equal(again.projection_head.weight, run.projection_head.weight)
        assert again.advance(images, labels) == run.advance(images, labels)


class TestInitialization:
    @pytest.fixture
    def same(self, tiny_checkpoint: Path) -> TrainConfig:
        """Settings of a run that starts from the tiny network."""
        settings = load_checkpoint(tiny_checkpoint).header["backbone_settings"]
        return replace(TINY, init_from=str(tiny_checkpoint), **settings)

    def test_weights_centers_and_projection_head_come_from_the_checkpoint(
        self, tiny_checkpoint: Path, same: TrainConfig
    ) -> None:
        faces = made_up_faces()
        run = Run(faces, replace(same, distillation=DistillationConfig("auxiliary", kl=0.0)), CPU)
        before = run.head.centers.detach().clone()
        run.initialize()
        first = Recognizer.load(tiny_checkpoint)
        embeddings = first.embed(faces.images.permute(0, 3, 1, 2))
        found = normalize(run.network.eval()(faces.images.permute(0, 3, 1, 2).float() / 127.5 - 1))
        torch.testing.assert_close(found, embeddings, atol=1e-4, rtol=0)
        means = normalize(torch.stack([embeddings[faces.labels == label].mean(0) for label in range(4)]))
        torch.testing.assert_close(run.head.centers - before, means, atol=1e-4, rtol=0)
        assert run.projection_head is not None
        its = default_auxiliary().embed(faces.images.permute(0, 3, 1, 2))
        fit = Accumulators.of(embeddings, its).solve(1.0).float()
        torch.testing.assert_close(
            run.projection_head(embeddings).detach(), embeddings @ fit[:-1] + fit[-1], atol=1e-3, rtol=0
        )

    def test_only_a_new_run_is_initialized(
        self, tiny_checkpoint: Path, same: TrainConfig, tiny_faces: Path, tmp_path: Path
    ) -> None:
        start = tmp_path / "start"
        start.write_bytes(tiny_checkpoint.read_bytes())
        config = replace(same, init_from=str(start), epochs=1, lr=0.0)
        train(tiny_faces, tmp_path / "net", config=config)
        stored, first = load_checkpoint(tmp_path / "net").network(), load_checkpoint(tiny_checkpoint).network()
        torch.testing.assert_close(stored["conv1.weight"].float(), first["conv1.weight"], atol=1e-3, rtol=1e-3)
        (tmp_path / "again.state").write_bytes((tmp_path / "net.state").read_bytes())
        start.unlink()
        train(tiny_faces, tmp_path / "again", config=config)  # it resumes
        assert torch.equal(load_checkpoint(tmp_path / "again").network()["conv1.weight"], stored["conv1.weight"])
        with pytest.raises(CheckpointError, match="found none"):
            train(tiny_faces, tmp_path / "other", config=config)

    def test_another_network_is_refused(self, same: TrainConfig) -> None:
        run = Run(made_up_faces(), replace(same, embedding_size=8), CPU)
        with pytest.raises(CheckpointError, match="does not fit its network"):
            run.initialize()


@pytest.mark.parametrize("bits", [4, 8])
def test_weights_in_few_bits_are_validated_as_stored(tiny_faces: Path, tmp_path: Path, bits: int) -> None:
    header = train(tiny_faces, tmp_path / "net", config=replace(TINY, epochs=1, weight_bits=bits))
    stored = load_checkpoint(tmp_path / "net")
    weight = stored.tensors["network.conv1.weight"]
    assert weight.dtype == torch.int8
    assert int(weight.abs().max()) == 2 ** (bits - 1) - 1
    assert stored.tensors["network.bn1.running_var"].dtype == torch.float16
    state = torch.load(tmp_path / "net.state", weights_only=True)["network"]
    apart = (stored.network()["conv1.weight"] - state["conv1.weight"]).abs().flatten(1).amax(1)
    assert (apart <= 0.51 * stored.tensors["unit.conv1.weight"]).all()
    pictures = open_data(tiny_faces, TINY)[1]
    assert pictures is not None
    assert validate(Recognizer.load(tmp_path / "net").network, pictures, CPU)["auc"] == pytest.approx(
        header["validation"]["auc"], abs=1e-6
    )


class TestScalars:
    def test_without_tensorboard_one_line_says_so(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
        with (
            pytest.raises(EnvironmentProblem, match=r"pip install 'arcinvert\[tensorboard\]'"),
            open_scalars(tmp_path / "log"),
        ):
            pass
        with open_scalars(None) as scalars:
            scalars(1, {"loss": 1.0})

    def test_scalars_can_be_read_back(self, tiny_faces: Path, tmp_path: Path) -> None:
        pytest.importorskip("tensorboard")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        train(tiny_faces, tmp_path / "net", config=TINY, tensorboard=tmp_path / "log")
        read = EventAccumulator(str(tmp_path / "log")).Reload()
        assert {"loss", "angle", "lr", "images/s", "auc"} <= set(read.Tags()["scalars"])
        assert [event.step for event in read.Scalars("loss")] == [1, 2, 3, 4, 5, 6]
        assert all(0 < event.value < 180 for event in read.Scalars("angle"))
        assert [event.step for event in read.Scalars("auc")] == [3, 6]
