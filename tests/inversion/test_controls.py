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


def test_the_nose_follows_the_pose() -> None:
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
    # Each by its own generator, whatever the neighbors are.
    assert torch.equal(varied(Controls(), [2], generators(3)[2:]), found[2:3])


def test_a_control_holds_for_every_variation() -> None:
    found = varied(Controls.parse("left"), [0, 1, 2], generators(3))
    assert bool((found[:, 0] == found[0, 0]).all())
    assert math.isnan(float(found[0, 2]))
    assert not bool(found[1:, 2].isnan().any())


def test_a_controlled_face_keeps_its_attributes_wherever_it_moves(small_prior: FacePrior) -> None:
    torch.manual_seed(0)
    center, spread = torch.randn(3, small_prior.size), torch.rand(small_prior.size) + 0.2
    nan = math.nan
    attributes = torch.tensor([[0.2, 0.6, 0.9], [nan, nan, 0.95], [nan, nan, nan]])
    basis = FaceBasis(small_prior, center, spread, attributes=attributes)
    with torch.no_grad():
        basis.coordinates.add_(torch.randn(3, small_prior.size))
    measured = small_prior.attributes(basis.coefficients().detach())
    torch.testing.assert_close(measured[0], attributes[0], atol=1e-4, rtol=1e-4)
    expected = torch.cat([small_prior.attributes(center)[1, :2], torch.tensor([0.95])])
    torch.testing.assert_close(measured[1], expected, atol=1e-4, rtol=1e-4)
    # The third is free, as if it were alone.
    torch.testing.assert_close(basis.coefficients()[2], center[2] + spread * basis.coordinates[2])


def test_the_start_moves_as_the_mean_face_and_then_the_likeliest_way(small_prior: FacePrior) -> None:
    center, spread = torch.zeros(1, small_prior.size), torch.rand(small_prior.size) + 0.2
    wanted = torch.tensor([[0.3, 0.6, 0.9]])
    found = FaceBasis(small_prior, center, spread, attributes=wanted).coefficients().detach().double()
    # Slow reference: least |(a - center) / spread| under the three equations, by the pseudo-inverse.
    weight = (small_prior.attribute_weight * spread).double()
    first = small_prior.moved(center, wanted)
    rest = torch.linalg.pinv(weight) @ (wanted - small_prior.attributes(first))[0].double() * spread.double()
    torch.testing.assert_close(found[0], first[0] + rest, atol=1e-4, rtol=1e-3)
