from types import ModuleType

import numpy as np
import pytest
import torch


class Judge:
    """Embeds picture n as the n-th unit vector."""

    def __init__(self) -> None:
        self.name, self.thresholds = "judge", {1e-2: 0.5, 1e-3: 0.9}

    def __call__(self, images: torch.Tensor) -> np.ndarray:
        return np.eye(8)[images[:, 0, 0, 0].numpy()]


def pictures(numbers: list[int]) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.uint8)[:, None, None, None].expand(-1, 2, 2, 3)


@pytest.mark.parametrize(("shown", "others"), [(set(), [[1, 2], [4]]), ({1, 4}, [[2], []])])
def test_a_picture_is_not_compared_with_itself(script: ModuleType, shown: set[int], others: list[list[int]]) -> None:
    assert script.other_pictures([0, 0, 0, 1, 1, 2], {0, 3} | shown, 2) == others


def test_a_second_photo_is_judged_by_the_others_alone(script: ModuleType) -> None:
    judge, enrolled = Judge(), np.eye(8)[[0, 3]]
    found = script.judged(judge, pictures([1, 4]), enrolled, [np.eye(8)[[2]], np.eye(8)[[]]])
    assert (found["type2@0.01"]["rate"], found["type2@0.01"]["n"], found["cosine_type2"]) == (0, 1, 0)
    none = script.judged(judge, pictures([1, 4]), enrolled, [np.eye(8)[[]]] * 2)
    assert none["type2@0.001"] == {"rate": None, "n": 0, "wilson95": None}
    assert none["cosine_type2"] is None
    assert none["type1@0.01"]["n"] == 2
