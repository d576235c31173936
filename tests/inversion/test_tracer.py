"""The compiled pass against the one as it is."""

import dataclasses

import pytest
import torch
from arcinvert.inversion.compiled import CompiledNetwork
from arcinvert.synthesis.reconstruct import SynthConfig, reconstruct
from torch import Tensor
from torch._dynamo.exc import BackendCompilerFailed

from arcinvert.calibration.calibration import Calibration
from arcinvert.faceprior.prior import FacePrior
from arcinvert.inversion import compiled
from arcinvert.recognizer import Recognizer, Trace


def gradient(trace: Trace, images: Tensor) -> Tensor:
    cost = trace.embedding[:, 0].sum() + sum(value.square().mean() for value in trace.activations.values())
    return torch.autograd.grad(cost, images)[0]


def hooks(recognizer: Recognizer) -> int:
    return sum(len(module._forward_pre_hooks) for module in recognizer.network.modules())


@pytest.mark.slow
def test_a_compiled_pass_is_the_pass_as_it_is(tiny_recognizer: Recognizer) -> None:
    taps = tiny_recognizer.layers[2:6]
    images = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    expected = tiny_recognizer.trace(images, taps=taps)
    said: list[str] = []
    with CompiledNetwork(tiny_recognizer, said.append) as network:
        found = network.tracer(taps, torch.float32)(images, None)
        torch.testing.assert_close(found.embedding, expected.embedding)
        assert list(found.activations) == list(expected.activations)
        torch.testing.assert_close(gradient(found, images), gradient(expected, images), rtol=1e-3, atol=1e-6)
        fewer = network.tracer(taps[:1], torch.float32)(images, None)
        assert list(fewer.activations) == [taps[0]]
    assert said == []
    assert hooks(tiny_recognizer) == 0


def test_without_a_compiler_the_run_goes_on(
    tiny_recognizer: Recognizer,
    tiny_calibration: Calibration,
    small_prior: FacePrior,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(network: torch.nn.Module) -> torch.nn.Module:
        def fails(shown: Tensor) -> Tensor:
            raise BackendCompilerFailed(broken, RuntimeError("no C++ compiler"), None)

        return fails  # type: ignore[return-value]

    monkeypatch.setattr(compiled.torch, "compile", broken)
    targets = tiny_recognizer.embed(torch.rand(3, 3, 112, 112, generator=torch.Generator().manual_seed(1)))
    plain = SynthConfig(steps=2, batch_size=2, report=False)
    said: list[str] = []
    made = [
        torch.stack([r.image for r in reconstruct(tiny_recognizer, targets, small_prior, tiny_calibration, **settings)])
        for settings in (
            {"config": plain},
            {"config": dataclasses.replace(plain, compile=True), "say": said.append},
        )
    ]
    assert torch.equal(*made)
    assert len(said) == 1  # of two batches
    assert "cannot be had here, going on without it" in said[0]
    assert hooks(tiny_recognizer) == 0
