"""The third tab: a store's findings at once, then the audit of a sample, with the report of ``arcinvert audit``."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import torch

from arcinvert.app.drawing import remark
from arcinvert.app.studio import Studio
from arcinvert.app.targets import LARGEST
from arcinvert.app.task import Task
from arcinvert.app.telling import advance, followed, to, told, visitor
from arcinvert.audit import AttackConfig, AuditConfig, audit, open_store
from arcinvert.audit.checks import Scan, scan
from arcinvert.audit.files import HTML
from arcinvert.audit.page.markup import Markup, tag
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
SIGNS = {"info": "i", "warning": "!", "problem": "✘"}


def example_store(studio: Studio, name: str) -> tuple[Path, Path]:
    """A store of synthetic people, two templates each, as a recognizer knows them; and the folder of their photos."""
    folder = studio.folder / f"store-{studio.names.index(name)}"
    path, photos = folder / EXAMPLE, folder / "photos"
    if not path.is_file():
        labels = studio.prior.labels.cpu().numpy()
        shown = [
            (row, f"person-{label}")
            for label in np.unique(labels)[:PEOPLE]
            for row in np.flatnonzero(labels == label)[:2]
        ]
        with torch.no_grad():
            codes = torch.cat([studio.prior.coefficients(slice(int(row), int(row) + 1)) for row, _ in shown])
            images = to_bytes(studio.prior.render(codes)).cpu()
        for number, ((_, person), image) in enumerate(zip(shown, images, strict=True)):
            (photos / person).mkdir(parents=True, exist_ok=True)
            write_png(photos / person / f"{number:02d}.png", image)
        path.with_name(f"{path.stem}.labels.txt").write_text("".join(f"{person}\n" for _, person in shown))
        save_embeddings(path, studio.recognizer(name).embed(images.permute(0, 3, 1, 2)).cpu().numpy())
    return path, photos


def findings(store: Store, found: Scan) -> Markup:
    """What is seen without any attack."""
    rows = [
        tag("li", f"{found.count:,} rows of {found.size} numbers, kind {store.kind}, {found.skipped_rows:,} skipped")
    ]
    for finding in found.findings:
        rows.append(tag("li", tag("strong", f"{SIGNS[finding.severity]} {finding.severity}: "), finding.text))
    if not found.findings:
        rows.append(tag("li", "Nothing unusual was seen."))
    title = tag("h3", f"What is seen without any attack: {Path(store.name).name}")
    return tag("section", title, tag("ul", *rows), class_="ai-card")


def framed(report: str) -> Markup:
    """The report's own page, in a frame that may run nothing."""
    return tag("iframe", srcdoc=report, title="Report of the audit", sandbox="", class_="ai-report")


def report_of(
    studio: Studio, source: str, name: str, judges: Sequence[str], config: AuditConfig, task: Task[str]
) -> str:
    """Audit a store; the report as HTML, as the command writes it.

    Raises:
        ArcInvertError: see :func:`~arcinvert.audit.run.audit`.
    """
    out = Path(tempfile.mkdtemp(prefix="audit-", dir=studio.folder))
    audit(
        open_store(source),
        studio.inverter(name, task.progress),
        name=name,
        judges={judge: studio.recognizer(judge) for judge in judges if judge != name},
        config=config,
        out=out,
        progress=task.progress,
    )
    return (out / HTML).read_text(encoding="utf-8")


def build(studio: Studio, tab: gr.Tab) -> dict[str, Any]:
    """Lay out the tab and wire it; the components that other parts need, by name."""
    gr.Markdown(
        "What would somebody get who stole a store of embeddings? Open one: it is only read, and nothing leaves this "
        "machine. An example with synthetic people is loaded. `.npy`, `.npz`, parquet, CSV, FAISS and SQLite are read."
    )
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            file = gr.File(label="Store", height=130)
            path = gr.Textbox(
                label="Or the path of a store on this machine", placeholder="people.parquet, folder/", elem_id="store"
            )
            others = studio.names[1:]
            name = gr.Dropdown(studio.names, value=studio.names[0], label="Recognizer that made it")
            judges = gr.CheckboxGroup(others, value=others, label="Judges to ask", visible=bool(others))
            sample = gr.Slider(2, 200, 8, step=1, label="People to attack (more: surer, slower)", elem_id="sample")
            steps = gr.Slider(5, 100, 60, step=5, label="Steps for each", elem_id="audit-steps")
            photos = gr.Textbox(
                label="Folder of the enrolled photos on this machine, one folder a person: judges compare with these",
                placeholder="photos/",
                elem_id="photos",
            )
            defenses = gr.Dropdown(
                list(DEFENSES), value=[], multiselect=True, allow_custom_value=True, label="Also behind a defense"
            )
            faces = gr.Checkbox(False, label="Show the reconstructed faces in the report")
            look = gr.Button("Look at it", elem_id="look")
            go = gr.Button("Run the audit", variant="primary", elem_id="audit")
            stop = gr.Button("Stop", visible=False)
        with gr.Column(scale=3, min_width=320):
            seen = gr.HTML("", elem_id="findings")
            status = gr.HTML("", elem_id="audit-status")
    report = gr.HTML("", elem_id="report")

    def source_of(uploaded: str | None, typed: str, chosen: str) -> str:
        source = uploaded or (typed or "").strip() or str(example_store(studio, chosen)[0])
        if uploaded and Path(uploaded).stat().st_size > LARGEST:
            raise InputError(f"expected a file of at most {LARGEST >> 20} MB; give the path of a larger one instead")
        return source

    def looked(uploaded: str | None, typed: str, chosen: str) -> Any:
        with told():
            store = open_store(source_of(uploaded, typed, chosen))
            return findings(store, scan(store))

    def run(
        uploaded: str | None, typed: str, chosen: str, enrolled: str, asked: list[str], behind: list[str],
        count: float, many: float, show: bool, request: gr.Request,
    ) -> Iterator[dict[Any, Any]]:  # fmt: skip
        with told():
            source = source_of(uploaded, typed, chosen)
            store = open_store(source)
            yield {seen: findings(store, scan(store)), report: "", stop: gr.update(visible=True)}
            place = Path(enrolled.strip()) if (enrolled or "").strip() else None
            if source == str(example_store(studio, chosen)[0]):
                place = example_store(studio, chosen)[1]
            config = AuditConfig(
                sample=int(count),
                attack=AttackConfig(steps=int(many)),
                show_faces=show,
                photos=place,
                defenses=tuple(behind or ()),
            )
            task = studio.begin(visitor(request), lambda task: report_of(studio, source, chosen, asked, config, task))
            for _ in followed(task):
                yield {status: advance(task)}
            try:
                written = task.result.result()
            finally:
                yield {stop: gr.update(visible=False), status: ""}
            yield {
                report: framed(written),
                status: remark("Done. The report is below; the command line writes the same."),
            }

    def leave(request: gr.Request) -> None:
        studio.leave(visitor(request))

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": 8}
    given = [file, path, name]
    for event in (look.click, file.change, path.submit, tab.select):
        event(looked, given, seen, **quiet)
    go.click(None, None, None, js=to("audit-status"), **quiet)
    ran = go.click(run, [*given, photos, judges, defenses, sample, steps, faces], [seen, status, report, stop], **quiet)
    ran.success(None, None, None, js=to("report"), **quiet)
    stop.click(leave, None, None, queue=False, **quiet)
    return {"name": name, "judges": judges}
