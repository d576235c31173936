"""The page: four tabs, bound to this machine, with nothing from outside."""

import logging
import os
from typing import Any

from arcinvert.app.reconstruction import begin, checked
from arcinvert.app.state import Studio
from arcinvert.app.style import COLORS, STYLE
from arcinvert.app.targets import LARGEST
from arcinvert.errors import EnvironmentProblem

HOST = "127.0.0.1"
SILENT = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
HEAD = """
<div class="ai-head"><h1>What do 512 numbers say of a face?</h1>
<p>Face recognition keeps no photo of you, only a list of numbers. This page turns such a list back into a face, here,
on your own machine. All faces of the examples are synthetic: people who do not exist.</p></div>
"""


def build(studio: Studio) -> Any:
    """The page as gradio's ``Blocks``.

    Raises:
        EnvironmentProblem: gradio is not installed.
    """
    os.environ.update(SILENT, GRADIO_TEMP_DIR=str(studio.folder / "uploads"))
    try:
        import gradio as gr

        from arcinvert.app import audit_tab, compare_tab, invert_tab
        from arcinvert.app import recognizers_tab as recognizers_tab
        from arcinvert.app.callbacks import visitor
    except ImportError as error:
        raise EnvironmentProblem(f"the page needs gradio ({error}): pip install 'arcinvert[app]'") from None

    def left(request: gr.Request) -> None:
        studio.leave(visitor(request))

    with gr.Blocks(title="arcinvert", analytics_enabled=False) as page:
        gr.HTML(HEAD)
        with gr.Tab("Face", id="invert"):
            inverting = invert_tab.build(studio)
        with gr.Tab("Compare", id="compare") as tab:
            comparing = compare_tab.build(studio, inverting["made"], tab)
        with gr.Tab("Audit", id="audit") as tab:
            auditing = audit_tab.build(studio, tab)
        with gr.Tab("Recognizers", id="recognizers") as tab:
            names, judges = [inverting["name"], auditing["name"]], [comparing["judges"], auditing["judges"]]
            recognizers_tab.build(studio, tab, {"names": names, "judges": judges})
        function, inputs, outputs = inverting["load"]
        page.load(function, inputs, outputs, show_progress="hidden", api_visibility="private")
        page.unload(left)
    return page.queue(default_concurrency_limit=8, max_size=32)


def launch(studio: Studio, *, port: int | None = None) -> Any:
    """Start the page in threads of its own; returns gradio's ``Blocks``, whose ``local_url`` is the address.

    Args:
        studio: what the page knows.
        port: None takes a free one from 7860 on.

    Raises:
        EnvironmentProblem: gradio is not installed, or the port is taken.
    """
    page = build(studio)
    import gradio as gr

    for noisy in ("httpx", "gradio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    theme = gr.themes.Default(
        primary_hue=gr.themes.colors.blue,
        font=[gr.themes.Font("system-ui"), gr.themes.Font("sans-serif")],
        font_mono=[gr.themes.Font("monospace")],
    ).set(**COLORS)
    try:
        page.launch(
            server_name=HOST,
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            show_error=False,
            max_file_size=LARGEST,
            theme=theme,
            css=STYLE,
            footer_links=[],
            ssr_mode=False,
            enable_monitoring=False,
        )
    except OSError:
        wanted = "of the ports from 7860 to 7959 none is free" if port is None else f"port {port} is taken"
        raise EnvironmentProblem(f"cannot serve the page on {HOST}: {wanted}; choose one with --port") from None
    return page


def warm(studio: Studio) -> None:
    """Do what the first visit needs beforehand: load, find the example's face, take one step of its inversion."""
    name = studio.names[0]
    target = studio.example(name)
    if studio.calibrated(name):
        making = begin(studio, "", name, target, checked("fast", 1, 1, 0, None, None))
        if making.task is not None:
            making.task.result.result()
        studio.leave("")
