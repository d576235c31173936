"""How the page tells: errors in one line, work as it goes on."""

import html
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from arcinvert.app.drawing import remark
from arcinvert.app.task import DONE, PAUSED, WAITING, Ended, Task
from arcinvert.audit.page.markup import Markup, join, tag
from arcinvert.errors import ArcInvertError

PERIOD = 0.25
"""Seconds between two pictures on the page, at least."""


@contextmanager
def told() -> Iterator[None]:
    """An error of ours becomes a message in the page; work that was ended says nothing."""
    try:
        yield
    except ArcInvertError as error:
        line = html.escape(" ".join(str(error).split()))
        raise gr.Error(line, duration=None, print_exception=False) from None
    except MemoryError:
        line = "This machine has too little memory for that; try fewer variations."
        raise gr.Error(line, duration=None, print_exception=False) from None
    except Ended:
        return


def to(element: str) -> str:
    """Script for the browser: on a phone, scroll to what has begun."""
    return f"() => {{ document.getElementById('{element}').scrollIntoView({{behavior: 'smooth', block: 'nearest'}}); }}"


def visitor(request: gr.Request) -> str:
    """Which tab of which browser asks."""
    return str(request.session_hash)


def followed(task: Task[Any]) -> Iterator[str]:
    """The state of a task, each time something has happened, until it is paused or done; not too often."""
    seen = 0
    while True:
        seen = task.news(seen, timeout=1.0)
        state = task.state
        yield state
        if state in (PAUSED, DONE):
            return
        time.sleep(PERIOD)


def advance(task: Task[Any], waiting: str = "") -> Markup:
    """How far a task is, as a bar and words."""
    if task.state == WAITING:
        return remark(
            waiting or "This machine is busy with other work of this page; yours begins as soon as that is done."
        )
    done, total, text = task.told
    if not total:
        return remark("Beginning …")
    share = f"{100 * done / total:.0f}"
    bar = tag("div", tag("div", style=f"width:{share}%"), class_="ai-bar", aria_hidden="true")
    return join([remark(f"{text.capitalize()}: {done:,} of {total:,}"), bar])
