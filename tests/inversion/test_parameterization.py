import pytest
import torch

from arcinvert.errors import InputError
from arcinvert.faceprior.generator import LAYERS
from arcinvert.faceprior.prior import default_face_prior
from arcinvert.inversion.parameterization import FaceLatent, Fourier, Pixels, noise_start


def parameterizations(prior):
    start = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1
    return {
        "pixels": (Pixels(start), start),
        "fourier": (Fourier(start), start),
        "latent": (FaceLatent(prior, torch.zeros(2, prior.size)), prior.mean.expand(2, -1, -1, -1)),
    }


@pytest.mark.parametrize("name", ["pixels", "fourier", "latent"])
def test_the_first_image_is_the_start(name, small_prior):
    parameterization, start = parameterizations(small_prior)[name]
    within = 0.02 if name == "latent" else 1e-4  # whose steps may multiply in bfloat16
    torch.testing.assert_close(parameterization().detach(), start, atol=within, rtol=1e-4)


@pytest.mark.parametrize("name", ["pixels", "fourier", "latent"])
def test_reaches_a_darker_image_in_five_adam_steps(name, small_prior):
    parameterization, _ = parameterizations(small_prior)[name]
    optimizer = torch.optim.Adam(parameterization.parameters(), lr=0.05)
    before = float(parameterization().detach().mean())
    for _ in range(5):
        optimizer.zero_grad()
        parameterization().square().mean().backward()
        optimizer.step()
    assert float(parameterization().detach().mean()) < before - 1e-3


@pytest.mark.parametrize("name", ["pixels", "fourier", "latent"])
def test_rows_do_not_touch_each_other(name, small_prior):
    parameterization, _ = parameterizations(small_prior)[name]
    parameterization()[0].square().sum().backward()
    for parameter in parameterization.parameters():
        assert parameter.grad[0].abs().sum() > 0
        assert parameter.grad[1].abs().sum() == 0


def test_pixels_stay_in_range_and_keep_their_gradient_outside():
    pixels = Pixels(torch.ones(1, 3, 112, 112))
    with torch.no_grad():
        pixels.normalized.add_(1.0)
    image = pixels()
    assert float(image.detach().max()) == 1.0
    image.sum().backward()
    assert bool((pixels.normalized.grad != 0).all())


def test_fourier_stays_inside_and_a_single_coefficient_is_a_wave():
    fourier = Fourier(torch.full((1, 3, 112, 112), 0.5))
    with torch.no_grad():
        fourier.spectrum[0, 0, 0, 2, 0] = 2.0
    image = fourier().detach()
    assert 0 < float(image.min()) < float(image.max()) < 1
    assert float(image[0, 1].std()) == 0.0
    wave = torch.logit(image[0, 0, 5])
    expected = torch.cos(2 * torch.pi * 2 * torch.arange(112) / 112)
    assert float(torch.corrcoef(torch.stack([wave, expected]))[0, 1]) > 0.9999


def test_the_result_is_the_large_picture_of_the_same_face(small_prior):
    center = small_prior.latents(range(2))
    face = FaceLatent(small_prior, center)
    with torch.no_grad():
        face.coordinates.copy_(small_prior.latents(range(2, 4)) - center)
        torch.testing.assert_close(face(), small_prior.render(small_prior.latents(range(2, 4)), rough=True))
        torch.testing.assert_close(face.result(), small_prior.render(small_prior.latents(range(2, 4)), 224))


def test_the_result_has_the_detail_of_the_generator():
    prior = default_face_prior()
    face = FaceLatent(prior, prior.latents([3, 40]))
    with torch.no_grad():
        assert torch.equal(face.result(), prior.detailed(prior.latents([3, 40])))
        assert face.result(448).shape == (2, 3, 448, 448)


def test_bad_starts_are_refused(small_prior):
    with pytest.raises(InputError, match="starting images"):
        Pixels(torch.rand(1, 3, 64, 64))
    with pytest.raises(InputError, match="finite"):
        Fourier(torch.full((1, 3, 112, 112), float("nan")))
    with pytest.raises(InputError, match="expected centers"):
        FaceLatent(small_prior, torch.zeros(1, 7))


def test_noise_is_the_generators_own():
    first = noise_start([torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)])
    second = noise_start([torch.Generator().manual_seed(2)])
    assert torch.equal(first[1], second[0])
    normalized = 2 * first - 1
    assert abs(float(normalized.mean())) < 0.02
    assert abs(float(normalized.std()) - 1) < 0.02


def test_refining_lets_each_layer_move_alone_and_starts_at_the_same_face():
    prior = default_face_prior()
    asked = torch.full((2, 5), torch.nan)
    asked[0, 0] = prior.attribute_bias[0]
    centers = prior.latents([3, 40])
    face = FaceLatent(prior, centers, attributes=asked, layer_spread=0.5)
    assert face.offsets() is None
    assert face.latent().shape == (2, prior.size)
    face.refine()
    with torch.no_grad():
        torch.testing.assert_close(face.result(), prior.refined(face.latents(), 224))
    assert face.latent().shape == (2, prior.size + LAYERS * prior.late.start)
    with torch.no_grad():
        face.layers += 1
        assert float(face.offsets()[..., prior.late].abs().max()) == 0
    face.result().square().sum().backward()
    gradient = face.layers.grad.abs().sum(2)
    assert bool((gradient[1, :8] > 0).all())  # the others have styles of the late part alone
    assert bool((gradient[0, :8] > 0).all())


def test_the_layers_of_a_face_that_keeps_its_pose_hardly_turn_it():
    prior = default_face_prior()
    asked = torch.full((2, 5), torch.nan)
    asked[0, 0] = prior.attribute_bias[0]
    face = FaceLatent(prior, prior.latents([3, 3]), attributes=asked, layer_spread=0.5)
    face.refine()
    with torch.no_grad():
        face.layers += torch.randn(LAYERS, prior.late.start, generator=torch.Generator().manual_seed(0))
        kept, free = face.offsets()
    turned = [(offsets @ prior.attribute_weight.T)[:, :3].abs().mean(0) for offsets in (kept, free)]
    assert bool((turned[0] < 0.2 * turned[1]).all())  # yaw, pitch, smile
    early = [float(offsets[:, prior.early].norm()) for offsets in (kept, free)]
    assert 0.3 * early[1] < early[0] < 0.5 * early[1]  # it may move, or judges accept few turned faces
    middle = slice(prior.early.stop, prior.late.start)
    assert float(kept[:, middle].norm()) > 0.8 * float(free[:, middle].norm())


def test_without_a_spread_the_layers_stay_together():
    prior = default_face_prior()
    face = FaceLatent(prior, prior.latents([3]))
    face.refine()
    assert [name for name, _ in face.named_parameters()] == ["coordinates"]
