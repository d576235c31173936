"""The first tab: a target on the left, its reconstruction on the right."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from arcinvert.app.callbacks import QUIET, errors_as_messages, follow, message, on, progress_bar, scroll_to, visitor
from arcinvert.app.comparison import strictest
from arcinvert.app.drawing import PARTS, Curve, figure
from arcinvert.app.reconstruction import (
    MAX_STEPS,
    MAX_VARIATIONS,
    FinishedReconstruction,
    LiveReconstruction,
    check_settings,
)
from arcinvert.app.state import AppState
from arcinvert.app.targets import Target, read_target
from arcinvert.app.task import DONE, PAUSED, WAITING
from arcinvert.app.variations import grid
from arcinvert.audit.page.formatting import one_in
from arcinvert.errors import InputError
from arcinvert.inversion.controls import LARGEST
from arcinvert.inversion.presets import PRESETS, preset_of

FREE, OWN = "any", "my own angles"
POSE_CHOICES = [FREE, "frontal", "left", "right", "up", "down", OWN]
EXPRESSION_CHOICES = [FREE, "neutral", "smile"]
PRESET_CHOICES = [
    ("fast", "fast"),
    ("best (nearer to the person, takes longer)", "best"),
    ("pixels (free pixels)", "pixels"),
    ("paper (as published)", "paper"),
]
STEPS = {name: min(preset.steps, MAX_STEPS) for name, preset in PRESETS.items()}
FILES = [".jpg", ".jpeg", ".png", ".webp", ".bmp", ".npy", ".npz", ".parquet", ".csv", ".tsv", ".faiss", ".index"]
FILES += [".db", ".sqlite", ".sqlite3"]
Update = dict[Any, Any]


def heading(state: AppState, name: str) -> str:
    """The title of the page, with the number of elements of a recognizer's embedding."""
    return str(PARTS.heading(state.recognizer(name).embedding_size))


def stage(target: Target | None, run: LiveReconstruction | None = None, at: int = -1) -> str:
    """The target, and beside it the first image of one frame."""
    if target is None:
        return str(PARTS.row([figure(None, "The target", "Drop a photo or a file on the left.")]))
    note = target.message if target.crop is None else "A photo's face, aligned. Only its embedding is used."
    shown = [figure(target.crop, "The target", "no image: only numbers are known", note=note)]
    if run is None or not run.frames:
        shown.append(figure(None, "The face from its numbers", "It will form here."))
        return str(PARTS.row(shown))
    frame = run.frames[at]
    cosine = frame.cosine[0]
    alt = f"Reconstructed face after {frame.step} steps, similarity {cosine:.2f}"
    note = f"step {frame.step}, similarity {cosine:.2f}"
    return str(PARTS.row([*shown, figure(frame.images[0], "The face from its numbers", alt, note=note)]))


def chart(state: AppState, run: LiveReconstruction, at: int = -1) -> str:
    """The curve of the first image's cosine."""
    points = [(frame.step, frame.cosine[0]) for frame in run.frames]
    return str(PARTS.curve(Curve(points, run.settings.steps or 1, state.thresholds(run.name), at)))


def summary(state: AppState, result: FinishedReconstruction) -> str:
    """The result in plain words. Whether a door would open is for a judge to say, not for the attacked network."""
    cosine = result.frames[-1].cosine[0]
    text = f"Done: a face from {len(result.target.embedding)} numbers, similarity {cosine:.2f}."
    passed = strictest(cosine, state.thresholds(result.name))
    if passed is not None:
        text += f" The attacked network accepts it where it accepts {one_in(passed.fmr)} strangers."
        text += " That is its own opinion: the image was made for it."
    where = "The tab Compare asks networks" if len(state.names) > 1 else "Add a network in the tab Recognizers"
    return message(text) + message(
        f"{where} that had no part in it. The image is synthetic: a guess at a face, not a photograph."
    )


