"""The third tab: two photos, the face from the numbers of each, and how recognizers compare it with the other photo."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from arcinvert.app.both_ways import BothWays, both_ways
from arcinvert.app.callbacks import QUIET, errors_as_messages, follow, message, on, progress_bar, scroll_to, visitor
from arcinvert.app.drawing import PARTS, figure
from arcinvert.app.examples import example_pair
from arcinvert.app.state import AppState
from arcinvert.app.targets import Target, read_target
from arcinvert.inversion.presets import PRESETS

PHOTO_FILES = [".jpg", ".jpeg", ".png", ".webp", ".bmp"]
WAITING_FOR = "It will form here."
Photos = tuple[Target, Target]


def pictures(photos: Photos, found: BothWays | None = None) -> str:
    """Each photo, and beside it the face from its numbers."""
    drawn = []
    for number, photo in enumerate(photos):
        drawn.append(figure(photo.crop, f"Photo {number + 1}", "no photo", note=photo.message))
        face = None if found is None else found.pictures[number]
        alt = WAITING_FOR if face is None else f"Reconstructed from photo {number + 1}"
        drawn.append(figure(face, f"From the numbers of photo {number + 1}", alt))
    return str(PARTS.pairs(drawn))


def build(state: AppState, tab: gr.Tab) -> dict[str, Any]:
    """Lay out the tab and wire it; returns the components that other parts need, by name."""
    gr.Markdown(
        "Two photos of one person, or of two people. Each becomes numbers, the numbers become a face, and recognizers "
        "compare that face with the *other* photo. Two photos of a synthetic person are loaded; drop your own."
    )
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            with gr.Row():
                files = [
                    gr.File(label=f"Photo {n}", file_types=PHOTO_FILES, height=130, min_width=130, elem_id=f"photo-{n}")
                    for n in (1, 2)
                ]
            name = gr.Dropdown(state.names, value=state.names[0], label="Recognizer that is inverted")
            others = state.names[1:]
            judges = gr.CheckboxGroup(others, value=others, label="Judges", visible=bool(others))
            steps = gr.Slider(5, 100, PRESETS["fast"].steps, step=5, label="Steps", elem_id="pair-steps")
            go = gr.Button("See both ways", variant="primary", size="lg", elem_id="both")
            stop = gr.Button("Stop", visible=False)
        with gr.Column(scale=3, min_width=320):
            shown = gr.HTML("", elem_id="photos-and-faces")
            status = gr.HTML("", elem_id="both-status")
            answers = gr.HTML("", elem_id="both-answers")

    def read(paths: tuple[str | None, str | None], chosen: str, owner: str) -> Photos:
        first, second = example_pair(state, chosen)
        recognizer = state.recognizer(chosen)
        given = [None if path is None else read_target(state.keep(owner, Path(path)), recognizer) for path in paths]
        return given[0] or first, given[1] or second

    def load(one: str | None, two: str | None, chosen: str, request: gr.Request) -> dict[Any, Any]:
        with errors_as_messages():
            text = "Drop the second photo, too." if (one is None) != (two is None) else "Press the button."
            photos = read((one, two), chosen, visitor(request))
            return {shown: pictures(photos), status: message(text), answers: ""}

    def run(
        one: str | None, two: str | None, chosen: str, asked: list[str], count: float, request: gr.Request
    ) -> Iterator[dict[Any, Any]]:
        with errors_as_messages():
            owner = visitor(request)
            photos = read((one, two), chosen, owner)
            yield {shown: pictures(photos), answers: "", stop: gr.update(visible=True)}
            task = state.start(owner, lambda task: both_ways(state, chosen, asked, photos, int(count), task))
            for _ in follow(task):
                yield {status: progress_bar(task)}
            try:
                found = task.result.result()
            finally:
                yield {stop: gr.update(visible=False), status: ""}
            said = message("A face made from one photo that passes for the other shows the person, not the picture.")
            yield {shown: pictures(photos, found), status: said, answers: str(PARTS.both_ways(found.answers))}

    def cancel(request: gr.Request) -> None:
        state.cancel(visitor(request))

    for event in (*(file.change for file in files), name.change, tab.select):
        on(event, load, [*files, name], [shown, status, answers])
    go.click(None, None, None, js=scroll_to("photos-and-faces", phone="both"), **QUIET)
    on(go.click, run, [*files, name, judges, steps], [shown, status, answers, stop])
    on(stop.click, cancel, queue=False)
    return {"name": name, "judges": judges}
