"""The second tab: the target beside a picture, and what every recognizer says of the two."""

from collections.abc import Iterator
from typing import Any

import gradio as gr
from torch import Tensor

from arcinvert.app.callbacks import advance, followed, told, visitor
from arcinvert.app.comparison import MEAN_FACE, RECONSTRUCTION, SHOWN, Opinion, controls, opinions
from arcinvert.app.drawing import figure, remark, row, scale, verdict
from arcinvert.app.reconstruction import Made
from arcinvert.app.state import Studio
from arcinvert.app.task import Task
from arcinvert.audit.page.markup import Markup, join, tag

EMPTY = "First let a face come back in the first tab. Then come here and ask who is deceived by it."
ALONE = (
    "Only the attacked recognizer is known on this machine, and it is easily deceived: the picture was made for it. "
    "Add another one in the tab Recognizers, or start the page with --judge FILE."
)
NOTES = {
    RECONSTRUCTION: "made from the numbers alone",
    MEAN_FACE: "a control: nobody should take it for the person",
}


def card(opinion: Opinion) -> Markup:
    """What one recognizer says."""
    part = (
        "it was inverted, so its word proves little" if opinion.attacked else "a judge that had no part in the picture"
    )
    if opinion.cosine is None:
        said = tag("p", "It cannot say: it needs the photo, and only another recognizer's numbers are known.")
        return tag("section", tag("h3", f"{opinion.name}: {part}"), said, class_="ai-card")
    verdicts = [verdict(opinion.cosine, threshold) for threshold in opinion.thresholds]
    return tag(
        "section",
        tag("h3", f"{opinion.name}: {part}"),
        scale(opinion.cosine, opinion.thresholds),
        tag("ul", *verdicts) if verdicts else tag("p", "No threshold is known."),
        class_="ai-card",
    )


def pair(made: Made, picture: Tensor, what: str) -> Markup:
    """The target and what is held against it."""
    crop = made.target.crop
    return row(
        [
            figure(crop, "The target", "no picture: only numbers are known", note="the enrolled picture"),
            figure(picture, what.capitalize(), what, note=NOTES.get(what, "a control: a face of somebody else")),
        ]
    )


def build(studio: Studio, made: gr.State, tab: gr.Tab) -> dict[str, Any]:
    """Lay out the tab and wire it; the components that other parts need, by name."""
    gr.Markdown(
        "Hold the picture against the target. A system accepts from its *threshold* on: the marks on the scale, set so "
        "that of 100, or of 1,000, strangers one is let in. The controls show that not just any face is accepted."
    )
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            what = gr.Radio(list(SHOWN), value=RECONSTRUCTION, label="Beside the target", elem_id="beside")
            others = studio.names[1:]
            judges = gr.CheckboxGroup(others, value=others, label="Judges to ask", visible=bool(others))
            ask = gr.Button("Ask the recognizers", variant="primary", elem_id="ask")
            pictures = gr.HTML(row([figure(None, "The target", EMPTY)]), elem_id="pair")
        with gr.Column(scale=3, min_width=320):
            said = gr.HTML(remark(EMPTY), elem_id="opinions")

    def compare(found: Made | None, wanted: str, names: list[str], request: gr.Request) -> Iterator[dict[Any, Any]]:
        if found is None:
            yield {said: remark(EMPTY)}
            return
        with told():
            shown = found.images[0] if wanted == RECONSTRUCTION else controls(studio.prior)[wanted]
            yield {pictures: pair(found, shown, wanted)}
            cards: list[Markup] = []

            def collect(task: Task[None]) -> None:
                for opinion in opinions(studio, found, shown, names, progress=task.progress):
                    cards.append(card(opinion))

            task = studio.begin(visitor(request), collect)
            for _ in followed(task):
                yield {said: join([*cards, None if task.result.done() else advance(task)])}
            task.result.result()
            yield {said: join(cards if len(cards) > 1 else [*cards, remark(ALONE, "warning")])}

    wiring: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": 8}
    for event in (ask.click, what.input, tab.select):
        event(compare, [made, what, judges], [said, pictures], **wiring)
    return {"judges": judges}
