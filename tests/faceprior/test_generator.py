"""The shipped generator: what it draws, and what it refuses to read."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import avg_pool2d

from arcinvert.checkpoint import load_checkpoint, save_checkpoint
from arcinvert.errors import CheckpointError
from arcinvert.faceprior.generator import LAYERS, FaceGenerator, haar, load_generator
from arcinvert.faceprior.prior import FacePrior, default_face_prior

ROWS = [3, 1500, 2600, 4200]


@pytest.fixture(scope="module")
def prior() -> FacePrior:
    return default_face_prior()


@pytest.fixture(scope="module")
def generator(prior: FacePrior) -> FaceGenerator:
    assert prior.generator is not None
    return prior.generator


def test_it_draws_the_stored_faces_nearer_than_the_decoder_does(prior: FacePrior) -> None:
    stored = prior.pictures(ROWS).permute(0, 3, 1, 2) / 255
    latents = prior.latents(ROWS)
    with torch.no_grad():
        sharp, soft = prior.refined(latents), prior.render(latents).clamp(0, 1)
    apart = [float((picture - stored).abs().mean()) for picture in (sharp, soft)]
    assert apart[0] < 0.02  # of the compression of the stored pictures and of latents and weights
    assert apart[0] < 0.4 * apart[1]


def test_sizes_are_one_picture_and_a_face_does_not_depend_on_its_neighbors(prior: FacePrior) -> None:
    latents = prior.latents(ROWS[:2])
    with torch.no_grad():
        large, small = prior.refined(latents, 448), prior.refined(latents, 112)
        torch.testing.assert_close(avg_pool2d(large, 4), small, atol=0.01, rtol=0)
        torch.testing.assert_close(prior.refined(latents[1:], 112), small[1:])
    assert large.shape == (2, 3, 448, 448)
    assert 0 <= float(large.min()) < float(large.max()) <= 1


def test_every_group_of_a_latent_has_a_gradient_and_no_weight_has(generator: FaceGenerator, prior: FacePrior) -> None:
    latents = prior.latents(ROWS[:1]).requires_grad_()
    generator(latents, 112).square().sum().backward()
    assert latents.grad is not None
    assert bool(torch.isfinite(latents.grad).all())
    assert all(float(group.abs().max()) > 0 for group in latents.grad.split(256, 1))
    assert not any(parameter.requires_grad for parameter in generator.parameters())


def test_offsets_of_all_layers_are_another_latent_and_those_of_half_change_less(prior: FacePrior) -> None:
    latents, other = prior.latents(ROWS[:1]), prior.latents(ROWS[1:2])
    offsets = (other - latents)[:, None].repeat(1, LAYERS, 1)
    with torch.no_grad():
        start, end = prior.refined(latents), prior.refined(other)
        whole = prior.refined(latents, offsets=offsets)
        offsets[:, : LAYERS // 2] = 0
        half = prior.refined(latents, offsets=offsets)
        torch.testing.assert_close(prior.refined(latents, offsets=torch.zeros_like(offsets)), start)
        torch.testing.assert_close(prior.refined(other, offsets=0 * offsets), end)
    apart = [float((picture - start).abs().mean()) for picture in (half, whole)]
    assert 0.01 < apart[0] < apart[1]


@pytest.mark.parametrize("hardware", [True, False])
def test_a_rough_picture_is_nearly_the_same(prior: FacePrior, hardware: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arcinvert.faceprior.prior.has_bfloat16", lambda device: hardware)
    latents = prior.latents(ROWS[:1])
    with torch.no_grad():
        exact, rough = prior.refined(latents), prior.refined(latents, rough=True)
    assert rough.dtype == torch.float32
    assert float((rough - exact).abs().mean()) < 0.01
    assert torch.equal(rough, exact) != hardware


def test_what_a_face_takes_of_the_memory_is_measured(prior: FacePrior) -> None:
    largest = 4 * 64 * 448**2  # a map of the last layer
    assert 4 * largest < prior.refined_bytes < 16 * largest
    decoder_alone = replace(prior, generator=None)
    assert decoder_alone.refined_bytes < prior.refined_bytes / 4


def test_the_sharp_face_has_more_detail(prior: FacePrior) -> None:
    latents = prior.latents(ROWS)

    def detail(pictures: torch.Tensor) -> float:
        return float((pictures[..., 1:] - pictures[..., :-1]).abs().mean())

    with torch.no_grad():
        assert detail(prior.refined(latents, 224)) > 1.3 * detail(prior.render(latents, 224))


def test_haar_is_the_inverse_wavelet_transform() -> None:
    picture = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    a, b, c, d = (picture[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1))
    low, down, across, both = (a + b + c + d) / 2, (a + b - c - d) / 2, (a - b + c - d) / 2, (a - b - c + d) / 2
    details = torch.stack([down, across, both], 2).flatten(1, 2)
    torch.testing.assert_close(haar(torch.cat([low, details], 1)), picture)


def test_another_file_and_a_damaged_one_are_refused(tmp_path: Path, generator: FaceGenerator) -> None:
    path = tmp_path / "generator.safetensors"
    tensors = {f"network.{name}": value for name, value in generator.state_dict().items()}
    save_checkpoint(path, {"kind": "face generator"}, tensors)
    assert isinstance(load_generator(path), FaceGenerator)
    del tensors["network.last.bias"]
    save_checkpoint(path, {"kind": "face generator"}, tensors)
    with pytest.raises(CheckpointError, match=r"last\.bias is missing"):
        load_generator(path)
    save_checkpoint(path, {"kind": "face prior"}, tensors)
    with pytest.raises(CheckpointError, match="not a face generator"):
        load_generator(path)


def test_the_file_says_whose_it_is() -> None:
    import arcinvert

    header = load_checkpoint(Path(arcinvert.__file__).parent / "data" / "generator.safetensors").header
    assert "Apache" in header["source"]
    assert "non-commercial" in header["license"]
