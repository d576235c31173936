import numpy as np
import pytest
from test_hygiene import ROWS, Memory

from arcinvert.audit.checks.hygiene import scan
from arcinvert.audit.checks.sampling import draw_sample
from arcinvert.errors import InputError, UsageError


def test_one_template_of_each_identity_and_a_second_one() -> None:
    names = [f"p{n % 50}" for n in range(200)]
    found = scan(Memory(ROWS, names))
    drawn = draw_sample(found, count=30, seed=4)
    whom = [names[n] for n in drawn.positions]
    assert len(set(whom)) == 30
    assert (np.diff(drawn.positions) > 0).all()
    assert [names[n] for n in drawn.second] == whom
    assert (drawn.second != drawn.positions).all()
    again, other = draw_sample(found, count=30, seed=4), draw_sample(found, count=30, seed=5)
    assert np.array_equal(again.positions, drawn.positions)
    assert not np.array_equal(other.positions, drawn.positions)
    assert len(draw_sample(found, count=1000, seed=4).positions) == 50


def test_each_identity_is_as_likely_whatever_it_has() -> None:
    names = ["many"] * 180 + [f"p{n}" for n in range(20)]
    found = scan(Memory(ROWS, names))
    drawn = [draw_sample(found, count=7, seed=seed) for seed in range(400)]
    share = np.mean([(d.positions < 180).any() for d in drawn])
    assert share == pytest.approx(7 / 21, abs=0.07)
    which = {int(d.positions[0]) for d in drawn if d.positions[0] < 180}
    assert len(which) > 80  # and each of its templates as likely as another
    assert all((d.second >= 0).sum() == (d.positions < 180).sum() for d in drawn)


def test_a_copy_is_no_second_template() -> None:
    rows = ROWS.copy()
    rows[1] = rows[0]
    rows[3] = rows[2]
    drawn = draw_sample(scan(Memory(rows, ["a", "a", "b", "b", "b", *map(str, range(195))])), count=200, seed=0)
    second = dict(zip(drawn.positions.tolist(), drawn.second.tolist(), strict=True))
    assert second.get(0, second.get(1)) == -1
    b = next(n for n in (2, 3, 4) if n in second)
    assert second[b] == (4 if b < 4 else 2)


def test_rows_that_name_nobody_are_people_of_their_own_and_bad_rows_are_none() -> None:
    rows = ROWS.copy()
    rows[:100] = np.nan
    drawn = draw_sample(scan(Memory(rows, [""] * 150 + ["p"] * 50)), count=500, seed=0)
    assert np.array_equal(drawn.positions[:50], np.arange(100, 150))
    assert len(drawn.positions) == 51
    assert (drawn.second[:50] == -1).all()
    assert drawn.second[50] >= 150
    drawn = draw_sample(scan(Memory(rows)), count=500, seed=0)
    assert np.array_equal(drawn.positions, np.arange(100, 200))
    assert (drawn.second == -1).all()
    assert len(draw_sample(scan(Memory(rows)), count=10, seed=0).positions) == 10


def test_what_cannot_be_drawn() -> None:
    with pytest.raises(UsageError, match="at least one template, got 0"):
        draw_sample(scan(Memory(ROWS)), count=0, seed=0)
    with pytest.raises(InputError, match="none of the store's rows"):
        draw_sample(scan(Memory(np.zeros((3, 4)))), count=1, seed=0)
