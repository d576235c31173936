"""The fourth tab: the recognizers of this machine, what is known of each, and their calibration."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from arcinvert.app.drawing import odds, remark
from arcinvert.app.studio import Studio
from arcinvert.app.telling import advance, followed, told, visitor
from arcinvert.audit.page.markup import Markup, tag

CALIBRATION = (
    "Calibration shows a recognizer some thousand synthetic faces, once, and learns which face goes with which "
    "numbers. Inverting needs it; it takes minutes on a small machine and is kept."
)


def card(studio: Studio, name: str) -> Markup:
    """What ``arcinvert checkpoint info`` says of a recognizer."""
    known, found = studio.known(name), studio.described(name)
    contract, calibration, norms = found["contract"], found["calibration"], found["batchnorm"]
    thresholds = [
        f"{t['threshold']:.3f} lets in {odds(t['fmr'])}" for t in found["thresholds"] if t["threshold"] is not None
    ]
    lines = {
        "file": f"{known.path.name} ({known.origin})",
        "format": found["format"],
        "network": f"{found['backbone']}, {found['parameters'] / 1e6:.2f} million parameters",
        "embedding": f"{found['embedding_size']} numbers",
        "image": f"{contract['size'][0]}x{contract['size'][1]}, {contract['color']} ({contract['from']})",
        "BatchNorm": f"{norms['found']} layers, {norms['folded']} folded or never there",
        "calibrated": f"on {calibration['faces']:,} faces, in {calibration['in']}" if calibration else "not yet",
        "thresholds": "; ".join(thresholds) or "none stated; fixed on synthetic faces when it is asked",
        "license": found["license"] or "the file does not say",
        "digest": found["digest"][:16] + "…",
    }
    rows = [part for key, value in lines.items() for part in (tag("dt", key), tag("dd", value))]
    return tag("section", tag("h3", name), tag("dl", *rows), class_="ai-card")


def build(studio: Studio, tab: gr.Tab, choosers: dict[str, Any]) -> None:
    """Lay out the tab and wire it.

    Args:
        studio: knows the recognizers.
        tab: this one.
        choosers: dropdowns (``names``) and check boxes (``judges``) of the other tabs, which a new recognizer enters.
    """
    gr.Markdown(f"Recognizers that this machine knows. {CALIBRATION}")
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            name = gr.Dropdown(studio.names, value=studio.names[0], label="Recognizer", elem_id="recognizer")
            calibrate = gr.Button("Calibrate it", variant="primary")
            path = gr.Textbox(
                label="Add one: a file on this machine, or an installed one's name", placeholder="network.onnx"
            )
            add = gr.Button("Add", elem_id="add")
        with gr.Column(scale=3, min_width=320):
            shown = gr.HTML("", elem_id="recognizer-card")
            status = gr.HTML("", elem_id="calibration")

    def show(chosen: str) -> Any:
        with told():
            return card(studio, chosen)

    def make(chosen: str, request: gr.Request) -> Iterator[dict[Any, Any]]:
        with told():
            if studio.calibrated(chosen):
                yield {status: remark(f"{chosen} is calibrated already.")}
                return
            task = studio.begin(visitor(request), lambda task: studio.inverter(chosen, task.progress))
            for _ in followed(task):
                yield {status: advance(task)}
            task.result.result()
            yield {status: remark(f"{chosen} is calibrated now."), shown: card(studio, chosen)}

    entered = [name, *choosers["names"]]

    def enter(typed: str) -> Any:
        with told():
            title = studio.add((typed or "").strip(), "added in the page")
            found = card(studio, title)  # refuses what is no recognizer
            names = studio.names
            lists = [gr.update(choices=names, value=title), *(gr.update(choices=names) for _ in choosers["names"])]
            asked = [gr.update(choices=names[1:], value=names[1:], visible=True) for _ in choosers["judges"]]
            return [*lists, *asked, found]

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": 8}
    tab.select(show, name, shown, **quiet)
    name.change(show, name, shown, **quiet)
    calibrate.click(make, name, [shown, status], **quiet)
    for event in (add.click, path.submit):
        event(enter, path, [*entered, *choosers["judges"], shown], **quiet)
