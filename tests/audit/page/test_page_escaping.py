"""Text of strangers never becomes markup."""

import html
from html.parser import HTMLParser

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from arcinvert.audit.page.environment import environment

TEMPLATES = environment("arcinvert.audit.page")
PARTS = TEMPLATES.get_template("parts.html").module
ATTACKS = ["<script>alert(1)</script>", "\"'><img src=x onerror=alert(1)>", "&lt;", "</style><b>", "a & b"]


class Reader(HTMLParser):
    """Tags, attributes and text, as a parser that is not ours reads them."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(str(markup))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("attack", ATTACKS)
def test_strings_stay_strings(attack: str) -> None:
    found = Reader(TEMPLATES.from_string('<p title="{{ value }}">{{ value }}</p>').render(value=attack))
    assert found.tags == ["p"]
    assert found.attributes == [("title", attack)]
    assert found.text == attack


@pytest.mark.parametrize("attack", ATTACKS)
def test_strings_stay_strings_in_macros(attack: str) -> None:
    cell = Reader(PARTS.cell(attack, attack))
    assert cell.tags == ["td", "span"]
    assert ("data-label", attack) in cell.attributes
    assert cell.text.strip() == attack
    facts = Reader(PARTS.facts([(attack, "x" + attack), ("left out", None), ("also", "")]))
    assert facts.tags == ["dl", "div", "dt", "dd"]
    assert Reader(PARTS.detail(PARTS.code("x") + attack)).tags == ["span", "code"]


def test_a_missing_field_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        TEMPLATES.from_string("{{ report.renamed }}").render(report=object())


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "␛[31mred␛[0m"),
        ("a\x00b\x7fc\x9bd", "a␀b␡c\ufffdd"),
        ("invoice\u202efdp.exe", "invoice\ufffdfdp.exe"),
        ("half \ud83d", "half \ufffd"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("Ωμέγα 名前", "Ωμέγα 名前"),
        (Markup("<b>\x1b</b>"), "<b>␛</b>"),
        (None, ""),
        (3, "3"),
    ],
)
def test_control_characters_become_visible(given: object, shown: str) -> None:
    found = TEMPLATES.from_string("{{ value }}").render(value=given)
    assert html.unescape(found) == shown
    found.encode("utf-8")
