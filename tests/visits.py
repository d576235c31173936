"""A visitor of the page `arcinvert app`, in a browser."""

from typing import Any

SOON = 180_000  # milliseconds: a busy machine takes a while


def opened(context: Any, address: str) -> Any:
    """A new visitor who sees the example."""
    context.set_default_timeout(SOON)
    page = context.new_page()
    page.asked = []
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(address)
    page.wait_for_selector("#stage img")
    page.get_by_text("More settings").click()
    return page


def fill(page: Any, name: str, value: int) -> None:
    """Set a slider by its number, until it stays: the page may still be loading."""
    field = page.locator(f"#{name} input[type=number]")
    for _ in range(10):
        field.fill(str(value))
        field.blur()
        page.wait_for_timeout(250)
        shown = page.evaluate("name => document.querySelector(`#${name} input[type=range]`).value", name)
        if field.input_value() == shown == str(value):
            return
    raise AssertionError(f"the slider {name} does not take {value}")
