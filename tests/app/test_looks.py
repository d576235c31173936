"""Each tab on a desktop and a phone, light and dark: nothing is cut off, text has contrast, a keyboard is enough."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from visits import SOON, fill, opened

pytest.importorskip("gradio", minversion="6.31", reason="needs gradio 6.31: pip install 'arcinvert[app]'")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # those of gradio

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 375, "height": 812}
TABS = {
    "Face": "#stage img",
    "Compare": "#comparisons .ai-message",
    "Two photos": "#photos-and-faces img",
    "Audit": "#findings li",
    "Recognizers": "#recognizer-card dl",
}
"""Tab -> what it shows when it is ready."""
CONTRAST = (Path(__file__).parent / "contrast.js").read_text()
NAMELESS = """() => [...document.querySelectorAll('button, input, textarea, select, [role=tab], [role=slider]')]
    .filter(e => e.checkVisibility({visibilityProperty: true}) && e.type !== 'hidden' && !e.ariaHidden)
    .filter(e => !(e.ariaLabel || e.innerText || e.placeholder || e.title || (e.labels || []).length
                   || e.getAttribute('aria-labelledby')))
    .map(e => e.outerHTML.slice(0, 200))"""


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def page(request: pytest.FixtureRequest, browser: Any, address: str, scheme: str) -> Iterator[Any]:
    context = browser.new_context(viewport=request.param, color_scheme=scheme)
    yield opened(context, address)
    context.close()


def problems(page: Any) -> list[str]:
    """What a visitor cannot see or name."""
    page.wait_for_timeout(400)  # colors change slowly
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    sideways = [f"{wide} pixels are cut off"] if wide > 0 else []
    return [*sideways, *page.evaluate(CONTRAST), *page.evaluate(NAMELESS)]


def done(page: Any) -> None:
    page.wait_for_function("() => document.querySelector('#status').innerText.includes('Done')", timeout=SOON)


def test_every_tab_is_whole_and_readable(page: Any, tmp_path: Path) -> None:
    for tab, shows in TABS.items():
        page.get_by_role("tab", name=tab).click()
        page.wait_for_selector(shows)
        assert problems(page) == [], tab
    page.get_by_role("tab", name="Face").click()
    fill(page, "steps", 5)
    fill(page, "faces", 2)
    page.click("#go")
    done(page)
    assert "measured" in page.inner_text("#variations")
    assert problems(page) == []
    (tmp_path / "broken.png").write_bytes(b"no picture at all")
    page.set_input_files("#drop input", tmp_path / "broken.png")
    page.wait_for_selector(".toast-body")
    assert problems(page) == []


def test_picture_and_curve_are_beside_or_below_the_button(page: Any) -> None:
    fill(page, "steps", 5)
    page.get_by_text("More settings").click()
    page.click("#go")
    done(page)
    if page.viewport_size == PHONE:
        page.wait_for_function("() => Math.abs(document.querySelector('#go').getBoundingClientRect().top) < 2")
    button, picture, curve = (
        page.locator(name).bounding_box() for name in ("#go", "#stage img >> nth=1", "#curve svg")
    )
    if page.viewport_size == PHONE:
        assert button["y"] + button["height"] <= picture["y"] < curve["y"]
        assert picture["y"] - button["y"] - button["height"] < 80
    else:
        assert picture["x"] > button["x"] + button["width"]
        assert button["y"] + button["height"] <= DESKTOP["height"]
    assert curve["y"] + curve["height"] <= page.viewport_size["height"]
