"""The tracer: a compiled pass is the plain pass, and without a compiler the plain pass takes its place."""

import logging

import pytest
import torch
from torch import Tensor
from torch._dynamo.exc import BackendCompilerFailed

from arcinvert.inversion.tracer import Tracer
from arcinvert.inverter import Inverter
from arcinvert.recognizer import Recognizer, Trace


def gradient(trace: Trace, images: Tensor) -> Tensor:
    cost = trace.embedding[:, 0].sum() + sum(value.square().mean() for value in trace.activations.values())
    return torch.autograd.grad(cost, images)[0]


def hooks(recognizer: Recognizer) -> int:
    return sum(len(module._forward_pre_hooks) for module in recognizer.network.modules())


@pytest.mark.slow
def test_a_compiled_pass_is_the_plain_pass(tiny_recognizer: Recognizer) -> None:
    taps = tiny_recognizer.layers[2:6]
    images = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    expected = tiny_recognizer.trace(images, taps=taps)
    with Tracer(compile=True) as tracer:
        found = tracer.trace(tiny_recognizer, images, taps, None)
        torch.testing.assert_close(found.embedding, expected.embedding)
        assert list(found.activations) == list(expected.activations)
        torch.testing.assert_close(gradient(found, images), gradient(expected, images), rtol=1e-3, atol=1e-6)
        noisy = tracer.trace(tiny_recognizer, images, taps, None, tiny_recognizer.noisy_weights(0.1, 0))
        expected = tiny_recognizer.trace(images, taps=taps, weights=tiny_recognizer.noisy_weights(0.1, 0))
        torch.testing.assert_close(noisy.embedding, expected.embedding)
        assert not torch.allclose(noisy.embedding, found.embedding, atol=1e-3)
        torch.testing.assert_close(gradient(noisy, images), gradient(expected, images), rtol=1e-3, atol=1e-6)
        fewer = tracer.trace(tiny_recognizer, images, taps[:1], None)
        assert list(fewer.activations) == [taps[0]]
        assert tracer.compile  # it did not fall back to the plain pass
    assert hooks(tiny_recognizer) == 0


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_plain_pass_is_that_of_the_recognizer(tiny_recognizer: Recognizer, precision: torch.dtype) -> None:
    images, latent = torch.rand(1, 3, 112, 112, generator=torch.Generator().manual_seed(0)), torch.ones(1, 4)
    taps = tiny_recognizer.layers[:1]
    found = Tracer(precision).trace(tiny_recognizer, images, taps, latent)
    expected = tiny_recognizer.trace(images, taps=taps, precision=precision)
    assert torch.equal(found.embedding, expected.embedding)
    assert found.embedding.dtype == torch.float32
    assert torch.equal(found.activations[taps[0]], expected.activations[taps[0]])
    assert found.latent is latent


def test_without_a_compiler_a_run_continues_and_warns_once(
    tiny_inverter: Inverter,
    targets: Tensor,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(network: torch.nn.Module) -> torch.nn.Module:
        def fails(shown: Tensor, weights: object) -> Tensor:
            raise BackendCompilerFailed(broken, RuntimeError("no C++ compiler"), None)

        return fails  # type: ignore[return-value]

    monkeypatch.setattr(torch, "compile", broken)
    plain = tiny_inverter.reconstruct(targets, steps=2, batch_size=2)
    assert caplog.messages == []
    compiled = tiny_inverter.reconstruct(targets, steps=2, batch_size=2, compile=True)
    for one, other in zip(plain, compiled, strict=True):
        assert torch.equal(one.pixels, other.pixels)
    (record,) = caplog.records  # of two batches
    assert record.levelno == logging.WARNING
    assert "torch.compile failed" in record.getMessage()
    assert hooks(tiny_inverter.recognizer) == 0
