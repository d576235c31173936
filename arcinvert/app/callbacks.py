"""Helpers of the tabs: events and their errors as messages, the progress of a task, the visitor of a request."""

import html
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from arcinvert.app.drawing import PARTS
from arcinvert.app.task import DONE, PAUSED, WAITING, Canceled, Task
from arcinvert.errors import ArcInvertError

PERIOD = 0.25
"""Least seconds between two updates of the page."""
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": 8}
"""Options of every event."""
CLOSE_MESSAGES = "() => { document.querySelectorAll('.toast-close').forEach(button => button.click()); }"
"""Script for the browser: what was wrong is right now."""


def on(event: Any, function: Any, inputs: Any = None, outputs: Any = None, **options: Any) -> Any:
    """Wire an event of gradio; when its callback ends without an error, messages of earlier errors are closed."""
    done = event(function, inputs, outputs, **QUIET | options)
    done.success(None, None, None, js=CLOSE_MESSAGES, **QUIET)
    return done


@contextmanager
def errors_as_messages() -> Iterator[None]:
    """Show an error of ours as a message on the page; a canceled task shows nothing."""
    try:
        yield
    except Canceled:
        return
    except ArcInvertError as error:
        line = html.escape(" ".join(str(error).split()))
    except MemoryError:
        line = "This machine has too little memory for that; try fewer variations."
    else:
        return
    raise gr.Error(line, duration=None, print_exception=False)


TO_THE_TOP = """
const element = document.getElementById('{element}'), until = Date.now() + 1000;
let own = true;
for (const moved of ['wheel', 'touchstart']) addEventListener(moved, () => own = false, {{once: true}});
const again = () => {{
  if (!own || Date.now() > until) return;
  if (Math.abs(element.getBoundingClientRect().top) >= 1) element.scrollIntoView({{block: 'start'}});
  setTimeout(again, 100);
}};
again();
"""
"""For a second, or until the visitor scrolls: what appears below moves the page, and may make it long enough."""


def scroll_to(element: str, *, phone: str | None = None) -> str:
    """Script for the browser: scroll to the result; on a narrow screen put ``phone`` at its top, if it is given."""
    wide = f"document.getElementById('{element}').scrollIntoView({{behavior: 'smooth', block: 'nearest'}})"
    if phone is None:
        return f"() => {{ {wide}; }}"
    narrow = TO_THE_TOP.format(element=phone)
    return f"() => {{ if (innerWidth <= 640) {{ {narrow} }} else {{ {wide}; }} }}"


def visitor(request: gr.Request) -> str:
    """The browser tab of a request."""
    return str(request.session_hash)


def follow(task: Task[Any]) -> Iterator[str]:
    """The state of a task after each change, at most every :data:`PERIOD`, until it is paused or done."""
    seen = 0
    while True:
        seen = task.wait_for_change(seen, timeout=1.0)
        state = task.state
        yield state
        if state in (PAUSED, DONE):
            return
        time.sleep(PERIOD)


def progress_bar(task: Task[Any]) -> str:
    """The progress of a task, as a bar and in words."""
    done, total, text = task.last_progress
    if task.state == WAITING:
        return message("This machine is busy with other work of this page; yours starts when that is done.")
    return str(PARTS.progress_bar(text.capitalize(), done, total)) if total else message("Starting …")


def message(text: str, kind: str = "") -> str:
    """A line of the page; ``kind`` may be ``warning``."""
    return str(PARTS.message(text, kind))
