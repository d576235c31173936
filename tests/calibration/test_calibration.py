"""The stored form of a calibration: what comes back, and what is refused."""

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from arcinvert.calibration.auxiliary import BLOCKS
from arcinvert.calibration.calibration import Calibration
from arcinvert.calibration.statistics import LayerStatistics
from arcinvert.errors import CheckpointError
from arcinvert.recognizer import Recognizer


@pytest.fixture(scope="module")
def tensors(tiny_calibration: Calibration) -> dict[str, Tensor]:
    return tiny_calibration.to_tensors()


def test_a_stored_calibration_comes_back(
    tiny_recognizer: Recognizer, tiny_calibration: Calibration, tensors: dict[str, Tensor]
) -> None:
    found = Calibration.from_tensors(tensors, tiny_calibration.header, tiny_recognizer)
    for name in ("faces", "prior_digest", "noise_cosine"):
        assert getattr(found, name) == getattr(tiny_calibration, name)
    assert found.noise_cosine < 1
    rows = normalize(torch.randn(3, tiny_recognizer.embedding_size, generator=torch.Generator().manual_seed(0)))
    for name in ("latents", "auxiliary"):
        mine, stored = getattr(tiny_calibration, name), getattr(found, name)
        torch.testing.assert_close(stored.predict(rows), mine.predict(rows), rtol=1e-2, atol=1e-3)
        torch.testing.assert_close(stored.residual, mine.residual)
        assert stored.unit_norm == mine.unit_norm == (name != "latents")
    torch.testing.assert_close(found.auxiliary.predict(rows).norm(dim=1), torch.ones(3))
    for part in fields(LayerStatistics):
        mine, stored = getattr(tiny_calibration.statistics, part.name), getattr(found.statistics, part.name)
        assert mine
        assert mine.keys() == stored.keys()
        for layer, value in mine.items():
            # Location maps have 255 levels a channel (half of one is 4e-3 of the largest value), for variances of
            # the logarithm.
            rtol, atol = (6e-2, 4e-3) if part.name.startswith("location") else (3e-3, 1e-3)
            torch.testing.assert_close(stored[layer], value, rtol=rtol, atol=1e-4 + atol * float(value.abs().max()))
    for mine, stored in ((tiny_calibration.maps, found.maps), (tiny_calibration.auxiliary_maps, found.auxiliary_maps)):
        assert mine.maps
        for layer, predicted in mine.predict(rows).items():
            scale = mine.deviation[layer]
            torch.testing.assert_close(stored.predict(rows)[layer] / scale, predicted / scale, rtol=1e-2, atol=2e-2)
    assert tuple(found.auxiliary_maps.maps) == BLOCKS


def test_variances_beyond_half_precision_are_stored(tiny_calibration: Calibration) -> None:
    wide = replace(tiny_calibration.statistics, location_var={"bn1": torch.full((16, 28, 28), 1e8)})
    assert all(bool(torch.isfinite(value).all()) for value in wide.to_tensors().values())


def test_files_of_old_are_read(
    tiny_recognizer: Recognizer, tiny_calibration: Calibration, tensors: dict[str, Tensor]
) -> None:
    """They keep maps of locations in half precision, residuals of the latents alone, and nothing of noise."""
    assert tensors["location.var.bn1"].dtype == tensors["location.mean.bn1"].dtype == torch.int8
    statistics = tiny_calibration.statistics
    old = {key: value for key, value in tensors.items() if key != "auxiliary.residual"}
    old |= {f"location.mean.{layer}": value.half() for layer, value in statistics.location_mean.items()}
    old |= {f"location.var.{layer}": value.sqrt().half() for layer, value in statistics.location_var.items()}
    header = {key: value for key, value in tiny_calibration.header.items() if key != "noise_cosine"}
    found = Calibration.from_tensors(old, header, tiny_recognizer)
    assert found.noise_cosine == 1
    for layer, value in statistics.location_var.items():
        torch.testing.assert_close(found.statistics.location_var[layer], value, rtol=3e-3, atol=1e-6)
    assert bool(found.auxiliary.residual.isnan().all())


ZEROS = {
    "latents.weight": (8, 24),
    "latents.bias": (23,),
    "latents.residual": (24, 1),
    "auxiliary.weight": (16, 8),
    "span.location.mean.bn1": (3, 2),
}


@pytest.mark.parametrize("name", ZEROS)
def test_parts_that_do_not_fit_are_refused(
    tiny_recognizer: Recognizer, tiny_calibration: Calibration, tensors: dict[str, Tensor], name: str
) -> None:
    with pytest.raises(CheckpointError, match="fit"):
        Calibration.from_tensors(tensors | {name: torch.zeros(ZEROS[name])}, tiny_calibration.header, tiny_recognizer)


@pytest.mark.parametrize(
    "name",
    [
        *("latents.weight", "latents.residual", "auxiliary.weight"),
        *("expected.factor", "auxiliary.expected.factor", "span.location.mean.bn1"),
    ],
)
def test_an_incomplete_calibration_is_refused(
    tiny_recognizer: Recognizer, tiny_calibration: Calibration, tensors: dict[str, Tensor], name: str
) -> None:
    lacking = {key: value for key, value in tensors.items() if key != name}
    with pytest.raises(CheckpointError, match=name.removeprefix("auxiliary.")):
        Calibration.from_tensors(lacking, tiny_calibration.header, tiny_recognizer)


@pytest.mark.parametrize("header", [{}, {"faces": 3}, {"prior": "x"}, {"prior": "x", "faces": "many"}])
def test_a_calibration_without_its_header_is_refused(
    tiny_recognizer: Recognizer, tensors: dict[str, Tensor], header: dict[str, Any]
) -> None:
    with pytest.raises(CheckpointError, match="calibration"):
        Calibration.from_tensors(tensors, header, tiny_recognizer)


def test_a_calibration_of_another_network_is_refused(
    tiny_recognizer: Recognizer, tiny_calibration: Calibration, tensors: dict[str, Tensor]
) -> None:
    for kind in ("channel.mean.bn77", "location.mean.bn77"):
        with pytest.raises(CheckpointError, match="bn77"):
            Calibration.from_tensors(tensors | {kind: torch.zeros(3, 4, 4)}, tiny_calibration.header, tiny_recognizer)
    lacking = {key: value for key, value in tensors.items() if key != "location.var.bn1"}
    with pytest.raises(CheckpointError, match="other layers"):
        Calibration.from_tensors(lacking, tiny_calibration.header, tiny_recognizer)
