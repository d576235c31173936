from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize, relu

from arcinvert.calibration.auxiliary import BLOCKS, CHIP, SIZE, DlibResNet, default_auxiliary, load_auxiliary
from arcinvert.checkpoint import load_checkpoint, save_checkpoint
from arcinvert.errors import CheckpointError
from arcinvert.evaluation.metrics import auc, score_pairs
from arcinvert.faceprior.prior import default_face_prior

SHIPPED = Path(__file__).parents[2] / "arcinvert" / "data" / "auxiliary.safetensors"


def test_it_is_a_recognizer() -> None:
    found = default_auxiliary()
    assert found is default_auxiliary("cpu")
    faces = torch.rand(3, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    rows = found.embed(faces)
    assert rows.shape == (3, SIZE)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(found.embed(faces[1:2]), rows[1:2], atol=1e-5, rtol=1e-4)


def test_an_image_has_a_gradient_where_the_chip_lies() -> None:
    faces = torch.rand(1, 3, 112, 112, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    seen = default_auxiliary().trace(faces).embedding
    seen[0, 0].backward()
    assert faces.grad is not None
    moved = faces.grad[0].abs().sum(0)
    assert float(moved[:19].max()) == 0.0  # hair above the forehead is not on a chip
    assert float(moved[:, :5].max()) == 0.0
    assert float(moved[30:, 10:100].mean()) > 0


def test_a_chip_shows_the_face_as_dlib_aligns_it() -> None:
    """The eyes of the five points of ArcFace's template, where dlib's own template has them."""
    grid = (DlibResNet().grid[0] + 1) * 56  # of each pixel of the chip, where it lies in the face
    for point, wanted in (((38.29, 51.70), (47.7, 47.1)), ((73.53, 51.50), (100.3, 47.1))):
        apart = (grid - torch.tensor(point)).square().sum(-1)
        row, column = divmod(int(apart.argmin()), CHIP)
        assert abs(column + 0.5 - wanted[0]) < 1.5
        assert abs(row + 0.5 - wanted[1]) < 1.5


def test_residual_blocks_fill_up_with_zeros() -> None:
    """With convolutions of zeros the output of a block is its input, halved where it strides."""
    network = DlibResNet().eval()
    with torch.no_grad():
        for layer in network.layers[1:]:
            assert isinstance(layer, torch.nn.Conv2d)
            layer.weight.zero_()
            assert layer.bias is not None
            layer.bias.zero_()
        network.fc.weight.copy_(torch.eye(SIZE, 256))
        network.fc.bias.zero_()
        chips = torch.rand(2, 3, CHIP, CHIP, generator=torch.Generator().manual_seed(0))
        found = network.embed_chips(chips)
        x = torch.nn.functional.max_pool2d(torch.relu(network.layers[0](chips)), 3, 2)
        for _ in range(4):
            x = torch.nn.functional.avg_pool2d(x, 2, 2)
    # 35 -> 17 -> 8 -> 4, where the convolution leaves 3; -> 2, where it leaves 1.
    torch.testing.assert_close(found[:, :32], x.mean((2, 3)))
    assert float(found[:, 32:].abs().max()) == 0.0


def test_a_trace_keeps_the_outputs_of_blocks() -> None:
    faces = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    found = default_auxiliary()
    kept = found.trace(faces, taps=BLOCKS).activations
    assert {layer: tuple(kept[layer].shape[1:]) for layer in BLOCKS} == {
        "blocks.4": (64, 17, 17),
        "blocks.6": (64, 17, 17),
        "blocks.8": (128, 8, 8),
    }
    network = found.network
    assert isinstance(network, DlibResNet)
    one = relu(kept["blocks.4"] + network.layers[12](relu(network.layers[11](kept["blocks.4"]))))
    two = relu(one + network.layers[14](relu(network.layers[13](one))))
    torch.testing.assert_close(kept["blocks.6"], two)
    assert all(float(value.min()) >= 0 for value in kept.values())


def test_it_separates_synthetic_identities() -> None:
    prior = default_face_prior()
    faces = prior.portraits(range(40), 3).flatten(0, 1).permute(0, 3, 1, 2).float() / 255
    scores = score_pairs(default_auxiliary().embed(faces).numpy(), np.arange(40).repeat(3))
    assert auc(genuine=scores.genuine, impostor=scores.impostor) > 0.9


def test_the_mean_of_faces_is_subtracted() -> None:
    prior = default_face_prior()
    faces = prior.pictures(range(0, len(prior), 60)).permute(0, 3, 1, 2).float() / 255
    rows = default_auxiliary().embed(faces)
    assert float(rows.mean(0).norm()) < 0.25
    assert float(normalize(rows).mean(0).norm()) < 0.25


@pytest.mark.parametrize("what", ["another kind", "no unit", "a layer is missing", "no file"])
def test_other_files_are_refused(tmp_path: Path, what: str) -> None:
    stored = load_checkpoint(SHIPPED)
    header, tensors = dict(stored.header), dict(stored.tensors)
    path = tmp_path / "a.safetensors"
    if what == "another kind":
        header["kind"] = "face prior"
    elif what == "a layer is missing":
        del tensors["network.layers.3.weight"]
    elif what == "no unit":
        del tensors["unit.layers.3.weight"]
    if what != "no file":
        save_checkpoint(path, header, tensors)
    with pytest.raises(CheckpointError, match=r"auxiliary|mismatches|found none|no scale that fits"):
        load_auxiliary(path)
