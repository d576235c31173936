"""The first tab: a target on the left, the face that forms on the right."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from arcinvert.app.drawing import curve, figure, remark, row
from arcinvert.app.making import MOST_STEPS, MOST_VARIATIONS, Made, Making, begin, checked
from arcinvert.app.studio import Studio
from arcinvert.app.targets import Target, read_target
from arcinvert.app.task import DONE, PAUSED, WAITING
from arcinvert.app.telling import advance, followed, to, told, visitor
from arcinvert.audit.page.markup import join
from arcinvert.errors import InputError
from arcinvert.inversion.controls import LARGEST
from arcinvert.inversion.presets import preset_of

FREE, OWN = "any", "my own angles"
POSE_CHOICES = [FREE, "frontal", "left", "right", "up", "down", OWN]
EXPRESSION_CHOICES = [FREE, "neutral", "smile"]
PRESET_CHOICES = [
    ("fast", "fast"),
    ("best (twice as long)", "best"),
    ("fourier (free pixels)", "fourier"),
    ("paper (as published)", "paper"),
]
STEPS = {"fast": 60, "best": 80, "fourier": 100, "paper": MOST_STEPS}
FILES = [".jpg", ".jpeg", ".png", ".webp", ".bmp", ".npy", ".npz", ".parquet", ".csv", ".tsv", ".faiss", ".index"]
FILES += [".db", ".sqlite", ".sqlite3"]
Update = dict[Any, Any]


def stage(target: Target | None, making: Making | None = None, at: int = -1) -> str:
    """The target, and beside it the pictures of a moment of the path."""
    if target is None:
        return row([figure(None, "The target", "Drop a photo or a file on the left.")])
    said = "A photo's face, aligned. Only its embedding is used." if target.crop is not None else target.remark
    shown = [figure(target.crop, "The target", "no picture: only numbers are known", note=said)]
    if making is None or not making.frames:
        shown.append(figure(None, "The face from its numbers", "It will form here."))
        return row(shown)
    frame = making.frames[at]
    for number, (image, cosine) in enumerate(zip(frame.images, frame.cosine, strict=True)):
        caption = "The face from its numbers" if number == 0 else f"Variation {number}"
        alt = f"Reconstructed face after {frame.step} steps, likeness {cosine:.2f}"
        shown.append(figure(image, caption, alt, note=f"step {frame.step}, likeness {cosine:.2f}"))
    return row(shown)


def chart(studio: Studio, making: Making, at: int = -1) -> str:
    """The curve of the first picture's cosine."""
    points = [(frame.step, frame.cosine[0]) for frame in making.frames]
    return curve(points, making.settings.steps or 1, studio.thresholds(making.name), at=at if points else None)


def summary(studio: Studio, made: Made) -> str:
    """What came out, in plain words."""
    cosine = made.frames[-1].cosine[0]
    said = f"Done. This face was made from {len(made.target.embedding)} numbers. Likeness to the target: {cosine:.2f}."
    strictest = [t for t in studio.thresholds(made.name) if t.threshold is not None and cosine >= t.threshold]
    if strictest:
        least = min(t.fmr for t in strictest)
        said += f" A door with this recognizer that lets in one stranger in {round(1 / least):,} would open for it."
    lines = [remark(said), remark("The picture is synthetic: a guess at a face, not a photograph.")]
    return join(lines)


