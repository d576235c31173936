import numpy as np
import pytest

from arcinvert.errors import InputError, UsageError
from arcinvert.faces.alignment import Face
from arcinvert.faces.choice import AlignedFace, check_choice, choose

IMAGE = np.zeros((200, 300, 3), np.uint8)


def square(x: float, y: float, side: float) -> Face:
    return Face(1.0, (x - side / 2, y - side / 2, x + side / 2, y + side / 2), np.zeros((5, 2)))


LEFT, MIDDLE, SMALL = square(60, 80, 100), square(170, 100, 80), square(150, 100, 20)
FACES = [LEFT, MIDDLE, SMALL]


@pytest.mark.parametrize(
    ("wanted", "expected", "said"),
    [
        ("main", MIDDLE, "similar size"),  # 0.64 of the largest, and nearer to the middle; the smallest is no rival
        ("largest", LEFT, "the largest"),
        ("central", SMALL, "nearest to the middle"),
        ("2", SMALL, "face 2"),
        ("0", LEFT, "face 0"),
    ],
)
def test_the_face_that_is_meant(wanted: str, expected: Face, said: str) -> None:
    found, taken = choose(FACES, IMAGE, wanted)
    assert found is expected
    assert said in taken


def test_a_face_of_another_size_does_not_win_by_its_place() -> None:
    assert choose([LEFT, square(150, 100, 70)], IMAGE)[0] is LEFT  # 0.49 of its area


def test_choices_that_are_refused() -> None:
    for wanted in ("biggest", "-1", "1.5", "", "\u0663"):
        with pytest.raises(UsageError, match="expected a face"):
            check_choice(wanted)
    with pytest.raises(InputError, match="got 3"):
        choose(FACES, IMAGE, "3")


@pytest.mark.parametrize(("side", "count"), [(24, 1), (39, 1), (41, 0)])
def test_a_small_face_is_said(side: int, count: int) -> None:
    remarks = AlignedFace(IMAGE, square(0, 0, side), "the largest", 1).remarks()
    assert len(remarks) == count
    assert all(f"{side} pixels" in remark for remark in remarks)
