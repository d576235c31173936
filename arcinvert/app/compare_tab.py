"""The second tab: the target beside an image, and the comparison of the two by every recognizer."""

from collections.abc import Iterator
from typing import Any

import gradio as gr
from torch import Tensor

from arcinvert.app.callbacks import errors_as_messages, follow, message, on, progress_bar, visitor
from arcinvert.app.comparison import CHOICES, MEAN_FACE, RECONSTRUCTION, Comparison, compare, controls
from arcinvert.app.drawing import PARTS, Scale, figure
from arcinvert.app.reconstruction import FinishedReconstruction
from arcinvert.app.state import AppState
from arcinvert.app.task import Task

Update = dict[Any, Any]
EMPTY = "First reconstruct a face in the first tab. Then see here which recognizers accept it."
ONLY_ATTACKED = (
    "Only the attacked recognizer is known on this machine. Its answer proves little, because the image was optimized "
    "for it. Add another one in the tab Recognizers, or start the page with --judge FILE."
)
NOTES = {
    RECONSTRUCTION: "made from the numbers alone",
    MEAN_FACE: "a control: no recognizer should accept it as the person",
}


def card(comparison: Comparison) -> str:
    """The answer of one recognizer."""
    cosine = comparison.cosine
    plot = None if cosine is None else Scale(cosine, comparison.thresholds)
    return str(PARTS.comparison(comparison, plot, comparison.door))


def pair(result: FinishedReconstruction, image: Tensor, what: str) -> str:
    """The target and the image beside it."""
    target = figure(result.target.crop, "The target", "no image: only numbers are known", note="the enrolled image")
    note = NOTES.get(what, "a control: the face of another person")
    return str(PARTS.row([target, figure(image, what.capitalize(), what, note=note)]))


def build(state: AppState, result: gr.State, tab: gr.Tab) -> dict[str, Any]:
    """Lay out the tab and wire it; returns the components that other parts need, by name."""
    gr.Markdown(
        "Compare the image with the target. A system accepts a pair from its *threshold* on: the marks on the scale, "
        "where 1 of 100, or of 1,000, strangers is accepted. The controls show that not every face is accepted."
    )
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            what = gr.Radio(list(CHOICES), value=RECONSTRUCTION, label="Beside the target", elem_id="beside")
            others = state.names[1:]
            judges = gr.CheckboxGroup(others, value=others, label="Judges", visible=bool(others))
            go = gr.Button("Compare", variant="primary", elem_id="ask")
            images = gr.HTML(str(PARTS.row([figure(None, "The target", EMPTY)])), elem_id="pair")
        with gr.Column(scale=3, min_width=320):
            answers = gr.HTML(message(EMPTY), elem_id="comparisons")

    def run(
        found: FinishedReconstruction | None, wanted: str, names: list[str], request: gr.Request
    ) -> Iterator[dict[Any, Any]]:
        if found is None:
            yield {answers: message(EMPTY)}
            return
        with errors_as_messages():
            image = found.images[0] if wanted == RECONSTRUCTION else controls(state.prior)[wanted]
            shown = found.frames[-1].images[0] if wanted == RECONSTRUCTION else image  # larger than recognizers see it
            yield {images: pair(found, shown, wanted)}
            cards: list[str] = []

            def collect(task: Task[None]) -> None:
                cards.extend(map(card, compare(state, found, image, names, progress=task.progress)))

            task = state.start(visitor(request), collect)
            for _ in follow(task):
                yield {answers: "".join([*cards, "" if task.result.done() else progress_bar(task)])}
            task.result.result()
            yield {answers: "".join(cards if len(cards) > 1 else [*cards, message(ONLY_ATTACKED, "warning")])}

    for event in (go.click, what.input, tab.select):
        on(event, run, [result, what, judges], [answers, images])
    return {"judges": judges}