def build(studio: Studio) -> dict[str, Any]:
    """Lay out the tab and wire it; the components that other parts need, by name."""
    target, making, made = gr.State(None), gr.State(None), gr.State(None)
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            gr.Markdown("### 1. Whose numbers?\nA synthetic example is loaded. Or drop a photo, an `.npy`, or a store.")
            file = gr.File(label="Photo or numbers", file_types=FILES, height=130, elem_id="drop")
            record = gr.Number(0, label="Row of the file", precision=0, minimum=0, visible=False)
            example = gr.Button("Back to the example", size="sm", visible=False)
            gr.Markdown("### 2. What should the face do?")
            with gr.Row():
                pose = gr.Dropdown(POSE_CHOICES, value=FREE, label="Pose", min_width=130, elem_id="pose")
                expression = gr.Dropdown(EXPRESSION_CHOICES, value=FREE, label="Expression", min_width=130)
            yaw = gr.Slider(-LARGEST[0], LARGEST[0], 0, step=5, label="Turn, degrees", visible=False)
            pitch = gr.Slider(-LARGEST[1], LARGEST[1], 0, step=5, label="Nod, degrees", visible=False)
            variations = gr.Slider(
                1, MOST_VARIATIONS, 1, step=1, label="Faces (variations of one person)", elem_id="faces"
            )
            with gr.Accordion("More settings", open=False):
                name = gr.Dropdown(studio.names, value=studio.names[0], label="Recognizer that is inverted")
                preset = gr.Radio(PRESET_CHOICES, value="fast", label="Recipe")
                steps = gr.Slider(5, MOST_STEPS, 60, step=5, label="Steps", elem_id="steps")
                seed = gr.Number(0, label="Seed: the same number gives the same face", precision=0, minimum=0)
            go = gr.Button("Bring the face back", variant="primary", size="lg", elem_id="go")
        with gr.Column(scale=3, min_width=320):
            shown = gr.HTML(stage(None), elem_id="stage")
            status = gr.HTML(
                remark("Press the button. The first picture comes at once, the rest within a minute."), elem_id="status"
            )
            with gr.Row():
                stop = gr.Button("Stop", visible=False, elem_id="stop")
                resume = gr.Button("Go on", visible=False, variant="primary", elem_id="resume")
            graph = gr.HTML("", elem_id="curve")
            moment = gr.Slider(0, 1, 0, step=1, label="Walk through the history", visible=False, elem_id="moment")
            files = gr.Files(
                label="Take it with you: pictures, manifest, film",
                visible=False,
                interactive=False,
                height=230,
                elem_id="files",
            )
            with gr.Accordion("What do I see?", open=False):
                gr.Markdown(
                    "A face-recognition system keeps a list of numbers of every face, its *embedding*. Here an image "
                    "is changed, step by step, until the recognizer computes nearly the same numbers of it. "
                    "*Likeness* is the cosine of the two lists: 1 is equal, two strangers are near 0. From the dashed "
                    "lines on, a system that lets in one stranger in 100, or in 1,000, takes the two for one person."
                )

    def going(state: str) -> Update:
        return {
            go: gr.update(interactive=state in (DONE, PAUSED)),
            stop: gr.update(visible=state not in (DONE, PAUSED)),
            resume: gr.update(visible=state == PAUSED),
        }

    def take(path: str | None, row_number: float, chosen: str) -> Update:
        with told():
            found = (
                studio.example(chosen)
                if path is None
                else read_target(Path(path), studio.recognizer(chosen), int(row_number or 0))
            )
            rows = path is not None and found.crop is None
            said = found.remark if path is not None else "This is the example: a synthetic person. Press the button."
            return {
                target: found, shown: stage(found), status: remark(said), graph: "", moment: gr.update(visible=False),
                files: gr.update(visible=False), record: gr.update(visible=rows),
                example: gr.update(visible=path is not None),
            }  # fmt: skip

    def follow(work: Making) -> Iterator[Update]:
        task = work.task
        if task is None:
            return
        drawn = -1
        for state in followed(task):
            found: Update = going(state)
            if len(work.frames) != drawn:
                drawn = len(work.frames)
                found |= {shown: stage(work.target, work), graph: chart(studio, work)}
            said = advance(task) if state == WAITING or not work.frames else remark(_step(work))
            yield found | {status: said}
        last = len(work.frames) - 1
        walk = gr.update(maximum=max(last, 1), value=last, visible=last > 0)
        if task.state == PAUSED:
            yield going(PAUSED) | {
                status: remark(f"Stopped at step {work.frames[-1].step if work.frames else 0}."),
                moment: walk,
            }
            return
        try:
            result = task.result.result()
        finally:
            yield going(DONE)
        yield {
            made: result, shown: stage(work.target, work), graph: chart(studio, work), moment: walk,
            status: summary(studio, result), files: gr.update(value=[str(path) for path in result.files], visible=True),
        }  # fmt: skip

    def start(
        wanted: Target | None, chosen: str, recipe: str, count: float, faces: float, number: float,
        posed: str, turn: float, nod: float, mood: str, request: gr.Request,
    ) -> Iterator[Update]:  # fmt: skip
        with told():
            if wanted is None:
                raise InputError("there is no target yet: drop a photo or a file of embeddings")
            controlled = preset_of(recipe).controlled
            asked = None if posed == FREE or not controlled else f"{turn:g},{nod:g}" if posed == OWN else posed
            config = checked(recipe, count, faces, number or 0, asked, None if mood == FREE or not controlled else mood)
            work = begin(studio, visitor(request), chosen, wanted, config)
            yield {making: work, files: gr.update(visible=False), moment: gr.update(visible=False)} | going(WAITING)
            yield from follow(work)

    def go_on(work: Making | None) -> Iterator[Update]:
        with told():
            if work is not None and work.task is not None:
                work.task.resume()
                yield going(WAITING)
                yield from follow(work)

    def pause(request: gr.Request) -> None:
        task = studio.task(visitor(request))
        if task is not None:
            task.pause()

    def walk(work: Making | None, at: float) -> Update:
        if work is None or not 0 <= int(at) < len(work.frames):
            return {}
        return {shown: stage(work.target, work, int(at)), graph: chart(studio, work, int(at))}

    def recipe_chosen(recipe: str) -> Update:
        controlled = preset_of(recipe).controlled
        return {
            steps: STEPS[recipe],
            pose: gr.update(interactive=controlled),
            expression: gr.update(interactive=controlled),
        }

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    makes: dict[str, Any] = quiet | {"concurrency_limit": 8, "concurrency_id": "make"}
    taken = [target, shown, status, graph, moment, files, record, example]
    outputs = [making, made, shown, status, graph, moment, files, go, stop, resume]
    for change in (file.change, record.submit, name.change):
        change(take, [file, record, name], taken, **quiet)
    example.click(lambda: None, None, file, **quiet)
    pose.change(lambda p: [gr.update(visible=p == OWN)] * 2, pose, [yaw, pitch], **quiet)
    preset.change(recipe_chosen, preset, [steps, pose, expression], **quiet)
    settings = [target, name, preset, steps, variations, seed, pose, yaw, pitch, expression]
    go.click(start, settings, outputs, **makes)
    go.click(None, None, None, js=to("stage"), **quiet)
    resume.click(go_on, making, outputs, **makes)
    stop.click(pause, None, None, queue=False, **quiet)
    moment.input(walk, [making, moment], [shown, graph], **quiet)
    return {"made": made, "name": name, "load": (take, [file, record, name], taken)}


def _step(work: Making) -> str:
    frame = work.frames[-1]
    if frame.step >= (work.settings.steps or 0):
        return "Testing the picture: after JPEG, mirrored, found again by a face detector …"
    return f"Step {frame.step} of {work.settings.steps}: likeness {frame.cosine[0]:.2f}"