def build(state: AppState, head: gr.HTML) -> dict[str, Any]:
    """Lay out the tab and wire it; returns the components that other parts need, by name.

    Args:
        state: has the recognizers.
        head: shows the :func:`heading`.
    """
    target, run, result = gr.State(None), gr.State(None), gr.State(None)
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            gr.Markdown("### 1. Whose numbers?\nA synthetic example is loaded. Or drop a photo, an `.npy` or a store.")
            file = gr.File(label="Photo or numbers", file_types=FILES, height=130, elem_id="drop")
            record = gr.Number(0, label="Row of the file", precision=0, minimum=0, visible=False)
            example = gr.Button("Back to the example", size="sm", visible=False)
            gr.Markdown("### 2. Pose and expression")
            with gr.Row():
                pose = gr.Dropdown(POSE_CHOICES, value=FREE, label="Pose", min_width=130, elem_id="pose")
                expression = gr.Dropdown(EXPRESSION_CHOICES, value=FREE, label="Expression", min_width=130)
            yaw = gr.Slider(-LARGEST[0], LARGEST[0], 0, step=5, label="Turn, degrees", visible=False)
            pitch = gr.Slider(-LARGEST[1], LARGEST[1], 0, step=5, label="Nod, degrees", visible=False)
            variations = gr.Slider(
                1, MAX_VARIATIONS, 1, step=1, label="Faces (variations of one person)", elem_id="faces"
            )
            with gr.Accordion("More settings", open=False):
                name = gr.Dropdown(state.names, value=state.names[0], label="Recognizer that is inverted")
                preset = gr.Radio(PRESET_CHOICES, value="fast", label="Recipe")
                steps = gr.Slider(5, MAX_STEPS, STEPS["fast"], step=5, label="Steps", elem_id="steps")
                seed = gr.Number(0, label="Seed: the same number gives the same face", precision=0, minimum=0)
            go = gr.Button("Reconstruct the face", variant="primary", size="lg", elem_id="go")
            with gr.Row():
                stop = gr.Button("Stop", visible=False, elem_id="stop")
                resume = gr.Button("Resume", visible=False, variant="primary", elem_id="resume")
        with gr.Column(scale=3, min_width=320):
            shown = gr.HTML(stage(None), elem_id="stage")
            graph = gr.HTML("", elem_id="curve")
            status = gr.HTML(
                message("Press the button. The first image comes at once, the rest within a minute."),
                elem_id="status",
            )
            moment = gr.Slider(0, 1, 0, step=1, label="Step through the history", visible=False, elem_id="moment")
            several = gr.HTML("", visible=False, elem_id="variations")
            files = gr.Files(
                label="Files: images, manifest, film",
                visible=False,
                interactive=False,
                height=230,
                elem_id="files",
            )
            with gr.Accordion("What is shown here?", open=False):
                gr.Markdown(
                    "A face-recognition system keeps a list of numbers of every face, its *embedding*. Here an image "
                    "is changed, step by step, until the recognizer computes nearly the same numbers from it. "
                    "*Similarity* is the cosine of the two lists: 1 is equal, two strangers are near 0. From the "
                    "dashed lines on, a system that accepts 1 in 100, or 1 in 1,000, strangers accepts the pair."
                )

    def buttons(task_state: str) -> Update:
        running = task_state not in (DONE, PAUSED)
        return {
            go: gr.update(interactive=not running),
            stop: gr.update(visible=running),
            resume: gr.update(visible=task_state == PAUSED),
        }

    def load(path: str | None, row_number: float, chosen: str, request: gr.Request) -> Update:
        with errors_as_messages():
            found, text = state.example(chosen), "The example is a synthetic person. Press the button."
            if path is not None:
                upload = state.keep(visitor(request), Path(path))
                found = read_target(upload, state.recognizer(chosen), int(row_number or 0))
                text = found.message
            rows = path is not None and found.crop is None
            return {
                target: found, shown: stage(found), status: message(text), graph: "",
                moment: gr.update(visible=False), several: gr.update(visible=False), files: gr.update(visible=False),
                record: gr.update(visible=rows), example: gr.update(visible=path is not None),
            }  # fmt: skip

    def pictures(work: LiveReconstruction, at: int = -1, found: FinishedReconstruction | None = None) -> Update:
        return {
            shown: stage(work.target, work, at), graph: chart(state, work, at),
            several: gr.update(value=grid(work, at, found), visible=work.settings.variations > 1),
        }  # fmt: skip

    def show_progress(work: LiveReconstruction) -> Iterator[Update]:
        task, drawn = work.task, -1
        for task_state in follow(task):
            update = buttons(task_state)
            if len(work.frames) != drawn:
                drawn = len(work.frames)
                update |= pictures(work)
            text = progress_bar(task) if task_state == WAITING or not work.frames else message(_step(work))
            yield update | {status: text}
        last = len(work.frames) - 1
        history = gr.update(maximum=max(last, 1), value=last, visible=last > 0)
        if task.state == PAUSED:
            text = message(f"Stopped at step {work.frames[-1].step if work.frames else 0}.")
            yield buttons(PAUSED) | {status: text, moment: history}
            return
        try:
            found = task.result.result()
        finally:
            yield buttons(DONE)
        yield pictures(work, found=found) | {
            result: found, moment: history, status: summary(state, found),
            files: gr.update(value=[str(path) for path in found.files], visible=True),
        }  # fmt: skip

    def start(
        wanted: Target | None, chosen: str, recipe: str, count: float, faces: float, number: float,
        posed: str, turn: float, nod: float, mood: str, request: gr.Request,
    ) -> Iterator[Update]:  # fmt: skip
        with errors_as_messages():
            if wanted is None:
                raise InputError("expected a target, got none: drop a photo or a file of embeddings")
            controlled = preset_of(recipe).controlled
            asked = None if posed == FREE or not controlled else f"{turn:g},{nod:g}" if posed == OWN else posed
            config = check_settings(
                recipe, count, faces, number or 0, asked, mood if mood != FREE and controlled else None
            )
            work = LiveReconstruction(state, visitor(request), chosen, wanted, config)
            hidden = gr.update(visible=False)
            yield {run: work, files: hidden, moment: hidden, several: hidden} | buttons(WAITING)
            yield from show_progress(work)

    def continue_it(work: LiveReconstruction | None) -> Iterator[Update]:
        with errors_as_messages():
            if work is not None:
                work.task.resume()
                yield buttons(WAITING)
                yield from show_progress(work)

    def pause(request: gr.Request) -> None:
        task = state.task(visitor(request))
        if task is not None:
            task.pause()

    def show_frame(work: LiveReconstruction | None, found: FinishedReconstruction | None, at: float) -> Update:
        if work is None or not 0 <= int(at) < len(work.frames):
            return {}
        last = found is not None and found.frames[-1] is work.frames[int(at)]
        return pictures(work, int(at), found if last else None)

    def select_recipe(recipe: str) -> Update:
        update = gr.update(interactive=preset_of(recipe).controlled)
        return {steps: STEPS[recipe], pose: update, expression: update}

    loading = (
        load,
        [file, record, name],
        [target, shown, status, graph, moment, several, files, record, example],
    )
    outputs = [run, result, shown, status, graph, moment, several, files, go, stop, resume]
    for change in (file.change, record.submit, name.change):
        on(change, *loading)
    # An event of its own: outputs of an event that fails are marked as errors, and the title is none.
    name.change(lambda chosen: heading(state, chosen), name, head, **QUIET)
    on(example.click, lambda: None, None, file)
    on(pose.change, lambda p: [gr.update(visible=p == OWN)] * 2, pose, [yaw, pitch])
    on(preset.change, select_recipe, preset, [steps, pose, expression])
    inputs = [target, name, preset, steps, variations, seed, pose, yaw, pitch, expression]
    ran = on(go.click, start, inputs, outputs, concurrency_id="make")
    to_result = scroll_to("stage", phone="go")
    go.click(None, None, None, js=to_result, **QUIET)
    ran.success(None, None, None, js=to_result, **QUIET)  # again: the page was too short to scroll so far
    on(resume.click, continue_it, run, outputs, concurrency_id="make")
    on(stop.click, pause, queue=False)
    on(moment.input, show_frame, [run, result, moment], [shown, graph, several])
    return {"result": result, "name": name, "load": loading}


def _step(work: LiveReconstruction) -> str:
    frame = work.frames[-1]
    if frame.step >= (work.settings.steps or 0):
        return "Testing the image: after JPEG, mirrored, detected again by a face detector …"
    return f"Step {frame.step} of {work.settings.steps}: similarity {frame.cosine[0]:.2f}"
