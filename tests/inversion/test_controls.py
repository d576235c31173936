import math

import pytest
import torch

from arcinvert.errors import UsageError
from arcinvert.faceprior.prior import FacePrior
from arcinvert.inversion.controls import (
    EXPRESSIONS,
    LATENT_AHEAD,
    POSES,
    VARIED,
    YAW_GAIN,
    Controls,
    asked,
    varied,
    years_older,
)
from arcinvert.inversion.parameterization import FaceLatent


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(i) for i in range(count)]


def test_names_and_angles() -> None:
    assert Controls.parse("right") == Controls(POSES["right"])
    assert Controls.parse("-10,5.5", "smile") == Controls((-10.0, 5.5), EXPRESSIONS["smile"])
    assert Controls.parse() == Controls()
    assert Controls.parse("frontal").attributes()[0] == LATENT_AHEAD


@pytest.mark.parametrize("pose", ["", "sideways", "10", "1,2,3", "nan,0", "36,0", "0,-21", "inf,0"])
def test_other_poses_are_refused(pose: str) -> None:
    with pytest.raises(UsageError, match="expected"):
        Controls.parse(pose)


def test_other_expressions_are_refused() -> None:
    with pytest.raises(UsageError, match="neutral, smile, got 'angry'"):
        Controls.parse(None, "angry")
    with pytest.raises(UsageError, match="even, left, right, got 'red'"):
        Controls.parse(light="red")


def test_the_nose_follows_the_pose() -> None:
    assert Controls.parse("left").attributes()[0] < -0.1
    assert Controls.parse("right").attributes()[0] > 0.1
    up, level, down = (Controls.parse(name).attributes()[1] for name in ("up", "frontal", "down"))
    assert up < level < down  # nearer to the eyes, nearer to the mouth
    # 45 degrees: as far aside as the nose reaches out; a latent is moved further, so that a detector measures it.
    assert Controls((45.0, 0.0)).attributes()[0] == pytest.approx(LATENT_AHEAD + 0.5 * YAW_GAIN)


def test_the_light_falls_from_its_side() -> None:
    left, even, right = (Controls.parse(light=name).attributes()[3] for name in ("left", "even", "right"))
    assert left < even == 0 < right
    assert math.isnan(Controls.parse("left", "smile").attributes()[3])


@pytest.mark.parametrize("pose", [(0.0, 0.0), (-25.0, 10.0), (35.0, -20.0)])
def test_what_was_asked_comes_back_in_degrees(pose: tuple[float, float]) -> None:
    moved = Controls(pose, 0.9).attributes()
    found = asked(dict(zip(("yaw", "pitch", "smile"), moved, strict=False)))
    assert found == {"yaw": pytest.approx(pose[0]), "pitch": pytest.approx(pose[1]), "smile": pytest.approx(0.9)}
    assert asked({"light": 0.1}) == {"light": 0.1}


def test_first_images_are_free_and_variations_differ() -> None:
    found = varied(Controls(), [0, 1, 2, 0], generators(4))
    assert bool(found[[0, 3]].isnan().all())
    assert not bool(found[[1, 2]].isnan().any())
    assert float((found[1] - found[2]).abs().max()) > 0.01
    # Each by its own generator, whatever the neighbors are.
    assert torch.equal(varied(Controls(), [2], generators(3)[2:]), found[2:3])


def test_four_variations_look_to_both_sides_smile_and_do_not_and_are_lit_from_both_sides() -> None:
    for seed in range(5):
        drawn = [torch.Generator().manual_seed(10 * seed + n) for n in range(5)]
        yaw, _, smile, light, _ = varied(Controls(), range(5), drawn)[1:].T
        assert (yaw > LATENT_AHEAD).tolist() == [True, False, True, False]
        assert (smile > Controls(smile=0.89).attributes()[2]).tolist() == [False, True, True, False]
        assert (light > 0).tolist() == [True, True, False, False]
        assert float(yaw.unique().numel()) == 4


@pytest.mark.parametrize(
    ("vary", "free"),
    [((), set()), (("color",), set()), (("pose",), {0, 1}), (("expression",), {2}), (("light",), {3, 4})],
)
def test_only_what_is_to_vary_varies_and_as_it_does_with_all(vary: tuple[str, ...], free: set[int]) -> None:
    found, every = (varied(Controls(), [1, 2], generators(2), names) for names in (vary, VARIED))
    for column in range(5):
        if column in free:
            assert torch.equal(found[:, column], every[:, column])
        else:
            assert bool(found[:, column].isnan().all())


def test_odd_variations_are_to_look_older_and_even_ones_younger() -> None:
    found = years_older(range(5), generators(5), ("pose", "age"))
    assert math.isnan(found[0])
    assert (found[1:] > 0).tolist() == [True, False, True, False]
    assert bool(((found[1:].abs() >= 10) & (found[1:].abs() <= 20)).all())
    assert float(found[1:].abs().unique().numel()) == 4
    drawn = generators(2)
    assert bool(years_older([0, 1], drawn, VARIED).isnan().all())
    assert [one.initial_seed() for one in drawn] == [0, 1]
    assert all(torch.equal(a.get_state(), b.get_state()) for a, b in zip(drawn, generators(2), strict=True))


def test_a_control_holds_for_every_variation() -> None:
    found = varied(Controls.parse("left", light="right"), [0, 1, 2], generators(3))
    assert bool((found[:, [0, 1, 3]] == found[0, [0, 1, 3]]).all())
    assert bool(found[0, [2, 4]].isnan().all())
    assert not bool(found[1:].isnan().any())


def test_a_controlled_face_keeps_its_attributes_wherever_it_moves(small_prior: FacePrior) -> None:
    torch.manual_seed(0)
    center, spread = torch.randn(3, small_prior.size), torch.rand(small_prior.size) + 0.2
    nan = math.nan
    attributes = torch.tensor([[0.2, 0.6, 0.9, 0.1, 0.5], [nan, nan, 0.95, nan, nan], [nan] * 5])
    face = FaceLatent(small_prior, center, spread, attributes=attributes)
    started = face.latents().detach()
    with torch.no_grad():
        face.coordinates.add_(torch.randn(3, small_prior.size))
    latents = face.latents().detach()
    measured = small_prior.attributes(latents)
    torch.testing.assert_close(measured[0], attributes[0], atol=1e-4, rtol=1e-4)
    expected = small_prior.attributes(center)[1]
    expected[2] = 0.95
    torch.testing.assert_close(measured[1], expected, atol=1e-4, rtol=1e-4)
    assert float((latents - started)[:2].abs().mean()) > 0.1
    # The third is free, as if it were alone.
    torch.testing.assert_close(latents[2], center[2] + spread * face.coordinates[2])
    # Where nothing is asked, every face is free.
    free = FaceLatent(small_prior, center, spread, attributes=attributes[2:].expand(3, -1))
    torch.testing.assert_close(free.latents().detach(), center)


def test_the_start_moves_the_likeliest_way(small_prior: FacePrior) -> None:
    center, spread = torch.randn(1, small_prior.size), torch.linspace(0.2, 1.2, small_prior.size)
    wanted = torch.tensor([[0.3, 0.6, math.nan, math.nan, math.nan]])
    found = FaceLatent(small_prior, center, spread, attributes=wanted).latents().detach()
    torch.testing.assert_close(found, small_prior.moved(center, wanted, spread))
