"""The image contract, by hand."""

import numpy as np
import pytest
import torch

from arcinvert.preprocessing import Preprocessing


@pytest.mark.parametrize(
    "contract",
    [
        Preprocessing(),
        Preprocessing(color="BGR"),
        Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        Preprocessing((0.1, 0.2, 0.3), (1.0, 2.0, 4.0), "BGR"),
        Preprocessing((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
        Preprocessing((0.1, 0.1, 0.3), (0.5, 0.5, 0.5)),
    ],
    ids=repr,
)
def test_what_the_network_is_shown(contract: Preprocessing) -> None:
    image = np.zeros((1, 3, 112, 112), np.float32)
    image[0, :, 7, 9] = red, green, blue = 0.25, 0.5, 1.0
    shown = contract(torch.from_numpy(image))[0, :, 7, 9].tolist()
    values = [red, green, blue] if contract.color == "RGB" else [blue, green, red]
    by_hand = [(value - mean) / std for value, mean, std in zip(values, contract.mean, contract.std, strict=True)]
    assert shown == pytest.approx(by_hand, rel=1e-5)
