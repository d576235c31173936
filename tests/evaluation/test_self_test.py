"""The description of a checkpoint, and the self-tests that catch a wrong contract."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from arcinvert.calibration.cache import load_calibration, save_calibration
from arcinvert.calibration.calibration import Calibration
from arcinvert.errors import CheckpointError, InputError
from arcinvert.evaluation.self_test import SCALINGS, describe, verify
from arcinvert.faceprior.prior import FacePrior, default_face_prior
from arcinvert.preprocessing import Preprocessing
from arcinvert.recognizer import Recognizer

Y1 = "insightface-mobilefacenet-y1.onnx"


class Colors(nn.Module):
    """Tells faces apart by their red in one way and their blue in another, and by brightness hardly."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(8, 3 * 7 * 7, generator=generator))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        small = nn.functional.adaptive_avg_pool2d(x, 7)
        # A wrong scaling saturates the tanh, a swap of channels meets other weights.
        return torch.tanh(small).flatten(1) @ self.weight.T


@pytest.fixture
def recognizer() -> Recognizer:
    return Recognizer(Colors(), Preprocessing(), embedding_size=8)


def test_every_contract_is_tried_and_the_stored_one_is_first(recognizer: Recognizer, small_prior: FacePrior) -> None:
    told: list[int] = []
    found = verify(recognizer, small_prior, faces=40, progress=lambda done, total, text: told.append(total))
    assert (found.scores[0].color, found.scores[0].scaling) == ("RGB", "(x - 127.5) / 127.5")
    assert len(found.scores) == 2 * len(SCALINGS) == told[-1]
    assert len({(score.color, score.scaling) for score in found.scores}) == len(found.scores)
    assert found.parity_mean is None
    assert all(score.parity is None for score in found.scores)
    assert recognizer.preprocessing == Preprocessing()


def test_the_mismatch_is_that_of_all_faces_together(tiny_recognizer: Recognizer, small_prior: FacePrior) -> None:
    found = verify(tiny_recognizer, small_prior, faces=28)
    faces = small_prior.portraits(range(7), 4).flatten(0, 1).permute(0, 3, 1, 2) / 255
    layers = [layer for layer in tiny_recognizer.layers if tiny_recognizer.layer_sizes[layer][1] > 1]
    seen = tiny_recognizer.trace(faces, taps=layers).activations
    costs = []
    for layer in layers:
        stored = tiny_recognizer.statistics(layer)
        assert stored is not None
        mean, std = seen[layer].mean((0, 2, 3)), seen[layer].std((0, 2, 3), unbiased=False)
        cost = (mean - stored.mean) ** 2 / stored.var + (std / stored.var.sqrt() - 1) ** 2
        costs.append(cost[stored.usable].mean())
    assert found.scores[0].mismatch == pytest.approx(float(torch.stack(costs).mean()), rel=1e-3)


def test_a_contract_of_its_own_is_tried_too(small_prior: FacePrior) -> None:
    odd = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    found = verify(Recognizer(Colors(), odd, embedding_size=8), small_prior, faces=40)
    assert len(found.scores) == 2 * len(SCALINGS) + 1
    assert found.scores[0].scaling.startswith("(x - [123.675")


def test_the_mirror_is_that_of_the_stored_contract(recognizer: Recognizer, small_prior: FacePrior) -> None:
    found = verify(recognizer, small_prior.first(7), faces=64)
    assert found.faces == 28  # the prior has seven people, of whom four pictures each are taken
    faces = small_prior.portraits(range(7), 4).flatten(0, 1).permute(0, 3, 1, 2) / 255
    expected = (recognizer.embed(faces) * recognizer.embed(faces.flip(-1))).sum(1).mean()
    assert found.mirror == pytest.approx(float(expected), abs=1e-5)


def test_too_few_faces(recognizer: Recognizer, small_prior: FacePrior) -> None:
    with pytest.raises(InputError, match="at least 8 faces"):
        verify(recognizer, small_prior.first(1), faces=40)


