import math

import pytest
import torch

from arcinvert.errors import UsageError
from arcinvert.faceprior.prior import FacePrior
from arcinvert.inversion.controls import EXPRESSIONS, POSES, Controls, varied
from arcinvert.inversion.parameterization import FaceBasis


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(i) for i in range(count)]


def test_names_and_angles() -> None:
    assert Controls.parse("right") == Controls(POSES["right"])
    assert Controls.parse("-10,5.5", "smile") == Controls((-10.0, 5.5), EXPRESSIONS["smile"])
    assert Controls.parse() == Controls()
    assert Controls.parse("frontal").attributes()[0] == 0.0


@pytest.mark.parametrize("pose", ["", "sideways", "10", "1,2,3", "nan,0", "31,0", "0,-21", "inf,0"])
def test_other_poses_are_refused(pose: str) -> None:
    with pytest.raises(UsageError, match="expected"):
        Controls.parse(pose)


def test_other_expressions_are_refused() -> None:
    with pytest.raises(UsageError, match="neutral, smile, got 'angry'"):
        Controls.parse(None, "angry")


def test_the_nose_goes_where_the_pose_says() -> None:
    assert Controls.parse("left").attributes()[0] < -0.1
    assert Controls.parse("right").attributes()[0] > 0.1
    up, level, down = (Controls.parse(name).attributes()[1] for name in ("up", "frontal", "down"))
    assert up < level < down  # nearer to the eyes, nearer to the mouth
    # 45 degrees: as far aside as the nose reaches out.
    assert Controls((45.0, 0.0)).attributes()[0] == pytest.approx(0.5)


def test_first_images_are_free_and_variations_differ() -> None:
    found = varied(Controls(), [0, 1, 2, 0], generators(4))
    assert bool(found[[0, 3]].isnan().all())
    assert not bool(found[[1, 2]].isnan().any())
    assert float((found[1] - found[2]).abs().max()) > 0.01
    # Each by its own generator, whoever the neighbors are.
    assert torch.equal(varied(Controls(), [2], generators(3)[2:]), found[2:3])


def test_what_is_asked_holds_for_all() -> None:
    found = varied(Controls.parse("left"), [0, 1, 2], generators(3))
    assert bool((found[:, 0] == found[0, 0]).all())
    assert math.isnan(float(found[0, 2]))
    assert not bool(found[1:, 2].isnan().any())


def test_a_held_face_keeps_its_attributes_wherever_it_goes(small_prior: FacePrior) -> None:
    torch.manual_seed(0)
    center, spread = torch.randn(3, small_prior.size), torch.rand(small_prior.size) + 0.2
    nan = math.nan
    attributes = torch.tensor([[0.2, 0.6, 0.9], [nan, nan, 0.95], [nan, nan, nan]])
    basis = FaceBasis(small_prior, center, spread, attributes=attributes)
    with torch.no_grad():
        basis.coordinates.add_(torch.randn(3, small_prior.size))
    said = small_prior.attributes(basis.coefficients().detach())
    torch.testing.assert_close(said[0], attributes[0], atol=1e-4, rtol=1e-4)
    expected = torch.cat([small_prior.attributes(center)[1, :2], torch.tensor([0.95])])
    torch.testing.assert_close(said[1], expected, atol=1e-4, rtol=1e-4)
    # The third is free, as if it were alone.
    torch.testing.assert_close(basis.coefficients()[2], center[2] + spread * basis.coordinates[2])


def test_the_start_goes_the_way_of_the_mean_face_and_then_the_likeliest(small_prior: FacePrior) -> None:
    center, spread = torch.zeros(1, small_prior.size), torch.rand(small_prior.size) + 0.2
    asked = torch.tensor([[0.3, 0.6, 0.9]])
    found = FaceBasis(small_prior, center, spread, attributes=asked).coefficients().detach().double()
    # Slow reference: least |(a - center) / spread| under the three equations, by the pseudo-inverse.
    weight = (small_prior.attribute_weight * spread).double()
    first = small_prior.moved(center, asked)
    rest = torch.linalg.pinv(weight) @ (asked - small_prior.attributes(first))[0].double() * spread.double()
    torch.testing.assert_close(found[0], first[0] + rest, atol=1e-4, rtol=1e-3)
