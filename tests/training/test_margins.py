import math

import pytest
import torch

from arcinvert.errors import UsageError
from arcinvert.training.margins import ALL_MARGINS, MARGINS, PAST_PI, AdaFace, Margin, angle, combined_margin

NAMES = sorted(MARGINS)
# The angle beyond which m1 * theta + m2 exceeds pi; softmax and cosface never get there.
TURNS = {"arcface": math.pi - 0.5, "sphereface": math.pi / 1.35, "cm1": math.pi - 0.3, "cm2": (math.pi - 0.4) / 0.9}


def reference(cosine: float, m1: float, m2: float, m3: float) -> float:
    """One element with angles and Python floats: the paper's formula up to pi, then a straight line."""
    theta = math.acos(cosine)
    angle = m1 * theta + m2
    if angle <= math.pi:
        return math.cos(angle) - m3
    theta_at_pi = (math.pi - m2) / m1
    return -1.0 - m3 - (math.cos(theta_at_pi) - cosine)


def expected(cosines: torch.Tensor, margin: Margin) -> torch.Tensor:
    values = [reference(cosine, margin.m1, margin.m2, margin.m3) for cosine in cosines.double().tolist()]
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "at_right_angle"),
    [
        ("softmax", 0.0),
        ("arcface", -0.479425538604),  # -sin 0.5
        ("cosface", -0.35),
        ("sphereface", -0.522498564716),  # cos 121.5 degrees
        ("cm1", -0.495520206661),  # -sin 0.3 - 0.2
        ("cm2", -0.390538272446),  # -sin(0.4 - 9 degrees) - 0.15
    ],
)
def test_named_margins_at_a_right_angle(name: str, at_right_angle: float) -> None:
    value = MARGINS[name](torch.zeros(1, dtype=torch.float64))
    assert value.item() == pytest.approx(at_right_angle, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_against_the_slow_reference_in_float64(name: str) -> None:
    cosines = torch.linspace(-0.9999, 0.9999, 4001, dtype=torch.float64)
    torch.testing.assert_close(MARGINS[name](cosines), expected(cosines, MARGINS[name]), atol=1e-10, rtol=0)


@pytest.mark.parametrize(
    "margin", [Margin(1.2, 0.3, 0.1), Margin(0.7, 0.2, -0.2), Margin(0.8, 1.0, 0.0), Margin(4.0, 0.0, 0.0)], ids=str
)
def test_unnamed_margins_against_the_slow_reference(margin: Margin) -> None:
    cosines = torch.linspace(-0.9999, 0.9999, 1001, dtype=torch.float64)
    torch.testing.assert_close(margin(cosines), expected(cosines, margin), atol=1e-10, rtol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 2e-6), (torch.float32, 1e-3)])
def test_the_ends_and_beyond(name: str, dtype: torch.dtype, tolerance: float) -> None:
    ends = torch.tensor([-1.0, 1.0], dtype=dtype)
    values = MARGINS[name](ends)
    torch.testing.assert_close(values.double(), expected(ends, MARGINS[name]), atol=tolerance, rtol=0)
    assert torch.equal(MARGINS[name](ends * 1.001), values)


@pytest.mark.parametrize("name", NAMES)
def test_float32_agrees_with_float64(name: str) -> None:
    cosines = torch.linspace(-0.999, 0.999, 1001, dtype=torch.float64)
    torch.testing.assert_close(MARGINS[name](cosines.float()).double(), MARGINS[name](cosines), atol=3e-6, rtol=0)


def test_no_margin_is_the_identity_and_cosface_a_shift() -> None:
    cosines = torch.linspace(-1, 1, 101)
    assert torch.equal(MARGINS["softmax"](cosines), cosines)
    torch.testing.assert_close(cosines - MARGINS["cosface"](cosines), torch.full_like(cosines, 0.35))


@pytest.mark.parametrize("name", NAMES)
def test_never_rises_with_the_angle(name: str) -> None:
    theta = torch.linspace(0, math.pi, 20001, dtype=torch.float64)
    steps = MARGINS[name](theta.cos()).diff()
    assert steps.max() <= 0
    inner = (theta[:-1] > 0.001) & (theta[1:] < math.pi - 0.001)
    assert steps[inner].max() < 0  # so a wrong cosine is always pulled up


@pytest.mark.parametrize("name", TURNS)
def test_continuous_where_the_formula_turns(name: str) -> None:
    theta = TURNS[name] + torch.tensor([-1e-7, 1e-7], dtype=torch.float64)
    before, after = MARGINS[name](theta.cos()).tolist()
    assert before == pytest.approx(after, abs=1e-6)
    assert before == pytest.approx(-1 - MARGINS[name].m3, abs=1e-6)


