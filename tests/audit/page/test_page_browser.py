"""The pages in a headless Chromium: nothing overflows, no request leaves, text can be read."""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_report import PNG, hostile
from PIL import Image

from arcinvert.audit.page import page, sweep_page
from arcinvert.audit.report import LeakageReport

pytestmark = pytest.mark.slow
WIDTHS = (320, 768, 1280)
TEXT = ("ink", "soft", "accent", "alarm", "strong", "middle", "doubt", "plain")
LABELS = ("quiet", "s0", "s1", "s2", "s3", "s4", "s5")
OUTSIDE = """width => [...document.querySelectorAll('body *')].filter(e => {
  const box = e.getBoundingClientRect();
  return box.width > 1 && (box.right > width + 1 || box.left < -1) && !e.closest('.visually-hidden');
}).map(e => e.outerHTML.slice(0, 120))"""


class Window:
    """A browser window that records requests and what the console logs."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.requests: list[str] = []
        self.messages: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.messages.append(message.text))

    def open(self, path: Path, html: str, *, width: int = 1280, dark: bool = False) -> None:
        path.write_text(html, encoding="utf-8")
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.emulate_media(color_scheme="dark" if dark else "light")
        self.requests.clear()
        self.messages.clear()
        self.page.goto(path.as_uri())

    def ask(self, expression: str, value: object = None) -> Any:
        """The value of an expression in the page."""
        return self.page.evaluate(expression, value)

    def color(self, name: str) -> str:
        """A color of the style sheet in the scheme that is shown."""
        found = self.ask("name => getComputedStyle(document.documentElement).getPropertyValue(name)", f"--{name}")
        return str(found).strip()


@pytest.fixture
def window(browser: Any) -> Iterator[Window]:
    opened = browser.new_page()
    yield Window(opened)
    opened.close()


@pytest.mark.parametrize("kind", ["audit", "hostile audit", "sweep", "hostile sweep"])
def test_nothing_overflows_and_no_request_leaves(
    window: Window, report: LeakageReport, tmp_path: Path, kind: str
) -> None:
    report = hostile(report) if "hostile" in kind else report
    faces = {f"record {n}": {"enrolled photo": PNG, "reconstruction": PNG} for n in range(5)}
    path = tmp_path / "page.html"
    for width in WIDTHS:
        window.open(path, sweep_page(report) if "sweep" in kind else page(report, faces), width=width)
        assert window.ask("innerWidth") == width
        assert window.ask("document.scrollingElement.scrollWidth") == width
        assert window.ask(OUTSIDE, width) == []
        assert [address for address in window.requests if not address.startswith("data:")] == [path.as_uri()]
        assert window.messages == []
        assert window.ask("document.scripts.length") == 0
        assert window.ask("getComputedStyle(document.querySelector('main')).maxWidth") == "992px"  # the style applies


def test_a_request_would_be_recorded(window: Window, tmp_path: Path) -> None:
    """The test above can fail: a request is recorded, a refusal is logged, a wide block is measured."""
    image = "<img src='http://127.0.0.1:9/x.png'>"
    window.open(tmp_path / "wide.html", f"<!doctype html><body>{image}<div style='width:900px'>wide</div>", width=320)
    assert "http://127.0.0.1:9/x.png" in window.requests
    assert window.ask("document.scrollingElement.scrollWidth") > 320
    assert window.ask(OUTSIDE, 320)
    policy = "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'\">"
    window.open(tmp_path / "refused.html", f"<!doctype html>{policy}<body>{image}", width=320)
    assert any("Content Security Policy" in message for message in window.messages)


def photographed(window: Window) -> bytes:
    """The whole page as PNG. On a busy machine Chromium may fail to take it ("Unable to capture"): three tries."""
    for _ in range(2):
        try:
            return bytes(window.page.screenshot(full_page=True))
        except Exception as error:
            if "Unable to capture screenshot" not in str(error):
                raise
            window.page.wait_for_timeout(1000)
    return bytes(window.page.screenshot(full_page=True))


@pytest.mark.parametrize(("width", "dark"), [(320, False), (320, True), (1280, False), (1280, True)])
def test_a_screenshot_shows_the_report(
    window: Window, report: LeakageReport, tmp_path: Path, width: int, dark: bool
) -> None:
    window.open(tmp_path / "page.html", page(report), width=width, dark=dark)
    shot = Image.open(io.BytesIO(photographed(window))).convert("L")
    pixels = np.asarray(shot).astype(np.int16)
    assert pixels.shape == (window.ask("document.scrollingElement.scrollHeight"), width)
    paper = pixels[2, 2]
    inked = np.abs(pixels - paper) > 20
    assert (paper < 40) == dark
    assert 0.02 < inked.mean() < 0.4
    assert np.diff(np.flatnonzero(inked.any(1))).max() < 150, "a hole in the page"


def test_text_has_contrast_in_both_schemes(window: Window, report: LeakageReport, tmp_path: Path) -> None:
    """WCAG 2 contrast: 4.5 for text, against the paper and the panel; marks are on paper alone."""
    for dark in (False, True):
        window.open(tmp_path / "page.html", page(report), dark=dark)
        paper, panel = window.color("paper"), window.color("panel")
        for name in TEXT + LABELS:
            assert contrast(window.color(name), paper) >= 4.5, (dark, name)
        for name in TEXT:
            assert contrast(window.color(name), panel) >= 4.5, (dark, name)


def test_it_prints_on_white_paper(window: Window, report: LeakageReport, tmp_path: Path) -> None:
    window.open(tmp_path / "page.html", page(report), dark=True)
    assert window.page.pdf().startswith(b"%PDF")
    window.page.emulate_media(media="print", color_scheme="dark")
    assert window.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


@pytest.mark.parametrize("faces", [0, 30])
def test_printed_pages_are_full(window: Window, report: LeakageReport, tmp_path: Path, faces: int) -> None:
    """What breaks avoid costs at most a sixth of the paper."""
    images = {f"record {n}": {"enrolled photo": PNG, "reconstruction": PNG} for n in range(faces)}
    window.open(tmp_path / "page.html", page(report, images))
    pages = len(re.findall(rb"/Type\s*/Page\b", window.page.pdf(format="A4")))
    width, height = (round((side - 2 * margin) / 25.4 * 96) for side, margin in ((210, 14), (297, 16)))
    window.page.emulate_media(media="print")
    window.page.set_viewport_size({"width": width, "height": height})
    needed = window.ask("document.scrollingElement.scrollHeight") / height
    assert 1 < needed <= pages < 1.17 * needed + 1


def contrast(a: str, b: str) -> float:
    """Contrast of two colors ``#rgb`` or ``#rrggbb`` (WCAG 2.2, relative luminance)."""
    bright, dim = sorted((luminance(a), luminance(b)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def luminance(color: str) -> float:
    digits = color[1:] if len(color) == 7 else "".join(2 * digit for digit in color[1:])
    parts = [int(digits[n : n + 2], 16) / 255 for n in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
