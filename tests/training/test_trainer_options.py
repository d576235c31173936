"""Options of a training run: precision, passes, schedule, noise, clean lists, a teacher, what is kept of the head."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from arcinvert.calibration.auxiliary import default_auxiliary
from arcinvert.calibration.regression import Accumulators
from arcinvert.checkpoint import load_checkpoint
from arcinvert.distributed import ALONE, Ranks
from arcinvert.errors import CheckpointError, DivergedError, EnvironmentProblem, InputError, UsageError
from arcinvert.recognizer import Recognizer
from arcinvert.training import run as run_module
from arcinvert.training.config import TrainConfig
from arcinvert.training.data.batches import Batches
from arcinvert.training.data.faces import Augmentation, Faces
from arcinvert.training.forward import compiled
from arcinvert.training.scalars import open_scalars
from arcinvert.training.trainer import Run, kept_centers, open_data, train, validate

CPU = torch.device("cpu")
TINY = TrainConfig(width=0.05, embedding_size=16, scale=16.0, epochs=2, batch_size=8, lr=0.05, held_out=2)


def made_up_faces(identities: int = 4, each: int = 6) -> Faces:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (identities * each, 112, 112, 3), generator=generator, dtype=torch.uint8)
    files = tuple(f"{i}/{k}.png" for i in range(identities) for k in range(each))
    labels = torch.arange(identities).repeat_interleave(each)
    return Faces(files, images, labels, tuple(str(i) for i in range(identities)), "digest")


def weights_after(steps: int, **settings: Any) -> tuple[list[float], dict[str, Tensor]]:
    run = Run(made_up_faces(), replace(TINY, **settings), CPU)
    losses = [run.advance(*run.data.at(step)).loss for step in range(steps)]
    return losses, {**run.network.state_dict(), **run.head.state_dict()}


class Linear(nn.Module):
    """A network without BatchNorm, so that passes cannot feel each other."""

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

    def test_bf16_follows_full_precision_with_a_head_in_float32(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen = []
        run = Run(made_up_faces(), replace(TINY, amp="bf16"), CPU)
        judge = run.head.judge
        monkeypatch.setattr(
            run.head, "judge", lambda features, *rest: (seen.append(features.dtype), judge(features, *rest))[1]
        )
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
        run.loss_scale, run.good_steps = 1024.0, run_module.PATIENCE - 1
        run.advance(*run.data.at(0))
        assert run.loss_scale == 2048
        for key, value in {**run.network.state_dict(), **run.head.state_dict()}.items():
            torch.testing.assert_close(value, plain[key], atol=1e-6, rtol=1e-4)


class TestCompile:
    def test_where_it_cannot_be_had_training_goes_on_and_says_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(network: nn.Module) -> Callable[..., Tensor]:
            def fail(images: Tensor) -> Tensor:
                network(images)
                raise torch._dynamo.exc.InternalTorchDynamoError("no compiler\nfound here")

            return fail

        monkeypatch.setattr(torch, "compile", broken)
        said: list[str] = []
        run = Run(made_up_faces(), replace(TINY, compile=True, dropout=0.1), CPU, say=said.append)
        assert said == ["torch.compile cannot be had here, training goes on without it: no compiler"]
        plain = Run(made_up_faces(), replace(TINY, dropout=0.1), CPU)
        for key, value in plain.network.state_dict().items():
            assert torch.equal(run.network.state_dict()[key], value), key
        told = []
        for each in (run, plain):
            torch.manual_seed(1)  # for dropout
            told.append(each.advance(*each.data.at(0)))
        assert told[0] == told[1]

    @pytest.mark.slow
    def test_compiled_it_says_the_same(self) -> None:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4), nn.Flatten(), nn.LazyLinear(5))
        images = torch.randn(4, 3, 8, 8)
        network(images)
        before = {key: value.clone() for key, value in network.state_dict().items()}
        fast, reason = compiled(network, images)
        if reason is not None:
            pytest.skip(f"torch.compile does not work here: {reason}")
        assert fast is not network
        assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
        assert all(value.grad is None for value in network.parameters())
        torch.testing.assert_close(fast(images), network(images), atol=1e-5, rtol=1e-4)


class TestBatches:
    @pytest.mark.parametrize("world", [2, 3, 5])
    @pytest.mark.parametrize("batch_size", [7, 24, 40])
    def test_the_shares_of_the_ranks_are_the_batch(self, world: int, batch_size: int) -> None:
        faces = made_up_faces(10, 5)
        config = replace(TINY, batch_size=batch_size, augmentation=Augmentation(surroundings=0.5, gray=0.5))
        whole = Batches(faces, config, CPU, torch.contiguous_format)
        ranks = [Batches(faces, config, CPU, torch.contiguous_format, Ranks(rank, world)) for rank in range(world)]
        images, labels = whole.at(1)
        shares = [part.at(1) for part in ranks]
        assert torch.equal(torch.cat([share[0] for share in shares]), images)
        assert torch.equal(torch.cat([share[1] for share in shares]), labels)

    @pytest.mark.parametrize(("keep_last", "sizes"), [(False, [7, 7, 7]), (True, [7, 7, 7, 3])])
    def test_the_last_batch(self, keep_last: bool, sizes: list[int]) -> None:
        config = replace(TINY, batch_size=7, keep_last=keep_last)
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

    def test_noise_makes_a_share_of_the_labels_wrong_and_belongs_to_the_run(
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
    def test_the_dominant_subcenter_is_kept_if_it_is_known(self) -> None:
        said: list[str] = []
        centers = torch.randn(3, 2, 5)
        kept = kept_centers({"centers": centers, "hits": torch.tensor([[1, 4], [9, 0], [0, 1]])}, said.append)
        assert torch.equal(kept, torch.stack([centers[0, 1], centers[1, 0], centers[2, 1]]))
        assert not said
        kept = kept_centers({"centers": centers, "hits": torch.tensor([[1, 4], [0, 0], [0, 1]])}, said.append)
        assert torch.equal(kept, centers)
        assert said == [
            "all 2 sub-centers are kept, not the dominant one: no picture of 1 identities was seen in the last epoch"
        ]
        assert kept_centers({"centers": centers[:, 0]}, said.append).shape == (3, 5)

    def test_hits_are_those_of_the_last_epoch(self, tiny_faces: Path, tmp_path: Path) -> None:
        train(tiny_faces, tmp_path / "net", config=replace(TINY, subcenters=2, keep_head=True))
        state = torch.load(tmp_path / "net.state", weights_only=True)
        assert state["head"]["hits"].sum(1).tolist() == [6] * 4
        centers = load_checkpoint(tmp_path / "net").tensors["head.centers"]
        kept = state["head"]["centers"][torch.arange(4), state["head"]["hits"].argmax(1)]
        torch.testing.assert_close(centers.float(), nn.functional.normalize(kept), atol=1e-3, rtol=0)


class TestTeacher:
    def test_it_is_followed(self, tiny_checkpoint: Path) -> None:
        settings = {"teacher": str(tiny_checkpoint), "scale": 16.0, "warmup": 0.0}
        plain, _ = weights_after(1)
        both, _ = weights_after(1, **settings)
        l2, _ = weights_after(1, **settings, distill_kl=0.0)
        nothing, _ = weights_after(1, **settings, distill_kl=0.0, distill_l2=0.0)
        assert nothing == pytest.approx(plain)
        assert both[0] > l2[0] > plain[0]
        assert l2[0] - plain[0] < 4

    def test_its_distance_falls(self, tiny_checkpoint: Path) -> None:
        still = Augmentation(0, 0, 0, 0, 0, 0, 0, 0)
        config = replace(TINY, batch_size=24, teacher=str(tiny_checkpoint), distill_l2=50.0, augmentation=still)
        run = Run(made_up_faces(), replace(config, distill_kl=0.0, warmup=0.0, lr=0.02), CPU)
        losses = [run.advance(*run.data.at(0)).loss for _ in range(6)]
        assert losses[-1] < 0.9 * losses[0]

    def test_what_cannot_be_had_is_refused(self, tiny_checkpoint: Path) -> None:
        config = replace(TINY, teacher=str(tiny_checkpoint))
        for settings, ranks in (({"sampling": 0.5}, ALONE), ({}, Ranks(0, 2))):
            with pytest.raises(UsageError, match="need one rank and sampling = 1; else set distill_kl = 0"):
                run_module.open_lesson(replace(config, **settings), made_up_faces(), CPU, ranks)
        other = replace(config, embedding_size=8, distill_kl=0.0)
        with pytest.raises(UsageError, match=r"expected one rank, or embedding_size = 16, .* got 8"):
            run_module.open_lesson(other, made_up_faces(), CPU, Ranks(0, 2))

    def test_one_of_another_size_is_told_by_a_readout_that_is_learnt(
        self, tiny_checkpoint: Path, tmp_path: Path
    ) -> None:
        still = Augmentation(0, 0, 0, 0, 0, 0, 0, 0)
        config = replace(TINY, embedding_size=8, batch_size=24, teacher=str(tiny_checkpoint), augmentation=still)
        run = Run(made_up_faces(), replace(config, warmup=0.0, lr=0.02, distill_l2=50.0), CPU)
        assert run.lesson is not None
        assert run.readout is not None
        images, labels = run.data.at(0)
        centers = torch.zeros(4, 8).fill_(1.0)
        nothing = replace(run.lesson, kl=0.0).loss(images, torch.randn(24, 8), centers)
        torch.testing.assert_close(nothing.detach(), torch.full((24,), 50.0))  # it says 0 of everything at first
        losses = [run.advance(images, labels).loss for _ in range(8)]
        assert losses[-1] < 0.9 * losses[0]
        run.save(tmp_path / "state")
        again = Run(made_up_faces(), run.config, CPU)
        again.resume(tmp_path / "state")
        assert again.readout is not None
        assert torch.equal(again.readout.weight, run.readout.weight)
        assert again.advance(images, labels) == run.advance(images, labels)


class TestStart:
    @pytest.fixture
    def same(self, tiny_checkpoint: Path) -> TrainConfig:
        """Settings of a network like the tiny one."""
        settings = load_checkpoint(tiny_checkpoint).header["backbone_settings"]
        return replace(TINY, start=str(tiny_checkpoint), **settings)

    def test_weights_centers_and_readout_are_those_of_the_start(self, tiny_checkpoint: Path, same: TrainConfig) -> None:
        faces = made_up_faces()
        run = Run(faces, replace(same, teacher="auxiliary", distill_kl=0.0), CPU)
        before = run.head.centers.detach().clone()
        run.begin()
        first = Recognizer.load(tiny_checkpoint)
        embeddings = first.embed(faces.images.permute(0, 3, 1, 2))
        found = normalize(run.network.eval()(faces.images.permute(0, 3, 1, 2).float() / 127.5 - 1))
        torch.testing.assert_close(found, embeddings, atol=1e-4, rtol=0)
        means = normalize(torch.stack([embeddings[faces.labels == label].mean(0) for label in range(4)]))
        torch.testing.assert_close(run.head.centers - before, means, atol=1e-4, rtol=0)
        assert run.readout is not None
        its = default_auxiliary().embed(faces.images.permute(0, 3, 1, 2))
        fit = Accumulators.of(embeddings, its).solve(1.0).float()
        torch.testing.assert_close(run.readout(embeddings).detach(), embeddings @ fit[:-1] + fit[-1], atol=1e-3, rtol=0)

    def test_a_run_begins_there_once(
        self, tiny_checkpoint: Path, same: TrainConfig, tiny_faces: Path, tmp_path: Path
    ) -> None:
        start = tmp_path / "start"
        start.write_bytes(tiny_checkpoint.read_bytes())
        config = replace(same, start=str(start), epochs=1, lr=0.0)
        train(tiny_faces, tmp_path / "net", config=config)
        stored, first = load_checkpoint(tmp_path / "net").network(), load_checkpoint(tiny_checkpoint).network()
        torch.testing.assert_close(stored["conv1.weight"].float(), first["conv1.weight"], atol=1e-3, rtol=1e-3)
        (tmp_path / "again.state").write_bytes((tmp_path / "net.state").read_bytes())
        start.unlink()
        train(tiny_faces, tmp_path / "again", config=config)  # what has begun does not begin again
        assert torch.equal(load_checkpoint(tmp_path / "again").network()["conv1.weight"], stored["conv1.weight"])
        with pytest.raises(CheckpointError, match="found none"):
            train(tiny_faces, tmp_path / "other", config=config)

    def test_another_network_is_refused(self, same: TrainConfig) -> None:
        run = Run(made_up_faces(), replace(same, embedding_size=8), CPU)
        with pytest.raises(CheckpointError, match="does not fit its network"):
            run.begin()


@pytest.mark.parametrize("bits", [4, 8])
def test_weights_in_few_bits_are_judged_as_stored(tiny_faces: Path, tmp_path: Path, bits: int) -> None:
    header = train(tiny_faces, tmp_path / "net", config=replace(TINY, epochs=1, bits=bits))
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

    def test_what_is_written_can_be_read_back(self, tiny_faces: Path, tmp_path: Path) -> None:
        pytest.importorskip("tensorboard")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        train(tiny_faces, tmp_path / "net", config=TINY, tensorboard=tmp_path / "log")
        read = EventAccumulator(str(tmp_path / "log")).Reload()
        assert {"loss", "angle", "lr", "images/s", "auc"} <= set(read.Tags()["scalars"])
        assert [event.step for event in read.Scalars("loss")] == [1, 2, 3, 4, 5, 6]
        assert all(0 < event.value < 180 for event in read.Scalars("angle"))
        assert [event.step for event in read.Scalars("auc")] == [3, 6]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"sampling": 0}, "sampling above 0"),
        ({"sampling": 1.5}, "sampling above 0"),
        ({"label_noise": 2}, "label_noise from 0 to 1"),
        ({"accumulate": 0}, "accumulate of at least 1"),
        ({"accumulate": 33}, "batch_size of at least twice as much"),
        ({"amp": "fp8"}, "amp out of none, bf16, fp16, got 'fp8'"),
        ({"amp": True}, "expected str for amp"),
        ({"milestones": 3}, "a list of numbers above 0 for milestones"),
        ({"milestones": [0]}, "a list of numbers above 0 for milestones"),
        ({"milestones": ["x"]}, "a list of numbers above 0 for milestones"),
        ({"teacher": 1}, "expected str for teacher"),
        ({"bits": 1}, "bits of 16, or from 2 to 8, got 1"),
        ({"bits": 12}, "bits of 16, or from 2 to 8, got 12"),
    ],
)
def test_settings_that_do_not_fit_are_refused(document: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        TrainConfig.from_mapping(document)


def test_settings_survive_json() -> None:
    config = replace(TINY, milestones=(1.0, 1.5), amp="bf16", sampling=0.5)
    assert TrainConfig.from_mapping(json.loads(json.dumps(asdict(config)))) == config
