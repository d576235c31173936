"""The face prior that ships, and files that are not one."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from arcinvert.checkpoint import load_checkpoint, save_checkpoint
from arcinvert.errors import CheckpointError, UsageError
from arcinvert.faceprior.prior import FacePrior, default_face_prior, load_face_prior

KIND = {"kind": "face prior"}


@pytest.fixture(scope="module")
def prior() -> FacePrior:
    return default_face_prior()


def parts(size: int = 4) -> dict[str, Tensor]:
    """A small face prior, as it is stored."""
    generator = torch.Generator().manual_seed(0)
    return {
        "mean": torch.full((3, 112, 112), 127, dtype=torch.uint8),
        "components": torch.randn(size, 3, 8, 8, generator=generator).half(),
        "component_scale": torch.linspace(0.1, 0.4, size),
        "codes": torch.randint(-99, 99, (6, size), generator=generator).to(torch.int8),
        "code_scale": torch.full((size,), 0.03),
        "labels": torch.tensor([0, 0, 1, 1, 2, 2], dtype=torch.int32),
        "start.frontal": torch.zeros(size),
        "start.smile": torch.ones(size),
    }


# --- the shipped file


def test_the_shipped_prior_is_whole(prior: FacePrior) -> None:
    assert prior.mean.shape == (3, 112, 112)
    assert 0.2 < float(prior.mean.mean()) < 0.8
    assert prior.components.shape[0] == prior.size == prior.codes.shape[1] == len(prior.code_scale)
    assert len(prior) == len(prior.codes) > 5000
    assert prior.codes.dtype == torch.int8
    assert {"frontal", "neutral", "smile", "yaw_low", "yaw_high"} <= set(prior.starts)
    assert len(prior.digest) == 64
    assert default_face_prior() is prior


def test_its_coefficients_are_whitened(prior: FacePrior) -> None:
    coefficients = prior.coefficients()
    assert coefficients.shape == (len(prior), prior.size)
    assert float(coefficients.mean(0).square().mean().sqrt()) < 0.1
    deviation = coefficients.std(0)
    assert float(deviation.min()) > 0.9
    assert float(deviation.max()) < 1.1
    # Uncorrelated: off the diagonal only what so many rows leave by chance.
    correlation = torch.corrcoef(coefficients[:, :50].T) - torch.eye(50)
    assert float(correlation.square().mean().sqrt()) < 3 / len(prior) ** 0.5


def test_components_come_by_size_and_are_orthogonal(prior: FacePrior) -> None:
    flat = prior.components[:60].flatten(1)
    size = flat.norm(dim=1)
    assert (size[1:] <= size[:-1] * 1.01).all()
    angles = (flat @ flat.T) / torch.outer(size, size) - torch.eye(60)
    assert float(angles.abs().max()) < 0.02


def test_mean_face_and_starting_faces_are_images(prior: FacePrior) -> None:
    assert torch.equal(prior.decode(torch.zeros(1, prior.size))[0], prior.mean)
    faces = prior.decode(torch.stack(list(prior.starts.values())))
    assert faces.shape == (len(prior.starts), 3, 112, 112)
    assert float(faces.min()) > -0.3
    assert float(faces.max()) < 1.3
    named = dict(zip(prior.starts, faces, strict=True))
    assert float((named["yaw_low"] - named["yaw_high"]).abs().mean()) > 0.02


def test_turned_left_and_turned_right_are_mirror_images(prior: FacePrior) -> None:
    left, right = prior.decode(torch.stack([prior.starts["yaw_low"], prior.starts["yaw_high"]]))
    assert float((left - right.flip(-1)).square().mean()) < 0.5 * float((left - right).square().mean())


# --- decoding and encoding


def test_encoding_undoes_decoding(prior: FacePrior) -> None:
    # Small faces are enlarged by interpolation, which costs the fine components some of their size.
    codes = prior.coefficients(range(0, 640, 80))
    again = prior.encode(prior.decode(codes))
    assert float((again - codes)[:, :30].abs().max()) < 0.2
    both = torch.stack([again.flatten(), codes.flatten()])
    assert float(torch.corrcoef(both)[0, 1]) > 0.97


def test_encoding_a_component_at_full_size_gives_its_unit_vector(small_prior: FacePrior) -> None:
    pure = small_prior.mean + torch.nn.functional.interpolate(small_prior.components[3:4], scale_factor=2)
    unit = small_prior.encode(pure)[0]
    assert float(unit[3]) == pytest.approx(1, abs=1e-3)
    assert float(unit.abs().sum()) == pytest.approx(1, abs=0.1)


def test_decoding_is_affine_and_differentiable(small_prior: FacePrior) -> None:
    a, b = small_prior.coefficients(slice(0, 2))[:, None]
    mean = small_prior.mean
    together = small_prior.decode(a + 2 * b) - mean
    apart = (small_prior.decode(a) - mean) + 2 * (small_prior.decode(b) - mean)
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-4)
    latent = torch.zeros(1, small_prior.size, requires_grad=True)
    weight = torch.randn(1, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    (small_prior.decode(latent) * weight).sum().backward()
    assert float(latent.grad.abs().min()) > 0


def test_rows_by_slice_and_by_range_agree(prior: FacePrior) -> None:
    assert torch.equal(prior.coefficients(range(3, 30, 4)), prior.coefficients()[3:30:4])
    assert torch.equal(prior.coefficients(slice(5, 9)), prior.coefficients()[5:9])


def test_to_another_device_keeps_everything(small_prior: FacePrior) -> None:
    moved = small_prior.to("cpu")
    assert moved.digest == small_prior.digest
    assert torch.equal(moved.decode(moved.coefficients()), small_prior.decode(small_prior.coefficients()))
    assert moved.starts.keys() == small_prior.starts.keys()


# --- files


def test_a_small_prior_comes_back(tmp_path: Path) -> None:
    digest = save_checkpoint(tmp_path / "p", KIND, parts())
    prior = load_face_prior(tmp_path / "p")
    assert prior.digest == digest
    assert prior.size == 4
    assert len(prior) == 6
    assert torch.equal(prior.starts["smile"], torch.ones(4))
    assert float(prior.mean[0, 0, 0]) == pytest.approx(127 / 255)
    assert prior.decode(prior.starts["smile"][None]).shape == (1, 3, 112, 112)
    torch.testing.assert_close(prior.components[3], parts()["components"][3].float() * 0.4)


@pytest.mark.parametrize(
    "missing", ["mean", "components", "component_scale", "codes", "code_scale", "labels", "start.frontal"]
)
def test_an_incomplete_prior_is_refused(tmp_path: Path, missing: str) -> None:
    save_checkpoint(tmp_path / "p", KIND, {key: value for key, value in parts().items() if key != missing})
    with pytest.raises(CheckpointError, match="face prior"):
        load_face_prior(tmp_path / "p")


@pytest.mark.parametrize(
    "wrong",
    [
        {"mean": torch.zeros(3, 64, 64)},
        {"components": torch.zeros(5, 3, 8, 8)},
        {"components": torch.zeros(4, 192)},
        {"component_scale": torch.zeros(3)},
        {"codes": torch.zeros(6, dtype=torch.int8)},
        {"code_scale": torch.zeros(5)},
        {"labels": torch.zeros(5, dtype=torch.int32)},
        {"start.smile": torch.zeros(3)},
    ],
    ids=lambda wrong: " ".join(f"{key} {tuple(value.shape)}" for key, value in wrong.items()),
)
def test_parts_that_do_not_fit_each_other_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    save_checkpoint(tmp_path / "p", KIND, parts() | wrong)
    with pytest.raises(CheckpointError, match="face prior"):
        load_face_prior(tmp_path / "p")


def test_another_kind_of_checkpoint_is_refused(tiny_checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a face prior"):
        load_face_prior(tiny_checkpoint)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "p", KIND, parts())
    assert load_checkpoint(tmp_path / "p").header["kind"] == "face prior"
    (tmp_path / "p").write_bytes((tmp_path / "p").read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="not a whole"):
        load_face_prior(tmp_path / "p")
    with pytest.raises(CheckpointError, match="found none"):
        load_face_prior(tmp_path / "nothing")


def test_without_detail_a_face_stays_soft_and_pose_is_unknown(prior: FacePrior) -> None:
    soft = dataclasses.replace(prior, detail=None)
    codes = prior.coefficients(slice(0, 2))
    assert torch.equal(soft.render(codes), prior.decode(codes))
    with pytest.raises(UsageError, match="pose and expression"):
        soft.attributes(codes)
    with pytest.raises(UsageError, match="pose and expression"):
        _ = soft.attribute_weight


def test_moved_leaves_a_face_that_has_the_attributes_already(small_prior: FacePrior) -> None:
    codes = small_prior.coefficients(slice(0, 5))
    torch.testing.assert_close(small_prior.moved(codes, small_prior.attributes(codes)), codes)


def test_moved_follows_the_faces_behind_the_prior_where_a_straight_line_does_not() -> None:
    """The mean face turned, against the average of the faces that are turned so."""
    prior = default_face_prior()
    codes = prior.coefficients()
    predicted = prior.attributes(codes)
    frontal, weight = torch.zeros(1, prior.size), prior.attribute_weight[0]
    for yaw in (-0.18, 0.18):
        there = (predicted[:, 0] - yaw).abs() < 0.03
        average = codes[there].mean(0)
        asked = prior.attributes(frontal).index_fill(1, torch.tensor([0]), yaw)
        bent = prior.moved(frontal, asked)[0]
        straight = yaw * weight / weight.square().sum()
        coarse = slice(0, 40)  # beyond these an average of some hundred faces is mostly chance
        assert float((bent - average)[coarse].norm()) < 0.75 * float((straight - average)[coarse].norm())
    # Beyond what faces do it goes no further.
    far, farther = (prior.moved(frontal, torch.tensor([[yaw, 0.6, 0.85]])) for yaw in (0.5, 0.9))
    torch.testing.assert_close(far, farther)
