"""Helpers of the tabs' callbacks: errors as messages, the progress of a task, the visitor of a request."""

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


def scroll_to(element: str) -> str:
    """Script for the browser: on a phone, scroll to the result."""
    return f"() => {{ document.getElementById('{element}').scrollIntoView({{behavior: 'smooth', block: 'nearest'}}); }}"


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
