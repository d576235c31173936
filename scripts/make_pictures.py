"""Renew the pictures of README and documentation, with the recognizer, face prior and page as they are now.

    scripts/pictures --data FACES [--recognizer y1.onnx --judge mobileface-v3.onnx] [--only NAME]... [--out DIR]

FACES is DIR/<identity>/<picture>, aligned; the last 100 of them must be those that the default checkpoint held out.
``sheet`` and ``report`` need it, ``report`` and ``app-*`` need Chromium; ``report`` attacks RECOGNIZER and lets JUDGE
judge. Everything is drawn from fixed seeds. Look at each picture before it is committed.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from arcinvert import Inverter, contact_sheet, write_png

ROOT = Path(__file__).resolve().parents[1]
HELD_OUT, PEOPLE = 100, 6
FRAMES = 6
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 375, "height": 812}
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
LONG = 600_000  # milliseconds


@dataclass(frozen=True)
class Work:
    """What the pictures are made of, and where they go."""

    out: Path
    data: Path | None
    recognizer: Path | None
    judge: Path | None
    steps: int | None

    @property
    def target(self) -> np.ndarray:
        """The embedding of the examples (512,)."""
        found: np.ndarray = np.load(ROOT / "examples/target.npy")
        return found


def save(path: Path, images: Sequence[Any], columns: int) -> None:
    """A contact sheet."""
    write_png(path, contact_sheet(images, columns))


def sheet(work: Work) -> None:
    """The enrolled pictures of the first held-out identities, above what `fast` and `best` make of their embeddings."""
    if work.data is None:
        raise SystemExit("sheet: expected --data")
    people = sorted(path for path in work.data.iterdir() if path.is_dir())[-HELD_OUT:][:PEOPLE]
    files = [sorted(person.iterdir())[0] for person in people]
    enrolled = torch.stack([torch.from_numpy(np.array(Image.open(file).convert("RGB"))) for file in files])
    inverter = Inverter.load()
    targets, images = inverter.recognizer.embed(enrolled), [*enrolled]
    for preset in ("fast", "best"):
        images += [face.images[0] for face in inverter.reconstruct(targets, steps=work.steps, preset=preset)]
    save(work.out / "sheet.png", images, PEOPLE)


def variations(work: Work) -> None:
    """Six faces with one embedding."""
    (face,) = Inverter.load().reconstruct(work.target, variations=6, steps=work.steps, preset="best")
    save(work.out / "variations.png", face.images, 6)


def poses(work: Work) -> None:
    """One embedding: left, frontal and right; neutral above and smiling below."""
    inverter, images = Inverter.load(), []
    settings = {"steps": work.steps, "preset": "best"}
    for expression in ("neutral", "smile"):
        for pose in ("left", "frontal", "right"):
            images += inverter.reconstruct(work.target, pose=pose, expression=expression, **settings)[0].images
    save(work.out / "poses.png", images, 3)


def film(work: Work) -> None:
    """The way from the predicted face to the result, in six frames."""
    (face,) = Inverter.load().reconstruct(work.target, steps=work.steps, record=True)
    found = face.reconstructions[0]
    path: list[Tensor] = [*found.frames, found.pixels]
    save(work.out / "film.png", [path[round(i * (len(path) - 1) / (FRAMES - 1))] for i in range(FRAMES)], FRAMES)


def report(work: Work) -> None:
    """The head of a report of an audit."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "examples/05_audit_a_store.py", "--out", folder]
        given = {"--data": work.data, "--recognizer": work.recognizer, "--judge": work.judge}
        words += [word for name, path in given.items() if path is not None for word in (name, str(path.resolve()))]
        words += ["--quick"] if work.steps is not None else []
        subprocess.run(words, cwd=ROOT, check=True)
        with visitor({"width": 1000, "height": 760}) as page:
            page.goto((Path(folder) / "report/report.html").as_uri())
            page.screenshot(path=work.out / "report.png")


@contextmanager
def visitor(size: dict[str, int], scheme: str = "light") -> Iterator[Any]:
    """A page of Chromium."""
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        raise SystemExit("report and app-*: expected chromium on the path")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        context = browser.new_context(viewport=size, color_scheme=scheme)
        context.set_default_timeout(LONG)
        yield context.new_page()
        browser.close()


def app(work: Work, name: str, size: dict[str, int], scheme: str, tab: Callable[[Any], None] | None = None) -> None:
    """The page after the example has been inverted, or after what ``tab`` does then."""
    from arcinvert.app.page import launch
    from arcinvert.app.state import AppState

    state = AppState(None, [work.judge] if work.judge is not None else [])
    page, address = launch(state)
    try:
        with visitor(size, scheme) as visit:
            visit.goto(address)
            visit.wait_for_selector("#stage img")
            visit.click("#go")
            visit.wait_for_function("() => document.querySelector('#status').innerText.includes('Done')")
            if tab is not None:
                tab(visit)
            visit.mouse.move(0, 0)
            visit.wait_for_timeout(500)  # colors change slowly
            visit.screenshot(path=work.out / f"{name}.png", full_page=True)
    finally:
        page.close(verbose=False)
        state.close()


def compare_tab(visit: Any) -> None:
    """The answers of the attacked recognizer and the judge."""
    visit.get_by_role("tab", name="Compare").click()
    visit.wait_for_selector("#comparisons .ai-message")
    visit.click("#ask")
    visit.wait_for_selector("#comparisons .ai-card svg")
    visit.wait_for_timeout(2000)  # the judge's comes after it


def audit_tab(visit: Any) -> None:
    """The report of four templates of the example store."""
    visit.get_by_role("tab", name="Audit").click()
    visit.wait_for_selector("#findings li")
    for slider, value in (("sample", "4"), ("audit-steps", "20")):
        field = visit.locator(f"#{slider} input[type=number]")
        field.fill(value)
        field.blur()
    visit.wait_for_timeout(500)
    visit.click("button#audit")
    visit.wait_for_selector("#report iframe")


PICTURES: dict[str, Callable[[Work], None]] = {
    "sheet": sheet,
    "variations": variations,
    "poses": poses,
    "film": film,
    "report": report,
    "app-face": lambda work: app(work, "app-face", WIDE, "light"),
    "app-compare": lambda work: app(work, "app-compare", WIDE, "light", compare_tab),
    "app-audit": lambda work: app(work, "app-audit", WIDE, "light", audit_tab),
    "app-phone": lambda work: app(work, "app-phone", PHONE, "dark"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of aligned faces, DIR/<identity>/<picture>")
    parser.add_argument("--recognizer", type=Path, help="network that the report attacks; default: our own")
    parser.add_argument("--judge", type=Path, help="network that judges in the report and on the page")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/images", help="folder of the pictures")
    parser.add_argument("--only", action="append", choices=PICTURES, help="a picture; may be repeated. Default: all")
    parser.add_argument("--steps", type=int, help="steps of each inversion, to try it; default: the preset's own")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    work = Work(options.out, options.data, options.recognizer, options.judge, options.steps)
    for name in options.only or PICTURES:
        PICTURES[name](work)
        print(name, flush=True)


if __name__ == "__main__":
    main()
