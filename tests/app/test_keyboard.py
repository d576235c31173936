"""Each tab by the keyboard alone: arrow keys choose the tab, Tab reaches every control, Enter starts the work."""

from typing import Any

import pytest
from test_looks import TABS
from visits import SOON

pytest.importorskip("gradio", minversion="6.31", reason="needs gradio 6.31: pip install 'arcinvert[app]'")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # those of gradio

MARK_CONTROLS = """() => [...document.querySelectorAll('button, input, textarea, select, [role=slider]')]
    .filter(e => e.role !== 'tab' && e.checkVisibility({visibilityProperty: true}))
    .filter(e => !e.closest('[aria-hidden=true]') && !e.disabled && e.type !== 'hidden' && e.type !== 'file')
    .map((e, number) => { e.dataset.control = number; return e.outerHTML.slice(0, 200); })"""
"""Numbers every control that a mouse can use; those of files are hidden behind a button."""
FOCUS = "() => { const e = document.activeElement; return [e.tagName, e.dataset.control ?? '', e.id, e.innerText]; }"


def focus(page: Any) -> tuple[str, str, str, str]:
    """The focused element: its tag, the number of the control, its id and its text."""
    tag, control, name, text = page.evaluate(FOCUS)
    return tag, control, name, text


def walk(page: Any) -> list[str]:
    """The numbers of the controls that get the focus, by Tab from the chosen tab to the end of the page."""
    seen = []
    for _ in range(100):
        page.keyboard.press("Tab")
        tag, control, _, _ = focus(page)
        if tag == "BODY" or control in seen:
            return seen
        if control:
            seen.append(control)
    raise AssertionError("100 times Tab do not reach the end of the page")


def move_to(page: Any, name: str) -> None:
    """Press Tab until an element has the focus."""
    for _ in range(100):
        if focus(page)[2] == name:
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not reach {name}")


def choose(page: Any, tab: str) -> None:
    """From the page's start to a tab, by Tab and arrow keys."""
    page.evaluate("() => { document.activeElement.blur(); getSelection().removeAllRanges(); scrollTo(0, 0); }")
    page.get_by_role("tab", name="Face").focus()
    for _ in TABS:
        if focus(page)[3] == tab:
            break
        page.keyboard.press("ArrowRight")
    assert focus(page)[3] == tab
    page.wait_for_selector(TABS[tab])


def test_every_control_of_every_tab_is_reached(page: Any) -> None:
    for tab in TABS:
        choose(page, tab)
        page.wait_for_timeout(300)
        controls = page.evaluate(MARK_CONTROLS)
        assert controls
        seen = walk(page)
        assert [controls[n] for n in range(len(controls)) if str(n) not in seen] == [], tab
        assert seen == sorted(seen, key=int), tab  # in the order of the page


def test_arrow_keys_choose_the_tabs(page: Any) -> None:
    page.get_by_role("tab", name="Face").focus()
    names = list(TABS)
    ways = [("ArrowRight", name) for name in (*names[1:], names[0])]
    ways += [("ArrowLeft", names[-1]), ("Home", names[0]), ("End", names[-1]), ("ArrowDown", names[-1])]
    for key, name in ways:
        page.keyboard.press(key)
        assert focus(page)[3] == name
        assert page.locator("[role=tab][aria-selected=true]").all_inner_texts() == [name]


def test_work_is_started_by_the_keyboard(page: Any) -> None:
    choose(page, "Face")
    for _ in range(100):  # to the slider of the steps: Home is the least, 5
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.matches('#steps input[type=range]')"):
            break
    page.keyboard.press("Home")
    page.wait_for_function("() => document.querySelector('#steps input[type=number]').value == '5'")
    move_to(page, "go")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('#status').innerText.includes('Done')", timeout=SOON)
    assert "step 5," in page.inner_text("#stage")
    choose(page, "Compare")
    move_to(page, "ask")
    page.keyboard.press("Space")
    page.wait_for_selector("#comparisons .ai-card svg")
    choose(page, "Two photos")
    move_to(page, "both")
    page.keyboard.press("Enter")
    page.wait_for_selector("#both-answers table", timeout=SOON)
    choose(page, "Recognizers")
    move_to(page, "add")
    page.keyboard.press("Enter")
    page.wait_for_selector(".toast-body")
