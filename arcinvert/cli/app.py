"""``arcinvert app``: a page on one's own machine that shows what embeddings give away."""

import time
from pathlib import Path
from typing import Annotated

import typer

from arcinvert.cli.common import Checkpoint, Device, answer, device, say

NAME = "app"


def main(
    port: Annotated[int | None, typer.Option(help="Default: a free one from 7860 on.", min=1, max=65535)] = None,
    judge: Annotated[
        list[Path] | None, typer.Option("--judge", help="A recognizer to compare with; may be repeated.")
    ] = None,
    browser: Annotated[bool, typer.Option("--browser", help="Open the page in the browser.")] = False,
    checkpoint: Checkpoint = None,
    device_name: Device = "auto",
) -> None:
    """Open a page on this machine: watch a face come out of an embedding, compare, audit. Needs arcinvert[app].

    Only this machine can reach it, and it asks for nothing from outside. Ctrl-C ends it.
    """
    from arcinvert.app.page import launch, warm
    from arcinvert.app.state import Studio

    studio = Studio(checkpoint, judge or [], device=device(device_name))
    try:
        say("loading the recognizer")
        warm(studio)
        page = launch(studio, port=port)
        answer(f"the page is at {page.local_url}")
        say("Ctrl-C ends it")
        if browser:
            import webbrowser

            webbrowser.open(page.local_url)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            say("closing")
        finally:
            page.close(verbose=False)
    finally:
        studio.close()
