"""The page: five tabs, served to this machine alone, without requests to any other."""

import logging
import os
import secrets
from importlib.resources import files
from typing import Any

from arcinvert.app.door import Door
from arcinvert.app.reconstruction import LiveReconstruction, check_settings
from arcinvert.app.state import AppState
from arcinvert.app.targets import MAX_FILE_BYTES
from arcinvert.errors import EnvironmentProblem

HOST = "127.0.0.1"
COLORS = {
    "body_text_color_subdued": "#4b5563",
    "body_text_color_subdued_dark": "#c3c8d0",
    "block_label_text_color": "#4b5563",
    "block_label_text_color_dark": "#c3c8d0",
    "block_title_text_color": "#374151",
    "block_title_text_color_dark": "#e5e7eb",
    "button_primary_background_fill": "#005a9c",
    "button_primary_background_fill_hover": "#00487d",
    "button_primary_background_fill_dark": "#1d6fb8",
    "button_primary_background_fill_hover_dark": "#2b80cc",
    "input_placeholder_color": "#6b6b74",
    "input_placeholder_color_dark": "#a5a5b0",
    "slider_color": "#0072b2",
    "slider_color_dark": "#56b4e9",
}
"""Of gradio's theme. The contrast of text to its background is at least 4.5:1."""
NARROW = "<style>@media (max-width: 640px) { .main { padding: 12px !important; } }</style>"
"""Of the frame around the page, which `app.css` does not reach."""


def build(state: AppState) -> Any:
    """The page as gradio's ``Blocks``.

    Raises:
        EnvironmentProblem: gradio is not installed.
    """
    os.environ.update(HF_HUB_OFFLINE="1", GRADIO_TEMP_DIR=str(state.folder / "uploads"))
    try:
        import gradio as gr

        from arcinvert.app import audit_tab, compare_tab, invert_tab, recognizers_tab, two_photos_tab
        from arcinvert.app.callbacks import on, visitor
    except ImportError as error:
        raise EnvironmentProblem(f"the page needs gradio ({error}): pip install 'arcinvert[app]'") from None

    def leave(request: gr.Request) -> None:
        state.leave(visitor(request))

    with gr.Blocks(title="arcinvert", analytics_enabled=False) as page:
        head = gr.HTML(invert_tab.heading(state, state.names[0]))
        with gr.Tabs(overflow_behavior="wrap"):  # a menu is laid out before the style sheet is there
            with gr.Tab("Face", id="invert"):
                inverting = invert_tab.build(state, head)
            with gr.Tab("Compare", id="compare") as tab:
                comparing = compare_tab.build(state, inverting["result"], tab)
            with gr.Tab("Two photos", id="photos") as tab:
                both = two_photos_tab.build(state, tab)
            with gr.Tab("Audit", id="audit") as tab:
                auditing = audit_tab.build(state, tab)
            with gr.Tab("Recognizers", id="recognizers") as tab:
                names = [part["name"] for part in (inverting, both, auditing)]
                judges = [part["judges"] for part in (comparing, both, auditing)]
                recognizers_tab.build(state, tab, {"names": names, "judges": judges})
        on(page.load, *inverting["load"])
        page.unload(leave)
    return page.queue(default_concurrency_limit=8, max_size=32)


def launch(state: AppState, *, port: int | None = None) -> tuple[Any, str]:
    """Start the page in threads of its own; return gradio's ``Blocks``, and the address with the token that opens it.

    Args:
        state: of the page.
        port: None takes a free one from 7860 on.

    Raises:
        EnvironmentProblem: gradio is not installed, or the port is taken.
    """
    page = build(state)
    import gradio as gr
    from starlette.middleware import Middleware

    token = secrets.token_urlsafe(24)
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
            max_file_size=MAX_FILE_BYTES,
            theme=theme,
            head=f"{NARROW}<script>{_text('tabs.js')}</script>",
            css=_text("app.css"),
            footer_links=[],
            ssr_mode=False,
            enable_monitoring=False,
            app_kwargs={"middleware": [Middleware(Door, token=token)]},
        )
    except OSError:
        wanted = "of the ports from 7860 to 7959 none is free" if port is None else f"port {port} is taken"
        raise EnvironmentProblem(f"cannot serve the page on {HOST}: {wanted}; choose one with --port") from None
    return page, f"{page.local_url}?token={token}"


def _text(name: str) -> str:
    """A file of this folder."""
    return files("arcinvert.app").joinpath(name).read_text(encoding="utf-8")


def warm_up(state: AppState) -> None:
    """Load what the first visit needs: the recognizer, the example's face, and one step of its inversion."""
    name = state.names[0]
    target = state.example(name)
    if state.is_calibrated(name):
        LiveReconstruction(state, "", name, target, check_settings("fast", 1, 1, 0, None, None)).task.result.result()
        state.cancel("")
