"""Diversity of the variations of a target."""

from pathlib import Path

import lpips
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from arcinvert.errors import CheckpointError, EnvironmentProblem
from arcinvert.faceprior.prior import FacePrior
from arcinvert.inversion.priors import stored_statistics
from arcinvert.inverter import Inverter
from arcinvert.synthesis.diversity import BACKBONE, VARIABLE, feature_distance, open_distance


@pytest.fixture(autouse=True)
def no_backbone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture(scope="module")
def faces(small_prior: FacePrior) -> Tensor:
    return small_prior.pictures(range(5))


@pytest.fixture(scope="module")
def alexnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights under the names of torchvision's file (without the layers that LPIPS does not have)."""
    generator = torch.Generator().manual_seed(3)
    sizes = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
    weights = {}
    for layer, (outputs, inputs, kernel) in sizes.items():
        fan = inputs * kernel**2
        random = torch.randn(outputs, inputs, kernel, kernel, generator=generator)
        weights[f"features.{layer}.weight"] = random * (2 / fan) ** 0.5
        weights[f"features.{layer}.bias"] = torch.randn(outputs, generator=generator) * 0.1
    path = tmp_path_factory.mktemp("alexnet") / BACKBONE
    torch.save({**weights, "classifier.1.bias": torch.zeros(3)}, path)
    return path


# --- distance by the attacked network


def test_the_mean_distance_against_a_loop_over_pairs(tiny_inverter: Inverter, faces: Tensor) -> None:
    recognizer = tiny_inverter.recognizer
    stored = stored_statistics(recognizer, tiny_inverter.calibration)
    layers = [name for name in stored if recognizer.layer_sizes[name][1] in (28, 56)]
    assert layers
    assert len(layers) < len(stored)
    with torch.no_grad():
        seen = recognizer.trace(faces.permute(0, 3, 1, 2) / 255, taps=layers).activations
    distances = []
    for i in range(len(faces)):
        for k in range(i):
            per_layer = []
            for name in layers:
                mean, deviation = stored[name].mean.view(-1, 1, 1), stored[name].var.view(-1, 1, 1).sqrt()
                one, other = ((seen[name][row] - mean) / deviation for row in (i, k))
                per_layer.append(float((1 - cosine_similarity(one, other, dim=0)).mean()))
            distances.append(sum(per_layer) / len(per_layer))
    expected = sum(distances) / len(distances)
    assert feature_distance(tiny_inverter, faces) == pytest.approx(expected, abs=1e-4)


def test_0_for_equal_images_and_more_for_others(tiny_inverter: Inverter, faces: Tensor) -> None:
    def distance(*images: Tensor) -> float | None:
        return feature_distance(tiny_inverter, torch.stack(images))

    same = distance(faces[0], faces[0], faces[0])
    noisy = distance(
        faces[0], (faces[0].int() + 3 * torch.randint(-1, 2, faces[0].shape)).clamp(0, 255).to(torch.uint8)
    )
    others = distance(faces[0], faces[1])
    assert same == pytest.approx(0, abs=1e-5)
    assert same < noisy < others
    assert distance(faces[0]) is None


def test_many_images_are_embedded_in_chunks(
    tiny_inverter: Inverter, faces: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = feature_distance(tiny_inverter, faces)
    monkeypatch.setattr("arcinvert.synthesis.diversity.CHUNK", 2)
    assert feature_distance(tiny_inverter, faces) == pytest.approx(at_once, abs=1e-5)


def test_without_the_backbone_the_note_names_it(tiny_inverter: Inverter) -> None:
    found = open_distance(tiny_inverter)
    assert found.name == "feature_distance"
    assert BACKBONE in found.note
    assert VARIABLE in found.note


# --- LPIPS


def reference(alexnet: Path, images: Tensor) -> float:
    """LPIPS by its definition: unit channels, squared differences, weighted, averaged over positions, added up."""
    weights = torch.load(alexnet, weights_only=True)
    heads = torch.load(Path(lpips.__file__).parent / "weights" / "v0.1" / "alex.pth", "cpu", weights_only=True)
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    x = ((images / 255 * 2 - 1) - shift) / scale
    x = x.permute(0, 3, 1, 2)
    total = torch.zeros(len(images), len(images))
    options = {0: (4, 2, False), 3: (1, 2, True), 6: (1, 1, True), 8: (1, 1, False), 10: (1, 1, False)}
    for number, (layer, (stride, padding, pooled)) in enumerate(options.items()):
        x = torch.nn.functional.max_pool2d(x, 3, 2) if pooled else x
        x = torch.nn.functional.conv2d(
            x, weights[f"features.{layer}.weight"], weights[f"features.{layer}.bias"], stride, padding
        ).relu()
        unit = x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)
        squares = (unit[:, None] - unit[None]).square()
        total += (squares * heads[f"lin{number}.model.1.weight"][None]).sum(2).mean((-1, -2))
    rows, columns = torch.triu_indices(len(images), len(images), 1)
    return float(total[rows, columns].mean())


def test_lpips_of_a_named_backbone(
    tiny_inverter: Inverter,
    faces: Tensor,
    alexnet: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(VARIABLE, str(alexnet))
    state = torch.random.get_rng_state()
    found = open_distance(tiny_inverter)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert found.name == "lpips"
    assert found.mean(faces) == pytest.approx(reference(alexnet, faces), rel=1e-4)
    assert found.mean(faces[:1]) is None
    assert "".join(capfd.readouterr()) == ""


def test_lpips_of_the_cache(tiny_inverter: Inverter, alexnet: Path, tmp_path: Path) -> None:
    (tmp_path / "torch" / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "torch" / "hub" / "checkpoints" / BACKBONE).write_bytes(alexnet.read_bytes())
    assert open_distance(tiny_inverter).name == "lpips"


def test_a_named_file_that_is_no_backbone(
    tiny_inverter: Inverter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "none.pth"))
    with pytest.raises(EnvironmentProblem, match="found no file"):
        open_distance(tiny_inverter)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "bad.pth"))
    for content in (b"", b"text", None):
        if content is None:
            torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "bad.pth")
        else:
            (tmp_path / "bad.pth").write_bytes(content)
        with pytest.raises(CheckpointError, match="no AlexNet"):
            open_distance(tiny_inverter)


def test_a_network_without_early_layers(
    tiny_inverter: Inverter, faces: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arcinvert.synthesis.diversity.stored_statistics", lambda *a, **k: {})
    assert feature_distance(tiny_inverter, faces) is None
