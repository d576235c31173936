"""The pages in a headless Chromium: nothing overflows, nothing is asked for, a screenshot shows something."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from chromium import Browser
from page_report import PNG, hostile
from PIL import Image

from arcinvert.audit.page import page, sweep_page
from arcinvert.audit.report import LeakageReport

pytestmark = pytest.mark.slow
WIDTHS = (320, 768, 1280)
TEXT = ("ink", "soft", "accent", "alarm", "strong", "middle", "doubt", "plain")
LABELS = ("quiet", "s0", "s1", "s2", "s3", "s4", "s5")
OUTSIDE = """(width => [...document.querySelectorAll('body *')].filter(e => {
  const box = e.getBoundingClientRect();
  return box.width > 1 && (box.right > width + 1 || box.left < -1) && !e.closest('.visually-hidden');
}).map(e => e.outerHTML.slice(0, 120)))"""


@pytest.fixture(params=["audit", "hostile", "sweep", "hostile sweep"])
def opened(request: pytest.FixtureRequest, report: LeakageReport, tmp_path: Path) -> Path:
    """A page in a file."""
    report = hostile(report) if "hostile" in request.param else report
    path = tmp_path / "page.html"
    faces = {f"record {n}": {"enrolled photo": PNG, "reconstruction": PNG} for n in range(5)}
    path.write_text(sweep_page(report) if "sweep" in request.param else page(report, faces), encoding="utf-8")
    return path


def test_nothing_overflows_and_no_request_leaves(browser: Browser, opened: Path) -> None:
    for width in WIDTHS:
        browser.open(opened, width=width)
        assert browser.ask("innerWidth") == width
        assert browser.ask("document.scrollingElement.scrollWidth") == width
        assert browser.ask(f"{OUTSIDE}({width})") == []
        asked = [address for address in browser.requests() if not address.startswith("data:")]
        assert asked == [opened.as_uri()]
        assert browser.complaints() == []
        assert browser.ask("document.scripts.length") == 0
        assert browser.ask("getComputedStyle(document.querySelector('main')).maxWidth") == "992px"  # the style applies


def test_a_request_would_be_seen(browser: Browser, tmp_path: Path) -> None:
    """The test above can fail: a foreign picture is recorded, a refusal is logged, a wide block is measured."""
    wide = tmp_path / "wide.html"
    wide.write_text("<!doctype html><body><img src='http://127.0.0.1:9/x.png'><div style='width:900px'>wide</div>")
    browser.open(wide, width=320)
    assert "http://127.0.0.1:9/x.png" in browser.requests()
    assert browser.ask("document.scrollingElement.scrollWidth") > 320
    assert browser.ask(f"{OUTSIDE}(320)")
    refused = tmp_path / "refused.html"
    policy = "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'\">"
    refused.write_text(f"<!doctype html>{policy}<body><img src='http://127.0.0.1:9/x.png'>")
    browser.open(refused, width=320)
    assert browser.complaints()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [320, 1280])
def test_a_screenshot_shows_the_report(
    browser: Browser, report: LeakageReport, tmp_path: Path, width: int, dark: bool
) -> None:
    path = tmp_path / "page.html"
    path.write_text(page(report), encoding="utf-8")
    browser.open(path, width=width, dark=dark)
    shot = browser.call("Page.captureScreenshot", captureBeyondViewport=True, optimizeForSpeed=True)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("L")).astype(np.int16)
    assert pixels.shape == (browser.ask("document.scrollingElement.scrollHeight"), width)
    paper = pixels[2, 2]
    inked = np.abs(pixels - paper) > 20
    assert (paper < 40) == dark
    assert 0.02 < inked.mean() < 0.4
    assert np.diff(np.flatnonzero(inked.any(1))).max() < 150, "a hole in the page"


def test_text_stands_out_in_both_schemes(browser: Browser, report: LeakageReport, tmp_path: Path) -> None:
    """WCAG 2 contrast: 4.5 for text, against the paper and the panel; marks stand on paper alone."""
    path = tmp_path / "page.html"
    path.write_text(page(report), encoding="utf-8")
    for dark in (False, True):
        browser.open(path, width=1280, dark=dark)
        paper, panel = (color(browser, name) for name in ("paper", "panel"))
        for name in TEXT + LABELS:
            assert contrast(color(browser, name), paper) >= 4.5, (dark, name)
        for name in TEXT:
            assert contrast(color(browser, name), panel) >= 4.5, (dark, name)


def test_it_prints_on_paper(browser: Browser, report: LeakageReport, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(page(report), encoding="utf-8")
    browser.open(path, width=1280, dark=True)
    printed = base64.b64decode(browser.call("Page.printToPDF", printBackground=False)["data"])
    assert printed.startswith(b"%PDF")
    browser.call("Emulation.setEmulatedMedia", media="print", features=[])
    assert browser.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def color(browser: Browser, name: str) -> str:
    """A color of the style sheet in the scheme that is shown."""
    found = browser.ask(f"getComputedStyle(document.documentElement).getPropertyValue('--{name}').trim()")
    assert isinstance(found, str)
    return found


def contrast(a: str, b: str) -> float:
    """Contrast of two colors ``#rgb`` or ``#rrggbb`` (WCAG 2.2, relative luminance)."""
    bright, dim = sorted((luminance(a), luminance(b)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def luminance(color: str) -> float:
    digits = color[1:] if len(color) == 7 else "".join(2 * digit for digit in color[1:])
    parts = [int(digits[n : n + 2], 16) / 255 for n in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
