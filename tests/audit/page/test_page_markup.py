"""Escaping: nothing that a stranger wrote becomes markup."""

import html
from html.parser import HTMLParser

import pytest

from arcinvert.audit.page.markup import Markup, join, tag, text

NASTY = ["<script>alert(1)</script>", "\"'><img src=x onerror=alert(1)>", "&lt;", "</style><b>", "a & b"]


class Reader(HTMLParser):
    """What a parser that is not ours makes of it: tags, attributes, text."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words = ""
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.mark.parametrize("nasty", NASTY)
def test_strings_stay_strings(nasty: str) -> None:
    read = Reader(tag("p", nasty, title=nasty))
    assert read.tags == ["p"]
    assert read.attributes == [("title", nasty)]
    assert read.words == nasty


@pytest.mark.parametrize("nasty", NASTY)
def test_markup_plus_a_string_is_a_string_again(nasty: str) -> None:
    assert Reader(tag("p", tag("b", "x") + nasty)).tags == ["p"]
    assert Reader(tag("p", f"{tag('b', 'x')}{nasty}")).tags == ["p"]


def test_markup_is_left_alone() -> None:
    assert tag("p", tag("b", "x"), None, 3) == "<p><b>x</b>3</p>"
    assert text(Markup("<hr>")) == "<hr>"


def test_names_of_attributes() -> None:
    assert tag("td", class_="a", aria_label="b", viewBox="0 0 1 1", hidden=None) == (
        '<td class="a" aria-label="b" viewBox="0 0 1 1"></td>'
    )
    assert tag("meta", name="x") == '<meta name="x">'


def test_join_escapes_the_parts_and_what_is_between() -> None:
    assert join(["<", None, Markup("<br>")], " & ") == "&lt; &amp; <br>"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "␛[31mred␛[0m"),
        ("a\x00b\x7fc\x9bd", "a␀b␡c\ufffdd"),
        ("invoice\u202efdp.exe", "invoice\ufffdfdp.exe"),
        ("half \ud83d", "half \ufffd"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("Ωμέγα 名前", "Ωμέγα 名前"),
    ],
)
def test_control_characters_become_visible(given: str, shown: str) -> None:
    found = text(given)
    assert html.unescape(found) == shown
    found.encode("utf-8")
