"""The page in a browser: Debian's Chromium, driven by Playwright, with a tiny untrained network."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from visits import SOON, fill, opened

from arcinvert.app.state import AppState
from arcinvert.checkpoint import load_checkpoint, save_checkpoint

pytest.importorskip("gradio", minversion="6.31", reason="needs gradio 6.31: pip install 'arcinvert[app]'")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # those of gradio and of what it is built on
]


def inverted(page: Any, steps: int) -> str:
    """Press the button and wait for the end; returns the address of the face."""
    fill(page, "steps", steps)
    page.click("#go")
    page.wait_for_function("() => document.querySelector('#status').innerText.includes('Done')", timeout=SOON)
    return str(page.locator("#stage img").nth(1).get_attribute("src"))


def test_the_example_then_another_pose_then_the_comparison(page: Any, address: str) -> None:
    free = inverted(page, 10)
    assert "step 10" in page.inner_text("#stage")
    assert page.is_visible("#files")
    assert "manifest" in page.inner_text("#files")
    page.locator("#moment input[type=number]").fill("0")
    page.wait_for_function("() => document.querySelector('#stage').innerText.includes('step 0')")
    assert page.locator("#stage img").nth(1).get_attribute("src") != free
    page.click("#pose input")
    page.get_by_role("option", name="left").click()
    page.wait_for_function("() => document.querySelector('#pose input').value == 'left'")
    page.click("#go")
    page.wait_for_selector("#files", state="hidden")
    page.wait_for_selector("#files")
    assert page.locator("#stage img").nth(1).get_attribute("src") != free
    page.get_by_role("tab", name="Compare").click()
    page.wait_for_selector("#comparisons .ai-card svg")
    page.get_by_text("default: a judge that had no part in the image").wait_for()
    assert "tiny: it was inverted" in page.inner_text("#comparisons")
    shown, kept = (page.locator(f"{place} img").nth(1).get_attribute("src") for place in ("#pair", "#stage"))
    assert shown == kept
    foreign = [url for url in page.asked if not url.startswith((address.partition("?")[0], "data:", "blob:"))]
    assert page.asked
    assert foreign == []


def test_stop_and_resume(page: Any) -> None:
    fill(page, "steps", 400)
    page.click("#go")
    page.wait_for_selector("#stage img >> nth=1")
    page.click("#stop")
    page.wait_for_selector("#resume")
    page.wait_for_function("() => document.querySelector('#status').innerText.startsWith('Stopped at step')")
    text = page.inner_text("#status")
    page.wait_for_timeout(300)
    assert page.inner_text("#status") == text
    page.click("#resume")
    page.wait_for_function("() => document.querySelector('#status').innerText.startsWith('Step')")


def test_bad_input_is_a_message(page: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "wide.npy", np.ones((2, 128), np.float32))
    (tmp_path / "broken.png").write_bytes(b"no picture at all")
    for name, text in (("wide.npy", "128-d"), ("broken.png", "expected an image")):
        page.set_input_files("#drop input", tmp_path / name)
        page.get_by_text(text).wait_for()
        assert "Traceback" not in page.content()
        page.locator("#drop").get_by_role("button", name="Clear").first.press("Enter")
        page.wait_for_selector(".toast-body", state="detached")
        page.wait_for_selector("#drop input", state="attached")


def test_an_audit(page: Any) -> None:
    page.get_by_role("tab", name="Audit").click()
    page.wait_for_selector("#findings li")
    assert "rows of 16 numbers" in page.inner_text("#findings")
    fill(page, "sample", 2)
    fill(page, "audit-steps", 5)
    page.click("#audit")
    page.wait_for_selector("#report iframe")
    report = page.frame_locator("#report iframe").locator("body")
    report.wait_for()
    assert "tiny" in report.inner_text()
    # The example brings photos: another recognizer can judge, against what was enrolled and against another photo.
    text = report.inner_text()
    assert "type II" in text
    assert "judged by default" in text
    page.get_by_role("tab", name="Recognizers").click()
    page.wait_for_selector("#recognizer-card dl")
    assert "iresnet18" in page.inner_text("#recognizer-card")


def test_a_second_visitor_waits_and_a_closed_tab_cancels_its_task(browser: Any, address: str, state: AppState) -> None:
    first, second = browser.new_context(), browser.new_context(viewport={"width": 360, "height": 740})
    busy = opened(first, address)
    fill(busy, "steps", 400)
    fill(busy, "faces", 4)
    busy.click("#go")
    busy.wait_for_selector("#stage img >> nth=1")
    task = next(iter(state._tasks.values()))
    patient = opened(second, address)
    assert patient.evaluate("document.documentElement.scrollWidth") == 360
    fill(patient, "steps", 5)
    patient.click("#go")
    patient.wait_for_function("() => document.querySelector('#status').innerText.includes('busy')", timeout=SOON)
    first.close()
    patient.wait_for_function("() => document.querySelector('#status').innerText.includes('Done')", timeout=SOON)
    assert task.result.done()
    assert task.result.exception() is not None  # canceled, not finished
    second.close()


def test_an_upload_and_its_results_are_deleted_with_the_tab(
    browser: Any, address: str, state: AppState, tiny_faces: Path
) -> None:
    context, stays = browser.new_context(), browser.new_context()
    page = opened(context, address)
    upload = tiny_faces / "id3" / "1.png"
    page.set_input_files("#drop input", upload)
    page.get_by_text("is used as an aligned face").wait_for()
    inverted(page, 5)
    opened(stays, address)
    kept = [path for path in state.folder.rglob("*") if path.is_file()]
    assert upload.read_bytes() in [path.read_bytes() for path in kept]
    results = {path.read_bytes() for path in kept if path.parent.name.startswith("face-")}
    assert results
    context.close()
    for _ in range(100):
        left = {path.read_bytes() for path in state.folder.rglob("*") if path.is_file()}
        if not left & (results | {upload.read_bytes()}):
            break
        time.sleep(0.1)
    assert not left & (results | {upload.read_bytes()})
    stays.close()


def test_a_recognizer_is_added_and_calibrated_in_the_page(page: Any, tiny_checkpoint: Path, tmp_path: Path) -> None:
    stored, other = load_checkpoint(tiny_checkpoint), tmp_path / "other.safetensors"
    save_checkpoint(other, dict(stored.header) | {"note": "of another digest"}, stored.tensors)
    page.get_by_role("tab", name="Recognizers").click()
    field = page.get_by_label("Add one")
    field.fill(str(tmp_path / "nothing.safetensors"))
    page.click("#add")
    page.get_by_text("nothing.safetensors", exact=False).last.wait_for()
    field.fill(str(other))
    page.click("#add")
    page.wait_for_function("() => document.querySelector('#recognizer-card').innerText.includes('other')")
    page.get_by_role("button", name="Calibrate it").click()
    page.wait_for_function(
        "() => document.querySelector('#calibration').innerText.includes('calibrated')", timeout=SOON
    )


def test_a_row_of_an_archive_by_the_keyboard_alone(page: Any, tmp_path: Path) -> None:
    rows = np.random.default_rng(1).normal(size=(3, 16)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", embeddings=rows)
    before = page.locator("#stage img").first.get_attribute("src")
    page.set_input_files("#drop input", tmp_path / "rows.npz")
    page.wait_for_function(
        "before => (document.querySelector('#stage img') || {}).src != before", arg=before, timeout=SOON
    )
    fill(page, "steps", 5)
    page.locator("body").click(position={"x": 2, "y": 2})
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.id == 'go'"):
            break
    assert page.evaluate("() => document.activeElement.id") == "go"
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('#status').innerText.includes('Done')", timeout=SOON)