def test_an_untrained_network_is_a_problem(
    tiny_recognizer: Recognizer, small_prior: FacePrior, monkeypatch: pytest.MonkeyPatch
) -> None:
    def strangers(prior: FacePrior, rows: range, each: int, seed: int = 0) -> torch.Tensor:
        return prior.pictures(range(len(rows) * each)).unflatten(0, (len(rows), each))

    monkeypatch.setattr(FacePrior, "portraits", strangers)  # each "person" is several
    found = verify(tiny_recognizer, small_prior, faces=64)
    assert any("AUC" in problem for problem in found.problems)


# --- real networks


def test_a_right_contract_has_no_problem(test_data: Path) -> None:
    path = test_data / "models" / Y1
    found = verify(Recognizer.load(path), default_face_prior(), reference=path, faces=40)
    assert found.problems == ()
    assert found.scores[0].parity is not None
    assert found.scores[0].parity > 0.9999
    assert found.scores[0].auc > 0.95
    assert found.mirror > 0.9


WRONG = [({"color": "BGR"}, "RGB"), ({"mean": (0.0,) * 3, "std": (1 / 255,) * 3}, "(x - 127.5) / 12")]


@pytest.mark.parametrize(("wrong", "says", "compared"), [(*WRONG[0], True), (*WRONG[1], False)])
def test_a_wrong_contract_is_found_out(test_data: Path, wrong: dict[str, object], says: str, compared: bool) -> None:
    path = test_data / "models" / Y1
    recognizer = Recognizer.load(path)
    recognizer.preprocessing = dataclasses.replace(recognizer.preprocessing, **wrong)  # type: ignore[arg-type]
    found = verify(recognizer, default_face_prior(), reference=path if compared else None, faces=40)
    assert found.problems[0].count(says) == 1
    assert (" agrees" in found.problems[0]) == compared
    assert any("BatchNorm statistics better" in problem for problem in found.problems)


def test_another_network_is_refused(test_data: Path) -> None:
    models = test_data / "models"
    with pytest.raises(InputError, match="256-d"):
        verify(Recognizer.load(models / Y1), default_face_prior(), reference=models / "mobileface-v3.onnx", faces=8)


def test_a_file_that_is_no_network_is_refused(tmp_path: Path, recognizer: Recognizer, small_prior: FacePrior) -> None:
    (tmp_path / "net.onnx").write_bytes(b"no network")
    with pytest.raises(CheckpointError, match="ONNX"):
        verify(recognizer, small_prior, reference=tmp_path / "net.onnx", faces=8)


# --- description


def test_the_description_of_a_checkpoint_of_ours(
    tiny_checkpoint: Path, tiny_calibration: Calibration, small_prior: FacePrior, tmp_path: Path
) -> None:
    found = describe(Recognizer.load(tiny_checkpoint), small_prior)
    assert found["format"] == "arcinvert"
    assert found["backbone"] == "iresnet18"
    assert found["batchnorm"] == {"found": 30, "folded": 0, "dropped_channels": 0}
    assert found["contract"]["mean"] == [127.5] * 3
    assert found["thresholds"] == []
    save_calibration(tiny_checkpoint, tmp_path / "calibrated", tiny_calibration)
    found = describe(Recognizer.load(tmp_path / "calibrated"), small_prior)
    assert found["calibration"] == {"faces": 64, "in": "the checkpoint"}


def test_the_parameters_are_counted_once(tiny_checkpoint: Path, small_prior: FacePrior) -> None:
    from arcinvert.checkpoint import build_network
    from arcinvert.formats import open_checkpoint

    network = build_network(open_checkpoint(tiny_checkpoint), "tiny")
    expected = sum(parameter.numel() for parameter in network.parameters())
    assert describe(Recognizer.load(tiny_checkpoint), small_prior)["parameters"] == expected


def test_a_calibration_in_the_cache_is_seen(
    tiny_recognizer: Recognizer, small_prior: FacePrior, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARCINVERT_CACHE", str(tmp_path))
    assert describe(tiny_recognizer, small_prior)["calibration"] is None
    load_calibration(tiny_recognizer, small_prior)
    assert describe(tiny_recognizer, small_prior)["calibration"] == {"faces": 64, "in": "the cache"}
