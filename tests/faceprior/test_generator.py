"""The shipped generator: what it draws, and what it refuses to read."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate

from arcinvert.checkpoint import load_checkpoint, save_checkpoint
from arcinvert.errors import CheckpointError
from arcinvert.faceprior.generator import LAYERS, FaceGenerator, haar, load_generator
from arcinvert.faceprior.prior import FacePrior, default_face_prior, oval

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


def test_the_early_exit_draws_nearly_the_same_face_as_the_whole_generator_and_nearer_than_the_decoder(
    prior: FacePrior,
) -> None:
    latents = torch.cat([prior.latents(ROWS), 1.3 * prior.latents(ROWS)])
    with torch.no_grad():
        whole, rough = prior.refined(latents), prior.refined(latents, rough=True)
        soft = prior.render(latents).clamp(0, 1)
    apart, soft_apart = (float((picture - whole).square().mean().sqrt()) for picture in (rough, soft))
    assert apart < 0.045
    assert apart < 0.5 * soft_apart


def test_the_descent_along_the_early_exit_goes_down_in_the_whole_generator(prior: FacePrior) -> None:
    start, goal = prior.latents(ROWS[:1]), prior.refined(prior.latents(ROWS[1:2])).detach()

    def cost(latents: torch.Tensor, *, rough: bool) -> torch.Tensor:
        return (prior.refined(latents, rough=rough) - goal).square().mean()

    moving = start.clone().requires_grad_()
    cost(moving, rough=True).backward()
    assert moving.grad is not None
    with torch.no_grad():
        step = 0.3 * moving.grad / moving.grad.norm()
        assert cost(start - step, rough=False) < cost(start, rough=False) < cost(start + step, rough=False)


@pytest.mark.parametrize("hardware", [True, False])
def test_products_in_bfloat16_change_a_rough_picture_little(
    prior: FacePrior, hardware: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arcinvert.faceprior.prior.has_bfloat16", lambda device: hardware)
    latents = prior.latents(ROWS[:1])
    with torch.no_grad():
        assert prior.generator is not None
        exact, rough = prior.generator(latents, 112, early=True), prior.refined(latents, rough=True)
    assert rough.dtype == torch.float32
    assert float((rough - exact).abs().mean()) < 0.01
    assert torch.equal(rough, exact) != hardware


def test_what_a_face_takes_of_the_memory_is_measured(prior: FacePrior) -> None:
    largest = 2 * 256 * 112**2  # the map that the early exit takes, in bfloat16
    assert 4 * largest < prior.refined_bytes < 40 * largest
    decoder_alone = replace(prior, generator=None)
    assert decoder_alone.refined_bytes < prior.refined_bytes


def test_the_sharp_face_has_more_detail(prior: FacePrior) -> None:
    latents = prior.latents(ROWS)

    def detail(pictures: torch.Tensor) -> float:
        return float((pictures[..., 1:] - pictures[..., :-1]).abs().mean())

    with torch.no_grad():
        assert detail(prior.refined(latents, 224)) > 1.3 * detail(prior.render(latents, 224))


@pytest.mark.parametrize("size", [112, 224, 448])
def test_a_detailed_face_has_the_coarse_forms_of_the_decoder_and_the_detail_of_the_generator(
    prior: FacePrior, size: int
) -> None:
    latents = prior.latents(ROWS[:2])
    with torch.no_grad():
        coarse, fine = prior.render(latents, min(size, 224)).clamp(0, 1), prior.refined(latents, size)
        found = prior.detailed(latents, size)
    assert found.shape == fine.shape

    def distance(one: torch.Tensor, other: torch.Tensor) -> float:
        return float((one - other).square().mean().sqrt())

    def forms(picture: torch.Tensor) -> torch.Tensor:
        return avg_pool2d(picture, picture.shape[-1] // 28)

    def detail(picture: torch.Tensor) -> torch.Tensor:
        picture = avg_pool2d(picture, picture.shape[-1] // coarse.shape[-1])
        return picture - interpolate(forms(picture), size=picture.shape[-1], mode="bilinear")

    assert distance(forms(found), forms(coarse)) < 0.3 * distance(forms(fine), forms(coarse))
    assert distance(detail(found), detail(fine)) < 0.8 * distance(detail(coarse), detail(fine))


def test_where_a_contour_lies_elsewhere_a_detailed_face_is_the_decoders(
    prior: FacePrior, monkeypatch: pytest.MonkeyPatch
) -> None:
    coarse, fine = torch.full((1, 3, 112, 112), 0.7), torch.full((1, 3, 112, 112), 0.6)
    coarse[..., 76:] = 0.2  # behind the cheek
    fine[..., 84:] = 0.1  # its edge lies farther to the right
    fine[..., ::2, :] += 0.02
    monkeypatch.setattr(FacePrior, "render", lambda *arguments: coarse)
    monkeypatch.setattr(FacePrior, "refined", lambda *arguments: fine)
    found = prior.detailed(prior.latents(ROWS[:1]), 112)
    between = slice(78, 82)
    torch.testing.assert_close(found[..., between], coarse[..., between], atol=0.02, rtol=0)
    rows = (found[..., 1::2, 10:40] - found[..., ::2, 10:40]).mean()
    assert float(rows) == pytest.approx(-0.02, abs=1e-3), "the detail is left where both pictures have the same forms"


def test_the_oval_is_the_face_and_fades_into_the_hair() -> None:
    inside = oval(112)
    assert inside.shape == (112, 112)
    for across, down in ((38, 52), (74, 52), (56, 72), (42, 92), (71, 92)):  # eyes, nose, corners of the mouth
        assert float(inside[down, across]) == 1
    edges = (inside[0], inside[-1], inside[:, 0], inside[:, -1])
    assert float(edges[0].max()) == float(edges[2].max()) == float(edges[3].max()) == 0
    assert 0 < float(inside[:, 56].sub(0.5).abs().min()) < 0.4


def test_without_a_generator_a_detailed_face_is_the_decoders(prior: FacePrior) -> None:
    latents = prior.latents(ROWS[:2])
    with torch.no_grad():
        assert torch.equal(replace(prior, generator=None).detailed(latents), prior.render(latents, 224))


def test_haar_is_the_inverse_wavelet_transform() -> None:
    picture = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    a, b, c, d = (picture[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1))
    low, down, across, both = (a + b + c + d) / 2, (a + b - c - d) / 2, (a - b + c - d) / 2, (a - b - c + d) / 2
    details = torch.stack([down, across, both], 2).flatten(1, 2)
    torch.testing.assert_close(haar(torch.cat([low, details], 1)), picture)


def test_a_leveled_transform_has_no_mean_in_the_diagonal_band_and_all_else() -> None:
    bands = torch.randn(2, 12, 8, 8, generator=torch.Generator().manual_seed(0)) + 1
    checkers = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(8, 8)
    plain, level = haar(bands), haar(bands, level=True)
    assert float((plain * checkers).mean((2, 3)).abs().min()) > 0.1
    torch.testing.assert_close((level * checkers).mean((2, 3)), torch.zeros(2, 3))
    torch.testing.assert_close(plain - level, (plain * checkers).mean((2, 3), keepdim=True) * checkers)


def test_another_file_and_a_damaged_one_are_refused(tmp_path: Path, generator: FaceGenerator) -> None:
    path, early_exit = tmp_path / "generator.safetensors", tmp_path / "generator_early_exit.safetensors"
    state = generator.state_dict()
    tensors = {f"network.{name}": value for name, value in state.items() if not name.startswith("early_exit.")}
    own = {f"network.{name}": value for name, value in generator.early_exit.state_dict().items()}
    save_checkpoint(path, {"kind": "face generator"}, tensors)
    save_checkpoint(early_exit, {"kind": "generator early exit"}, own)
    assert isinstance(load_generator(path, early_exit), FaceGenerator)
    with pytest.raises(CheckpointError, match="not a face generator"):
        load_generator(early_exit, early_exit)
    with pytest.raises(CheckpointError, match="not a generator early exit"):
        load_generator(path, path)
    save_checkpoint(early_exit, {"kind": "generator early exit"}, {name: own[name] for name in list(own)[1:]})
    with pytest.raises(CheckpointError, match=r"early_exit\.\w+(\.\w+)* is missing"):
        load_generator(path, early_exit)
    del tensors["network.last.bias"]
    save_checkpoint(path, {"kind": "face generator"}, tensors)
    with pytest.raises(CheckpointError, match=r"last\.bias is missing"):
        load_generator(path, early_exit)


@pytest.mark.parametrize("name", ["generator", "generator_early_exit"])
def test_the_files_say_whose_they_are(name: str) -> None:
    import arcinvert

    header = load_checkpoint(Path(arcinvert.__file__).parent / "data" / f"{name}.safetensors").header
    assert ("Apache" if name == "generator" else "generator draws") in header["source"]
    assert "non-commercial" in header["license"]
