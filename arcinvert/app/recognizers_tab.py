"""The fifth tab: the recognizers of this machine, their descriptions and their calibration."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from arcinvert.app.callbacks import errors_as_messages, follow, message, on, progress_bar, visitor
from arcinvert.app.drawing import PARTS
from arcinvert.app.state import AppState
from arcinvert.audit.page.formatting import one_in
from arcinvert.formats.hub import KNOWN_MODELS, PACKS

CALIBRATION = (
    "Calibration shows a recognizer some thousand synthetic faces, once, and learns which face belongs to which "
    "numbers. An inversion needs it. It takes minutes on a small machine and is kept."
)


def card(state: AppState, name: str) -> str:
    """The output of ``arcinvert checkpoint info`` for a recognizer."""
    listed, found = state.listed(name), state.description(name)
    contract, calibration, norms = found["contract"], found["calibration"], found["batchnorm"]
    known = state.thresholds(name)
    thresholds = [f"{t.threshold:.3f} accepts {one_in(t.fmr)}" for t in known if t.threshold is not None]
    basis = f" (fixed on {known[0].basis})" if known else ""
    facts = {
        "file": f"{listed.path.name} ({listed.origin})",
        "format": found["format"],
        "network": f"{found['backbone']}, {found['parameters'] / 1e6:.2f} million parameters",
        "embedding": f"{found['embedding_size']} numbers",
        "image": f"{contract['size'][0]}x{contract['size'][1]}, {contract['color']} ({contract['from']})",
        "BatchNorm": f"{norms['found']} layers, {norms['folded']} folded or absent",
        "calibrated": f"on {calibration['faces']:,} faces, in {calibration['in']}" if calibration else "not yet",
        "thresholds": "; ".join(thresholds) + basis or "none yet; fixed on synthetic faces at the first comparison",
        "license": found["license"] or "not in the file",
        "digest": found["digest"][:16] + "…",
    }
    return str(PARTS.recognizer(name, facts))


def build(state: AppState, tab: gr.Tab, choosers: dict[str, Any]) -> None:
    """Lay out the tab and wire it.

    Args:
        state: has the recognizers.
        tab: this one.
        choosers: dropdowns (``names``) and check boxes (``judges``) of the other tabs, which list a new recognizer.
    """
    gr.Markdown(f"The recognizers of this machine. {CALIBRATION}")
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            name = gr.Dropdown(state.names, value=state.names[0], label="Recognizer", elem_id="recognizer")
            calibrate = gr.Button("Calibrate it", variant="primary")
            path = gr.Textbox(
                label="Add one: a file below --root, or the name of an installed one",
                placeholder="network.onnx",
            )
            add = gr.Button("Add", elem_id="add")
        with gr.Column(scale=3, min_width=320):
            shown = gr.HTML("", elem_id="recognizer-card")
            status = gr.HTML("", elem_id="calibration")

    def show(chosen: str) -> Any:
        with errors_as_messages():
            return card(state, chosen)

    def calibrate_it(chosen: str, request: gr.Request) -> Iterator[dict[Any, Any]]:
        with errors_as_messages():
            if state.is_calibrated(chosen):
                yield {status: message(f"{chosen} is calibrated already.")}
                return
            task = state.start(visitor(request), lambda task: state.inverter(chosen, task.progress))
            for _ in follow(task):
                yield {status: progress_bar(task)}
            task.result.result()
            yield {status: message(f"{chosen} is calibrated now."), shown: card(state, chosen)}

    def add_it(typed: str) -> Any:
        with errors_as_messages():
            named = (typed or "").strip()
            installed = named in {*PACKS, *KNOWN_MODELS}
            title = state.add(named if installed else state.allowed(named), "added on the page")
            found = card(state, title)  # refuses a file that is not a recognizer
            names = state.names
            lists = [gr.update(choices=names, value=title), *(gr.update(choices=names) for _ in choosers["names"])]
            judges = [gr.update(choices=names[1:], value=names[1:], visible=True) for _ in choosers["judges"]]
            return [*lists, *judges, found]

    for event in (tab.select, name.change):
        on(event, show, name, shown)
    on(calibrate.click, calibrate_it, name, [shown, status])
    for event in (add.click, path.submit):
        on(event, add_it, path, [name, *choosers["names"], *choosers["judges"], shown])
