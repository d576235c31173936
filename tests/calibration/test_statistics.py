"""Moments of layers against numpy, and maps in bytes."""

import numpy as np
import pytest
import torch

from arcinvert.calibration.statistics import GRID, Moments, from_bytes, to_bytes


def test_moments_over_batches_are_those_of_all_images() -> None:
    images = torch.randn(7, 3, 56, 56, generator=torch.Generator().manual_seed(0)) * 2 + 1
    moments = Moments(["a", "b"], ["b"])
    for part in images.split(3):
        moments.add({"a": part, "b": part + 1})
    mean, var, location_mean, location_var = moments.result()
    np.testing.assert_allclose(mean["a"], images.numpy().mean((0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(var["a"], images.numpy().var((0, 2, 3)), rtol=1e-5)
    assert set(location_mean) == set(location_var) == {"b"}
    assert location_mean["b"].shape == (3, GRID, GRID)
    cells = images.numpy().reshape(7, 3, GRID, 2, GRID, 2)
    np.testing.assert_allclose(location_mean["b"], cells.mean((0, 3, 5)) + 1, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(location_var["b"], cells.var((0, 3, 5)), rtol=1e-4)


def test_maps_in_bytes_are_right_to_half_a_level() -> None:
    maps = (
        torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0))
        * torch.tensor([1e-3, 1, 1e3, 0])[:, None, None]
    )
    stored, span = to_bytes(maps)
    assert stored.dtype == torch.int8
    assert stored.shape == maps.shape
    assert int(stored[:3].flatten(1).amax(1).min()) == 127
    assert bool(((from_bytes(stored, span) - maps).abs() <= 0.501 * span[:, 1].view(-1, 1, 1)).all())
    with pytest.raises(ValueError, match="the span of each channel"):
        from_bytes(stored, span[:2])
