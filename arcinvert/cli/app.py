"""``arcinvert app``: a page on this machine that shows what embeddings reveal."""

import time
from pathlib import Path
from typing import Annotated

import typer

from arcinvert.cli.common import Checkpoint, Device, answer, device, log

NAME = "app"


def main(
    port: Annotated[
        int | None,
        typer.Option(help="Serve at this port. Default: a free one from 7860 on.", min=1, max=65535),
    ] = None,
    judge: Annotated[
        list[Path] | None, typer.Option("--judge", help="Compare with this recognizer; may be repeated.")
    ] = None,
    root: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder whose stores, photos and recognizers may be named on the page; may be repeated. "
            "Default: only uploads and the examples."
        ),
    ] = None,
    browser: Annotated[bool, typer.Option("--browser", help="Open the page in the browser at once.")] = False,
    checkpoint: Checkpoint = None,
    device_name: Device = "auto",
) -> None:
    """Serve a page on this machine that inverts, compares and audits. Needs arcinvert[app].

    Only this machine can reach it, with the token in the printed address, and it makes no request to any other.
    Uploads and images are deleted when the browser tab is closed. Ctrl-C ends it.

    Examples:
        arcinvert app --browser
        arcinvert app --checkpoint net.onnx --judge judge.onnx
    """
    from arcinvert.app.page import launch, warm_up
    from arcinvert.app.state import AppState

    state = AppState(checkpoint, judge or [], device=device(device_name), roots=root or [])
    try:
        log.info("loading the recognizer")
        warm_up(state)
        page, address = launch(state, port=port)
        answer(f"the page is at {address}")
        log.info("Ctrl-C ends it")
        if browser:
            import webbrowser

            webbrowser.open(address)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            log.info("closing")
        finally:
            page.close(verbose=False)
    finally:
        state.close()
