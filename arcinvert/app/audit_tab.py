"""The third tab: the findings in a store, then the audit of a sample with the report of ``arcinvert audit``."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import torch

from arcinvert.app.callbacks import QUIET, errors_as_messages, follow, message, progress_bar, scroll_to, visitor
from arcinvert.app.drawing import PARTS
from arcinvert.app.state import AppState
from arcinvert.app.targets import MAX_FILE_BYTES
from arcinvert.app.task import Task
from arcinvert.audit import AttackConfig, AuditConfig, audit, open_store
from arcinvert.audit.checks import scan
from arcinvert.audit.files import HTML
from arcinvert.audit.stores import Store
from arcinvert.errors import InputError
from arcinvert.faces.photos import save_embeddings
from arcinvert.inversion.invert import to_bytes
from arcinvert.synthesis.sheets import write_png

EXAMPLE, PEOPLE = "example-store.npy", 12
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


def example_store(state: AppState, name: str) -> tuple[Path, Path]:
    """A store of synthetic people, two templates each by a recognizer, and the folder of their photos."""
    folder = state.folder / f"store-{state.names.index(name)}"
    path, photos = folder / EXAMPLE, folder / "photos"
    if not path.is_file():
        labels = state.prior.labels.cpu().numpy()
        shown = [
            (row, f"person-{label}")
            for label in np.unique(labels)[:PEOPLE]
            for row in np.flatnonzero(labels == label)[:2]
        ]
        with torch.no_grad():
            codes = torch.cat([state.prior.coefficients(slice(int(row), int(row) + 1)) for row, _ in shown])
            images = to_bytes(state.prior.render(codes)).cpu()
        for number, ((_, person), image) in enumerate(zip(shown, images, strict=True)):
            (photos / person).mkdir(parents=True, exist_ok=True)
            write_png(photos / person / f"{number:02d}.png", image)
        path.with_name(f"{path.stem}.labels.txt").write_text("".join(f"{person}\n" for _, person in shown))
        save_embeddings(path, state.recognizer(name).embed(images.permute(0, 3, 1, 2)).cpu().numpy())
    return path, photos


def findings(store: Store) -> str:
    """The findings without any attack."""
    return str(PARTS.findings(Path(store.name).name, store.kind, scan(store)))


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
        "What would a thief of a store of embeddings get? Open one: it is only read, and nothing leaves this machine. "
        "An example with synthetic people is loaded. `.npy`, `.npz`, parquet, CSV, FAISS and SQLite are read."
    )
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            file = gr.File(label="Store", height=130)
            path = gr.Textbox(
                label="Or the path of a store below --root",
                placeholder="people.parquet, folder/",
                elem_id="store",
            )
            others = state.names[1:]
            name = gr.Dropdown(state.names, value=state.names[0], label="Recognizer that made it")
            judges = gr.CheckboxGroup(others, value=others, label="Judges", visible=bool(others))
            sample = gr.Slider(
                2,
                200,
                8,
                step=1,
                label="Templates to attack (more: narrower intervals, slower)",
                elem_id="sample",
            )
            steps = gr.Slider(5, 100, 60, step=5, label="Steps for each template", elem_id="audit-steps")
            photos = gr.Textbox(
                label="Folder of the enrolled photos below --root, one folder per person: judges compare with these",
                placeholder="photos/",
                elem_id="photos",
            )
            defenses = gr.Dropdown(
                list(DEFENSES), value=[], multiselect=True, allow_custom_value=True, label="Defenses to attack too"
            )
            faces = gr.Checkbox(False, label="Show the reconstructed faces in the report")
            check = gr.Button("Check the store", elem_id="look")
            go = gr.Button("Run the audit", variant="primary", elem_id="audit")
            stop = gr.Button("Stop", visible=False)
        with gr.Column(scale=3, min_width=320):
            found = gr.HTML("", elem_id="findings")
            status = gr.HTML("", elem_id="audit-status")
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
            return findings(store)

    def run(
        uploaded: str | None, typed: str, chosen: str, enrolled: str, asked: list[str], behind: list[str],
        count: float, many: float, show: bool, request: gr.Request,
    ) -> Iterator[dict[Any, Any]]:  # fmt: skip
        with errors_as_messages():
            owner = visitor(request)
            source = source_of(uploaded, typed, chosen, owner)
            store = open_store(source)
            yield {found: findings(store), report: "", stop: gr.update(visible=True)}
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
                status: message("Done. The report is below; `arcinvert audit` writes the same."),
            }

    def cancel(request: gr.Request) -> None:
        state.cancel(visitor(request))

    given = [file, path, name]
    for event in (check.click, file.change, path.submit, tab.select):
        event(check_store, given, found, **QUIET)
    go.click(None, None, None, js=scroll_to("audit-status"), **QUIET)
    ran = go.click(
        run, [*given, photos, judges, defenses, sample, steps, faces], [found, status, report, stop], **QUIET
    )
    ran.success(None, None, None, js=scroll_to("report"), **QUIET)
    stop.click(cancel, None, None, queue=False, **QUIET)
    return {"name": name, "judges": judges}
