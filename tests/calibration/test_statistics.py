"""Statistics of layers against numpy."""

import numpy as np
import torch

from arcinvert.calibration.statistics import GRID, Moments


def test_moments_over_batches_are_those_of_all_images() -> None:
    images = torch.randn(7, 3, 56, 56, generator=torch.Generator().manual_seed(0)) * 2 + 1
    moments = Moments(["a", "b"], ["b"])
    for part in images.split(3):
        moments.add({"a": part, "b": part + 1})
    found = moments.statistics()
    np.testing.assert_allclose(found.channel_mean["a"], images.numpy().mean((0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(found.channel_var["a"], images.numpy().var((0, 2, 3)), rtol=1e-5)
    assert set(found.location_mean) == set(found.location_var) == {"b"}
    assert found.location_mean["b"].shape == (3, GRID, GRID)
    cells = images.numpy().reshape(7, 3, GRID, 2, GRID, 2)
    np.testing.assert_allclose(found.location_mean["b"], cells.mean((0, 3, 5)) + 1, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.location_var["b"], cells.var((0, 3, 5)), rtol=1e-4)
