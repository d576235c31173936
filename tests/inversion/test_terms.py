"""Each term against a slow independent reference, on hand-made traces without a network."""

import numpy as np
import pytest
import torch

from arcinvert.backbones import build_backbone
from arcinvert.errors import InputError
from arcinvert.inversion.objectives import CosineMatch, L2Match
from arcinvert.inversion.priors import (
    BatchNormMatch,
    ImageL2,
    LatentGaussian,
    LocationMatch,
    PaperBatchNormMatch,
    TotalVariation,
    stored_statistics,
)
from arcinvert.inversion.terms import all_taps, channel_moments
from arcinvert.preprocessing import Preprocessing
from arcinvert.recognizer import ChannelStatistics, Recognizer, Trace


def random_trace(batch=3, channels=(4, 6), side=8):
    generator = torch.Generator().manual_seed(0)
    activations = {
        f"layer{i}": torch.randn(batch, c, side, side, generator=generator) * (i + 1) + i
        for i, c in enumerate(channels)
    }
    embedding = torch.nn.functional.normalize(torch.randn(batch, 5, generator=generator))
    return Trace(torch.rand(batch, 3, 112, 112, generator=generator), embedding, activations)


def statistics(trace, dead=()):
    found = {}
    for layer, value in trace.activations.items():
        c = value.shape[1]
        usable = torch.ones(c, dtype=torch.bool)
        usable[list(dead)] = False
        found[layer] = ChannelStatistics(torch.linspace(-1, 1, c), torch.linspace(0.5, 2, c), usable)
    return found


