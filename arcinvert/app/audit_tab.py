"""The fourth tab: an audit in three steps: open a store, choose the attack, read the report of ``arcinvert audit``."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from arcinvert.app.callbacks import QUIET, errors_as_messages, follow, message, on, progress_bar, scroll_to, visitor
from arcinvert.app.drawing import PARTS
from arcinvert.app.examples import example_store
from arcinvert.app.state import AppState
from arcinvert.app.store_preview import preview
from arcinvert.app.targets import MAX_FILE_BYTES
from arcinvert.app.task import Task
from arcinvert.audit import AttackConfig, AuditConfig, audit, open_store
from arcinvert.audit.files import HTML
from arcinvert.errors import InputError
from arcinvert.inversion.presets import PRESETS

DEFENSES = (
    "noise:0.1",
    "truncate:64",
    "int8",
    "pq:8",
    "sign",
    "rotate:KEY",
    "biohash:KEY",
    "polyprotect:KEY",
    "mlphash:KEY",
)


def report_of(
    state: AppState, source: str, name: str, judges: Sequence[str], config: AuditConfig, out: Path, task: Task[str]
) -> str:
    """Audit a store in the folder ``out``, and return the report's HTML that the command writes.

    Raises:
        ArcInvertError: see :func:`~arcinvert.audit.run.audit`.
    """
    audit(
        open_store(source),
        state.inverter(name, task.progress),
        name=name,
        judges={judge: state.recognizer(judge) for judge in judges if judge != name},
        config=config,
        out=out,
        progress=task.progress,
    )
    return (out / HTML).read_text(encoding="utf-8")


def build(state: AppState, tab: gr.Tab) -> dict[str, Any]:
    """Lay out the tab and wire it; returns the components that other parts need, by name."""
    gr.Markdown(
        "What would a thief of a store of embeddings get? The store is only read, and nothing leaves this machine.\n"
        "### 1. Open the store\nAn example with synthetic people is open. Or drop an `.npy`, `.npz`, parquet, CSV, "
        "FAISS or SQLite file."
    )
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            file = gr.File(label="Store", height=130)
            path = gr.Textbox(
                label="Or the path of a store below --root",
                placeholder="people.parquet, folder/",
                elem_id="store",
            )
            check = gr.Button("Open it", elem_id="look")
            name = gr.Dropdown(state.names, value=state.names[0], label="Recognizer that made it")
        with gr.Column(scale=3, min_width=320):
            found = gr.HTML("", elem_id="findings")
    gr.Markdown("### 2. Choose the attack")
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            sample = gr.Slider(
                2, 200, 8, step=1, label="Templates to attack (more: narrower intervals, slower)", elem_id="sample"
            )
            usual = PRESETS["fast"].steps
            steps = gr.Slider(5, 100, usual, step=5, label="Steps for each template", elem_id="audit-steps")
            defenses = gr.Dropdown(
                list(DEFENSES), value=[], multiselect=True, allow_custom_value=True, label="Defenses to attack too"
            )
        with gr.Column(scale=1, min_width=300):
            others = state.names[1:]
            judges = gr.CheckboxGroup(others, value=others, label="Judges", visible=bool(others))
            photos = gr.Textbox(
                label="Folder of the enrolled photos below --root, one folder per person: judges compare with these",
                placeholder="photos/",
                elem_id="photos",
            )
            faces = gr.Checkbox(False, label="Show the reconstructed faces in the report")
    gr.Markdown("### 3. Run it and read the report")
    with gr.Row():
        go = gr.Button("Run the audit", variant="primary", elem_id="audit")
        stop = gr.Button("Stop", visible=False)
    status = gr.HTML(message("The report appears here."), elem_id="audit-status")
    report = gr.HTML("", elem_id="report")

    def source_of(uploaded: str | None, typed: str, chosen: str, owner: str) -> str:
        if uploaded:
            upload = state.keep(owner, Path(uploaded))
            if upload.stat().st_size > MAX_FILE_BYTES:
                raise InputError(f"expected at most {MAX_FILE_BYTES >> 20} MB; give the path of a larger file instead")
            return str(upload)
        named = (typed or "").strip()
        return str(state.allowed(named) if named else example_store(state, chosen)[0])

    def check_store(uploaded: str | None, typed: str, chosen: str, request: gr.Request) -> Any:
        with errors_as_messages():
            store = open_store(source_of(uploaded, typed, chosen, visitor(request)))
            return preview(store)

    def run(
        uploaded: str | None, typed: str, chosen: str, enrolled: str, asked: list[str], behind: list[str],
        count: float, many: float, show: bool, request: gr.Request,
    ) -> Iterator[dict[Any, Any]]:  # fmt: skip
        with errors_as_messages():
            owner = visitor(request)
            source = source_of(uploaded, typed, chosen, owner)
            store = open_store(source)
            yield {found: preview(store), report: "", stop: gr.update(visible=True)}
            place = state.allowed(enrolled.strip()) if (enrolled or "").strip() else None
            if source == str(example_store(state, chosen)[0]):
                place = example_store(state, chosen)[1]
            config = AuditConfig(
                sample=int(count),
                attack=AttackConfig(steps=int(many)),
                show_faces=show,
                photos=place,
                defenses=tuple(behind or ()),
            )
            out = state.new_folder(owner, "audit-")
            task = state.start(owner, lambda task: report_of(state, source, chosen, asked, config, out, task))
            for _ in follow(task):
                yield {status: progress_bar(task)}
            try:
                html = task.result.result()
            finally:
                yield {stop: gr.update(visible=False), status: ""}
            yield {
                report: str(PARTS.report(html)),
                status: message("Done. The report is below; the command arcinvert audit writes the same."),
            }

    def cancel(request: gr.Request) -> None:
        state.cancel(visitor(request))

    given = [file, path, name]
    for event in (check.click, file.change, path.submit, name.change, tab.select):
        on(event, check_store, given, found)
    go.click(None, None, None, js=scroll_to("audit-status"), **QUIET)
    ran = on(go.click, run, [*given, photos, judges, defenses, sample, steps, faces], [found, status, report, stop])
    ran.success(None, None, None, js=scroll_to("report"), **QUIET)
    on(stop.click, cancel, queue=False)
    return {"name": name, "judges": judges}
