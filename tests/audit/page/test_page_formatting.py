"""Figures as text, compared with what a person would write."""

import pytest

from arcinvert.audit.page import formatting
from arcinvert.audit.rates import Rate


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0%"),
        (1.0, "100%"),
        (0.45, "45%"),
        (0.6249, "62%"),
        (0.012, "1.2%"),
        (0.0996, "10.0%"),
        (0.993, "99.3%"),
        (0.99999, "100%"),
        (0.0004, "0.04%"),
        (None, "not measured"),
        (float("nan"), "not measured"),
    ],
)
def test_percent(share: float | None, text: str) -> None:
    assert formatting.percent(share) == text


def test_counts_and_interval() -> None:
    rate = Rate.measured("judge", "type I", 1e-3, 27, 60)
    assert formatting.interval(rate) == "33% to 58%"
    assert formatting.counts(rate) == "27 of 60; 33% to 58%"
    assert formatting.counts(Rate.measured("judge", "type I", 1e-3, None, 60)) == "60 tried"


def test_one_in() -> None:
    assert [formatting.one_in(fmr) for fmr in (1e-2, 1e-3, 1e-4)] == ["1 in 100", "1 in 1,000", "1 in 10,000"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (60, "1 min 0 s"), (431.2, "7 min 11 s"), (7384, "2 h 3 min")]
)
def test_duration(seconds: float, text: str) -> None:
    assert formatting.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1_000_000, "1,000,000"), (0.41163, "0.4116"), (True, "yes"), (None, "none"), ([1, "a"], "1, a"), ((), "none")],
)
def test_number(value: object, text: str) -> None:
    assert formatting.number(value) == text


def test_names_of_defenses() -> None:
    assert formatting.scheme("noise:0.1") == "Gaussian noise, σ = 0.1"
    assert formatting.scheme("truncate:256") == "Truncation to 256 numbers"
    assert formatting.scheme("something:new") == "something:new"
    assert formatting.family("pq:64") == formatting.family("pq:8") == "Product quantization"
    assert formatting.setting("pq:64") == "64"


def test_a_key_is_not_a_setting() -> None:
    assert formatting.setting("rotate:17") == ""
    assert formatting.scheme("rotate:17") == "Secret rotation"