@pytest.mark.parametrize("channels_last", [False, True])
def test_moments_equal_numpy_and_their_gradient_is_exact(channels_last):
    x = torch.randn(2, 3, 5, 4, dtype=torch.float32)
    x = x.contiguous(memory_format=torch.channels_last) if channels_last else x
    mean, var = channel_moments(x)
    np.testing.assert_allclose(mean, x.numpy().mean((2, 3)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(var, x.numpy().var((2, 3)), rtol=1e-4, atol=1e-6)
    x.requires_grad_(True)
    weight = torch.randn(2, 2, 3)
    mean, var = channel_moments(x)
    (mean * weight[0] + var * weight[1]).sum().backward()
    reference = x.detach().clone().requires_grad_(True)
    v, m = torch.var_mean(reference, (2, 3), correction=0)
    (m * weight[0] + v * weight[1]).sum().backward()
    torch.testing.assert_close(x.grad, reference.grad)


def test_cosine_match_of_the_target_itself_is_zero_and_of_its_opposite_two():
    trace = random_trace()
    assert CosineMatch(trace.embedding)(trace) == pytest.approx(0, abs=1e-6)
    assert CosineMatch(-trace.embedding)(trace) == pytest.approx(2, abs=1e-6)


def test_l2_match_is_the_distance_and_has_a_finite_gradient_at_zero():
    trace = random_trace()
    target = trace.embedding.roll(1, 0)
    expected = np.linalg.norm(trace.embedding.numpy() - target.numpy(), axis=1)
    np.testing.assert_allclose(L2Match(target)(trace), expected, rtol=1e-5)
    embedding = trace.embedding.clone().requires_grad_(True)
    L2Match(trace.embedding)(Trace(trace.image, embedding)).sum().backward()
    assert torch.isfinite(embedding.grad).all()


def test_objectives_refuse_targets_of_another_shape():
    with pytest.raises(InputError, match="expected targets"):
        CosineMatch(torch.ones(3, 7))(random_trace())


def test_batchnorm_match_equals_a_loop_over_channels():
    trace = random_trace()
    stored = statistics(trace, dead=[1])
    expected = np.zeros(3)
    for layer, s in stored.items():
        x = trace.activations[layer].double().numpy()
        for b in range(3):
            costs = [
                (x[b, c].mean() - float(s.mean[c])) ** 2 / float(s.var[c])
                + (x[b, c].std() / float(s.var[c]) ** 0.5 - 1) ** 2
                for c in range(x.shape[1])
                if s.usable[c]
            ]
            expected[b] += np.mean(costs) / len(stored)
    np.testing.assert_allclose(BatchNormMatch(stored)(trace), expected, rtol=1e-4)


def test_batchnorm_match_ignores_statistics_that_are_not_numbers():
    trace = random_trace()
    stored = statistics(trace, dead=[0])
    clean = BatchNormMatch(stored)(trace)
    for s in stored.values():
        s.mean[0], s.var[0] = float("nan"), -1.0
    torch.testing.assert_close(BatchNormMatch(stored)(trace), clean)


def test_batchnorm_match_is_scale_free():
    trace = random_trace()
    stored = statistics(trace)
    larger = Trace(trace.image, trace.embedding, {k: 7 * v for k, v in trace.activations.items()})
    scaled = {k: ChannelStatistics(7 * s.mean, 49 * s.var, s.usable) for k, s in stored.items()}
    torch.testing.assert_close(BatchNormMatch(scaled)(larger), BatchNormMatch(stored)(trace), rtol=1e-4, atol=1e-5)


def test_batchnorm_match_of_one_image_does_not_depend_on_the_others():
    trace = random_trace()
    alone = Trace(trace.image[:1], trace.embedding[:1], {k: v[:1] for k, v in trace.activations.items()})
    stored = statistics(trace)
    torch.testing.assert_close(BatchNormMatch(stored)(alone), BatchNormMatch(stored)(trace)[:1])


def test_paper_form_is_coupled_over_the_batch_and_equals_numpy():
    trace = random_trace()
    stored = statistics(trace)
    expected = 0.0
    for layer, s in stored.items():
        x = trace.activations[layer].double().numpy()
        expected += ((x.mean((0, 2, 3)) - s.mean.numpy()) ** 2).sum()
        expected += ((x.std((0, 2, 3)) - np.sqrt(s.var.numpy())) ** 2).sum()
    assert float(PaperBatchNormMatch(stored)(trace).sum()) == pytest.approx(expected, rel=1e-4)


def test_location_match_is_a_hinge_per_place():
    trace = random_trace(batch=2, channels=(2,), side=3)
    mean = {"layer0": torch.zeros(2, 3, 3)}
    var = {"layer0": torch.full((2, 3, 3), 0.25)}
    x = trace.activations["layer0"].numpy()
    expected = np.maximum(x**2 / 0.25 - 1, 0).mean((1, 2, 3))
    np.testing.assert_allclose(LocationMatch(mean, var)(trace), expected, rtol=1e-5)
    quiet = Trace(trace.image, trace.embedding, {"layer0": torch.full((2, 2, 3, 3), 0.4)})
    assert LocationMatch(mean, var)(quiet).tolist() == [0.0, 0.0]


def test_location_match_without_maps_says_what_to_do():
    with pytest.raises(InputError, match="calibrate"):
        LocationMatch({}, {})(random_trace())


def test_total_variation_and_l2_of_known_images():
    image = torch.zeros(2, 3, 112, 112)
    image[1, :, :, 56:] = 1.0
    trace = Trace(image, torch.ones(2, 1))
    assert TotalVariation()(trace).tolist() == pytest.approx([0.0, 1 / 111])
    gray = Trace(torch.full((1, 3, 112, 112), 0.75), torch.ones(1, 1))
    assert float(ImageL2()(gray)) == pytest.approx(0.5 * (3 * 112 * 112) ** 0.5)


def test_latent_gaussian_needs_a_latent():
    trace = random_trace()
    with pytest.raises(InputError, match="latent"):
        LatentGaussian()(trace)
    assert LatentGaussian()(Trace(trace.image, trace.embedding, latent=torch.full((3, 4), 2.0))).tolist() == [8.0] * 3


def test_taps_are_those_of_the_terms_that_weigh_something():
    stored = statistics(random_trace())
    terms = {"a": (1.0, BatchNormMatch(stored)), "b": (0.0, LocationMatch({"other": torch.ones(1)}, {}))}
    assert all_taps(terms) == ("layer0", "layer1")


def test_a_layer_of_one_position_is_no_prior() -> None:
    network = build_backbone("mobilefacenet", width=0.25, embedding_size=8)
    recognizer = Recognizer(network, Preprocessing(), embedding_size=8)
    found = stored_statistics(recognizer)
    assert set(recognizer.layers) - set(found) == {"features.layers.0.layers.1"}


def test_a_network_without_statistics_costs_nothing() -> None:
    trace = Trace(torch.rand(2, 3, 112, 112), torch.nn.functional.normalize(torch.rand(2, 8)))
    assert torch.equal(BatchNormMatch({})(trace), torch.zeros(2))
