"""Figures in words, against what a person would write."""

import pytest

from arcinvert.audit.page import words


@pytest.mark.parametrize(
    ("share", "said"),
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
def test_percent(share: float | None, said: str) -> None:
    assert words.percent(share) == said


def test_span_and_one_in() -> None:
    assert words.span(0.33, 0.577) == "33% to 58%"
    assert words.span(None, None) == ""
    assert [words.one_in(fmr) for fmr in (1e-2, 1e-3, 1e-4)] == ["1 in 100", "1 in 1,000", "1 in 10,000"]


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (59, "59 s"), (60, "1 min 0 s"), (431.2, "7 min 11 s"), (7384, "2 h 3 min")]
)
def test_duration(seconds: float, said: str) -> None:
    assert words.duration(seconds) == said


def test_number() -> None:
    assert words.number(1_000_000) == "1,000,000"
    assert words.number(0.41163) == "0.4116"
    assert words.number(True) == "yes"
    assert words.number(None) == "none"
    assert words.number([1, "a"]) == "1, a"
    assert words.number([]) == "none"
    assert words.number({"of": 3, "found": 2}) == "of: 3; found: 2"


def test_schemes_in_words() -> None:
    assert words.scheme("noise:0.1") == "Gaussian noise, σ = 0.1"
    assert words.scheme("truncate:256") == "Truncation to 256 numbers"
    assert words.scheme("something:new") == "something:new"
    assert words.family("pq:64") == words.family("pq:8") == "Product quantization"
    assert words.setting("pq:64") == "64"


def test_a_key_is_no_setting() -> None:
    assert words.setting("rotate:17") == ""
    assert words.scheme("rotate:17") == "Secret rotation"