@pytest.mark.parametrize("name", TURNS)
def test_beyond_the_turn_it_falls_with_slope_1_in_the_cosine(name: str) -> None:
    start = math.cos(TURNS[name])
    cosines = torch.linspace(start - 1e-6, -1 + 1e-6, 7, dtype=torch.float64)
    torch.testing.assert_close(MARGINS[name](cosines).diff(), cosines.diff(), atol=1e-12, rtol=0)
    assert reference(-1.0, MARGINS[name].m1, MARGINS[name].m2, MARGINS[name].m3) < -1


def test_arcface_slope_at_a_known_place() -> None:
    """sin(theta + m) / sin(theta) is 65.8 / 64 at cos(theta) = 0.3, not the 1 of a straight-through gradient."""
    cosine = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    MARGINS["arcface"](cosine).backward()
    assert 64 * cosine.grad.item() == pytest.approx(65.8, abs=0.05)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_finite_at_exactly_plus_and_minus_1(name: str, dtype: torch.dtype) -> None:
    cosines = torch.tensor([-1.0, 1.0], dtype=dtype, requires_grad=True)
    values = MARGINS[name](cosines)
    values.sum().backward()
    assert values.isfinite().all()
    assert cosines.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("given", "returned"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_computes_in_float32_at_least(name: str, given: torch.dtype, returned: torch.dtype) -> None:
    cosines = torch.tensor([[-0.5, 0.25], [0.75, -0.875]], dtype=given)
    values = MARGINS[name](cosines)
    assert (values.dtype, values.shape) == (returned, (2, 2))
    torch.testing.assert_close(values, MARGINS[name](cosines.to(returned)))


@pytest.mark.parametrize(
    "margins",
    [
        {"m1": 0.0},
        {"m1": -1.0},
        {"m1": math.nan},
        {"m1": math.inf},
        {"m2": -0.1},
        {"m2": math.pi},
        {"m2": math.nan},
        {"m3": math.nan},
        {"m3": math.inf},
    ],
    ids=str,
)
def test_bad_margins_are_refused(margins: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="expected a finite m1"):
        Margin(**margins)


def reference_past_pi(cosine: float, margin: Margin, past_pi: str) -> float:
    """The two other choices, one element, by angles."""
    theta = math.acos(cosine)
    if past_pi == "easy" and math.degrees(theta) >= 90:
        return cosine - margin.m3
    return math.cos(margin.m1 * theta + margin.m2) - margin.m3


@pytest.mark.parametrize("past_pi", ["easy", "plain"])
@pytest.mark.parametrize("name", NAMES)
def test_easy_and_plain_against_the_slow_reference(name: str, past_pi: str) -> None:
    cosines = torch.linspace(-0.9999, 0.9999, 2000, dtype=torch.float64)
    values = [reference_past_pi(cosine, MARGINS[name], past_pi) for cosine in cosines.tolist()]
    found = MARGINS[name](cosines, past_pi=past_pi)
    torch.testing.assert_close(found, torch.tensor(values, dtype=torch.float64), atol=1e-10, rtol=0)


def test_the_three_choices_differ_only_past_pi() -> None:
    cosines = torch.linspace(-1, 1, 401, dtype=torch.float64)
    monotone, easy, plain = (MARGINS["arcface"](cosines, past_pi=past_pi) for past_pi in PAST_PI)
    assert torch.equal(monotone == plain, cosines > math.cos(math.pi - 0.5))
    assert torch.equal(easy == plain, cosines > 0)
    assert plain[:10].diff().max() < 0  # the cosine falls as the angle does: why monotone is the default


def test_an_unknown_choice_is_refused() -> None:
    with pytest.raises(UsageError, match="past_pi out of monotone, easy, plain, got 'hard'"):
        MARGINS["arcface"](torch.zeros(1), past_pi="hard")


@pytest.mark.parametrize("past_pi", PAST_PI)
@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_exact_also_next_to_the_ends_and_the_turn(name: str, past_pi: str) -> None:
    cosines = [-1 + 1e-6, -1 + 1e-4, -0.99, -0.3, 0.01, 0.3, 0.95, 1 - 1e-4, 1 - 1e-6]
    if name in TURNS:
        turn = math.cos(TURNS[name])
        cosines += [turn + 1e-3, turn - 1e-3, (turn - 1) / 2]
    values = torch.tensor(cosines, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda given: MARGINS[name](given, past_pi=past_pi), values, eps=1e-8, atol=1e-5, rtol=1e-3
    )


def test_angle_against_python_and_its_gradient() -> None:
    cosines = [-1 + 1e-6, -0.5, 0.0, 0.7, 1 - 1e-6]
    values = torch.tensor(cosines, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(angle(values).tolist(), [math.acos(cosine) for cosine in cosines])
    assert torch.autograd.gradcheck(angle, values, eps=1e-8, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(
    ("dtype", "off"), [(torch.float16, 6e-4), (torch.float32, 6e-4), (torch.float64, 2e-6)], ids=str
)
def test_angle_at_and_beyond_the_ends(dtype: torch.dtype, off: float) -> None:
    cosines = torch.tensor([-1.001, -1.0, 1.0, 1.001], dtype=dtype, requires_grad=True)
    found = angle(cosines)
    found.sum().backward()
    assert found.tolist() == pytest.approx([math.pi, math.pi, 0, 0], abs=off)
    assert cosines.grad.tolist() == [0, 0, 0, 0]


def test_a_margin_for_each_element() -> None:
    """m2 of both signs, m3 of its own; below 0 degrees the angle counts as 0, beyond pi the value falls on."""
    cosines = torch.cos(torch.tensor([0.2, 0.2, 1.5, 3.0, 3.0], dtype=torch.float64))
    m2 = torch.tensor([-0.4, 0.4, -0.4, 0.4, -0.4], dtype=torch.float64)
    m3 = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.8], dtype=torch.float64)
    expected = [1, math.cos(0.6) - 0.1, math.cos(1.1) - 0.2, reference(math.cos(3.0), 1, 0.4, 0.3), math.cos(2.6) - 0.8]
    assert combined_margin(cosines, 1.0, m2, m3).tolist() == pytest.approx(expected, abs=1e-9)
    values = cosines.requires_grad_()
    assert torch.autograd.gradcheck(lambda given: combined_margin(given, 1.0, m2, m3), values, atol=1e-5, rtol=1e-3)


class TestAdaFace:
    NORMS = (0.0, 5.0, 18.0, 20.0, 22.0, 40.0, 500.0)

    def test_margins_by_hand(self) -> None:
        m2, m3 = AdaFace().margins(torch.tensor(self.NORMS), torch.tensor(20.0), torch.tensor(4.0))
        for norm, angular, additive in zip(self.NORMS, m2.tolist(), m3.tolist(), strict=True):
            scaled = max(-1.0, min(1.0, 0.333 * (min(max(norm, 0.001), 100.0) - 20) / 4.001))
            assert (angular, additive) == pytest.approx((-0.4 * scaled, 0.4 + 0.4 * scaled), abs=1e-6)

    def test_low_mean_and_high_norms_give_arcface_cosface_and_a_negative_angle(self) -> None:
        """The paper's figure: m2 = m and m3 = 0; 0 and m; -m and 2 m."""
        m2, m3 = AdaFace().margins(torch.tensor([0.0, 20.0, 90.0]), torch.tensor(20.0), torch.tensor(2.0))
        assert m2.tolist() == pytest.approx([0.4, 0, -0.4], abs=1e-6)
        assert m3.tolist() == pytest.approx([0, 0.4, 0.8], abs=1e-6)

    def test_running_mean_and_deviation(self) -> None:
        mean, deviation = torch.tensor(20.0), torch.tensor(100.0)
        for _ in range(2):
            mean, deviation = AdaFace(momentum=0.9).running(torch.tensor([1.0, 3.0, 8.0]), mean, deviation)
        assert mean.item() == pytest.approx(0.81 * 20 + 0.19 * 4)
        assert deviation.item() == pytest.approx(0.81 * 100 + 0.19 * math.sqrt((9 + 1 + 16) / 2))

    def test_one_image_alone_changes_nothing(self) -> None:
        mean, deviation = AdaFace().running(torch.tensor([3.0]), torch.tensor(20.0), torch.tensor(4.0))
        assert (mean.item(), deviation.item()) == (20, 4)

    def test_no_gradient_through_the_norm(self) -> None:
        norms = torch.tensor([10.0, 30.0], requires_grad=True)
        given = (norms, torch.tensor(20.0), torch.tensor(4.0))
        assert not any(part.requires_grad for part in (*AdaFace().margins(*given), *AdaFace().running(*given)))

    @pytest.mark.parametrize(
        "settings", [{"m": -0.1}, {"m": 4.0}, {"m": math.nan}, {"h": 0.0}, {"h": math.inf}, {"momentum": 1.0}], ids=str
    )
    def test_bad_settings_are_refused(self, settings: dict[str, float]) -> None:
        with pytest.raises(UsageError, match="expected 0 <= m < pi"):
            AdaFace(**settings)


def test_the_named_margins() -> None:
    assert set(ALL_MARGINS) == {*MARGINS, "adaface", "softmax-bias"}
    assert ALL_MARGINS["adaface"] == AdaFace(m=0.4, h=0.333, momentum=0.99)
    assert ALL_MARGINS["softmax-bias"] is None
