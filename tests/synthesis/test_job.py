"""A run in a folder."""

import hashlib
import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from arcinvert.synthesis.reconstruct import SynthConfig
from PIL import Image
from torch import Tensor

import arcinvert
from arcinvert.distributed import Ranks
from arcinvert.errors import DivergedError, EnvironmentProblem, UsageError
from arcinvert.recognizer import Recognizer
from arcinvert.synthesis import journal
from arcinvert.synthesis import reconstruct as synthesis
from arcinvert.synthesis.diversity import feature_distance
from arcinvert.synthesis.job import synthesize
from arcinvert.synthesis.sheets import read_png

QUICK = SynthConfig(steps=4, batch_size=4, report=False)


def run(recognizer: Recognizer, targets: Tensor, known: Any, out: Path, **settings: Any) -> dict[str, Any]:
    force = settings.pop("force", False)
    return synthesize(recognizer, targets, *known, out, config=replace(QUICK, **settings), force=force)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture).astype(int)


@pytest.fixture(scope="module")
def two_by_two(
    tiny_recognizer: Recognizer, targets: Tensor, known: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """Two targets, two variations. Do not write into it."""
    out = tmp_path_factory.mktemp("synth") / "out"
    return out, run(tiny_recognizer, targets[:2], known, out, variations=2, seed=5)


# --- what is written


def test_the_files(two_by_two: tuple[Path, dict[str, Any]]) -> None:
    out, _ = two_by_two
    assert sorted(content(out)) == [
        "0000_00.png",
        "0000_01.png",
        "0001_00.png",
        "0001_01.png",
        "manifest.json",
        "sheet.png",
    ]


def test_the_manifest_says_what_was_done(two_by_two: tuple[Path, dict[str, Any]], tiny_recognizer: Recognizer) -> None:
    out, manifest = two_by_two
    assert json.loads((out / "manifest.json").read_text()) == manifest
    rows = manifest["results"]
    assert [(row["target"], row["variation"], row["file"]) for row in rows] == [
        (0, 0, "0000_00.png"),
        (0, 1, "0000_01.png"),
        (1, 0, "0001_00.png"),
        (1, 1, "0001_01.png"),
    ]
    for row in rows:
        assert set(row) == {"target", "variation", "file", "cosine", "steps", "seconds", "sha256"}
        assert row["sha256"] == hashlib.sha256((out / row["file"]).read_bytes()).hexdigest()
        assert row["steps"] == 4
        assert row["seconds"] > 0
    assert manifest["checkpoint"] == {"digest": tiny_recognizer.digest, "backbone": "iresnet18"}
    assert manifest["settings"] == {
        "variations": 2,
        "preset": "fast",
        "steps": 4,
        "seed": 5,
        "batch_size": 4,
        "pose": None,
        "expression": None,
        "precision": "float32",
        "compile": False,
        "min_cosine": None,
        "retries": 2,
        "report": False,
        "record": False,
        "device": "cpu",
        "processes": 1,
    }
    assert set(manifest["versions"]) == {"arcinvert", "torch", "numpy", "python"}
    assert manifest["versions"]["arcinvert"] == arcinvert.__version__
    assert manifest["versions"]["torch"] == torch.__version__
    assert manifest["diverged"] == 0
    assert manifest["mean_cosine"] == pytest.approx(sum(row["cosine"] for row in rows) / 4, abs=1e-5)
    assert "synthetic" in manifest["note"]


def test_no_embedding_is_written_into_the_manifest(two_by_two: tuple[Path, dict[str, Any]]) -> None:
    def numbers(value: Any) -> int:
        if isinstance(value, dict | list):
            parts = value.values() if isinstance(value, dict) else value
            return max((len(value), *map(numbers, parts)))
        return 0

    assert numbers(two_by_two[1]) < 16


def test_cosine_is_that_of_the_written_file(
    two_by_two: tuple[Path, dict[str, Any]], tiny_recognizer: Recognizer, targets: Tensor
) -> None:
    out, manifest = two_by_two
    for row in manifest["results"]:
        picture = torch.from_numpy(pixels(out / row["file"]).astype(np.uint8)).permute(2, 0, 1)[None]
        again = float((tiny_recognizer.embed(picture) * targets[row["target"]]).sum())
        assert row["cosine"] == pytest.approx(again, abs=2e-5)


def test_pictures_say_that_they_are_synthetic(two_by_two: tuple[Path, dict[str, Any]]) -> None:
    out, _ = two_by_two
    for path in out.glob("*.png"):
        with Image.open(path) as picture:
            assert (picture.format, picture.mode) == ("PNG", "RGB")
            assert "synthetic" in picture.text["Description"]
            assert picture.text["Software"] == f"arcinvert {arcinvert.__version__}"
            if path.name != "sheet.png":
                assert picture.size == (112, 112)


def test_the_sheet_shows_a_target_a_row(two_by_two: tuple[Path, dict[str, Any]]) -> None:
    out, _ = two_by_two
    sheet = pixels(out / "sheet.png")
    assert sheet.shape == (228, 228, 3)
    assert np.array_equal(sheet[:112, :112], pixels(out / "0000_00.png"))
    assert np.array_equal(sheet[:112, 116:], pixels(out / "0000_01.png"))
    assert np.array_equal(sheet[116:, :112], pixels(out / "0001_00.png"))
    assert (sheet[112:116] == 255).all()


def test_variations_differ_and_so_do_targets(two_by_two: tuple[Path, dict[str, Any]]) -> None:
    out, _ = two_by_two
    faces = [pixels(out / name) for name in ("0000_00.png", "0000_01.png", "0001_00.png", "0001_01.png")]
    for i in range(4):
        for k in range(i):
            assert np.abs(faces[i] - faces[k]).mean() > 1


def test_same_seed_same_bytes_another_seed_others(
    two_by_two: tuple[Path, dict[str, Any]], tiny_recognizer: Recognizer, targets: Tensor, known: Any, tmp_path: Path
) -> None:
    run(tiny_recognizer, targets[:2], known, tmp_path / "again", variations=2, seed=5)
    run(tiny_recognizer, targets[:2], known, tmp_path / "other", variations=2, seed=6)
    first, again, other = (content(folder) for folder in (two_by_two[0], tmp_path / "again", tmp_path / "other"))
    for name in first:
        if name.endswith(".png"):
            assert again[name] == first[name]
            assert other[name] != first[name]


# --- refusals


def test_another_run_in_the_folder_is_refused_and_nothing_of_it_changes(
    tiny_recognizer: Recognizer, targets: Tensor, known: Any, tmp_path: Path
) -> None:
    run(tiny_recognizer, targets[:1], known, tmp_path)
    before = content(tmp_path)
    for other, settings in ((targets[1:2], {}), (targets[:1], {"seed": 9}), (targets[:1], {"steps": 3})):
        with pytest.raises(UsageError, match=r"another run.*--force"):
            run(tiny_recognizer, other, known, tmp_path, **settings)
        assert content(tmp_path) == before
    run(tiny_recognizer, targets[:1], known, tmp_path)  # the same run may be repeated
    assert content(tmp_path)["0000_00.png"] == before["0000_00.png"]
    forced = run(tiny_recognizer, targets[1:2], known, tmp_path, force=True)
    assert json.loads((tmp_path / "manifest.json").read_text()) == forced
    assert content(tmp_path)["0000_00.png"] != before["0000_00.png"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"run": 3}', "\udcff"])
def test_a_foreign_manifest_is_not_overwritten(
    tiny_recognizer: Recognizer, targets: Tensor, known: Any, tmp_path: Path, text: str
) -> None:
    (tmp_path / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    before = content(tmp_path)
    with pytest.raises(UsageError, match="another run"):
        run(tiny_recognizer, targets[:1], known, tmp_path)
    assert content(tmp_path) == before


def test_a_calibration_with_another_face_prior_is_refused(
    tiny_recognizer: Recognizer, targets: Tensor, known: Any, tmp_path: Path
) -> None:
    prior, calibration = known
    with pytest.raises(UsageError, match="another face prior"):
        run(tiny_recognizer, targets[:1], (replace(prior, digest="0" * 64), calibration), tmp_path / "out")


def test_an_output_folder_that_cannot_be_is_refused_before_the_work(
    tiny_recognizer: Recognizer, targets: Tensor, known: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr(synthesis, "invert", None)
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(EnvironmentProblem, match="cannot write"):
            run(tiny_recognizer, targets[:1], known, out)
    assert (tmp_path / "file").read_text() == "mine"


# --- divergence


def diverging(monkeypatch: pytest.MonkeyPatch, rows: list[int]) -> None:
    real = synthesis.invert

    def fake(*args: Any, **kwargs: Any) -> Any:
        found = real(*args, **kwargs)
        mask = found.diverged.clone()
        mask[rows] = True
        return replace(found, diverged=mask)

    monkeypatch.setattr(synthesis, "invert", fake)


def test_a_diverged_target_is_marked_and_left_out_of_the_mean(
    tiny_recognizer: Recognizer, targets: Tensor, known: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    diverging(monkeypatch, [1])
    manifest = run(tiny_recognizer, targets, known, tmp_path)
    assert [row.get("diverged", False) for row in manifest["results"]] == [False, True, False]
    assert manifest["diverged"] == 1
    good = [row["cosine"] for row in manifest["results"] if "diverged" not in row]
    assert manifest["mean_cosine"] == pytest.approx(sum(good) / 2, abs=1e-5)
    assert (tmp_path / "0001_00.png").is_file()


def test_all_diverged_is_an_error_and_the_manifest_says_so(
    tiny_recognizer: Recognizer, targets: Tensor, known: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    diverging(monkeypatch, [0, 1])
    with pytest.raises(DivergedError, match="none of the 2"):
        run(tiny_recognizer, targets[:2], known, tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["mean_cosine"] is None
    assert manifest["diverged"] == 2


def test_a_target_whose_every_step_is_not_finite_diverges(
    tiny_recognizer: Recognizer, targets: Tensor, known: Any, tmp_path: Path
) -> None:
    prior, calibration = known
    nowhere = torch.full_like(calibration.coefficients.bias, float("nan"))
    broken = replace(calibration, coefficients=replace(calibration.coefficients, bias=nowhere))
    with pytest.raises(DivergedError):
        run(tiny_recognizer, targets[:1], (prior, broken), tmp_path, steps=2)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    json.loads((tmp_path / "manifest.json").read_text(), parse_constant=refuse)


# --- going on


def without_times(manifest: dict[str, Any]) -> dict[str, Any]:
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in manifest["results"]]
    return {**manifest, "results": rows, "seconds": None, "settings": None}


def torn(out: Path, journals: dict[int, list[dict[str, Any]]], manifest: dict[str, Any]) -> None:
    """What a killed run leaves of a complete folder: the pictures that its journals know, and half a line."""
    kept = {row["file"].split(".")[0] for rows in journals.values() for row in rows}
    for path in out.iterdir():
        if path.name.split(".")[0] not in kept:
            path.unlink()
    for rank, rows in journals.items():
        for row in rows:
            journal.append(out, rank, manifest["run"], row)
    with open(out / "journal.0.jsonl", "ab") as file:
        file.write(b'{"target": 2, "vari')
    (out / ".abcd1234.part").write_bytes(b"half a picture")


@pytest.fixture(scope="module")
def whole(
    tiny_recognizer: Recognizer, targets: Tensor, known: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """Three targets, two variations, in batches of two, recorded. Do not write into it."""
    out = tmp_path_factory.mktemp("whole")
    return out, run(tiny_recognizer, targets, known, out, variations=2, batch_size=2, steps=2, record=True)


@pytest.mark.parametrize("journals", [{0: [0]}, {0: [0, 1, 2]}, {0: [0, 1], 1: [4], 2: [3]}], ids=str)
def test_a_killed_run_goes_on_and_ends_as_if_nothing_had_been(
    tiny_recognizer: Recognizer,
    targets: Tensor,
    known: Any,
    whole: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    journals: dict[int, list[int]],
) -> None:
    before, manifest = whole
    rows = manifest["results"]
    out = tmp_path / "out"
    shutil.copytree(before, out)
    torn(out, {rank: [rows[i] for i in kept] for rank, kept in journals.items()}, manifest)
    real, made = synthesis.invert, []
    monkeypatch.setattr(synthesis, "invert", lambda *a, **k: (made.append(1), real(*a, **k))[1])
    again = run(tiny_recognizer, targets, known, out, variations=2, batch_size=2, steps=2, record=True)
    there = {i for kept in journals.values() for i in kept}
    assert len(made) == sum(not {i, i + 1} <= there for i in (0, 2, 4))
    assert without_times(again) == without_times(manifest)
    first, second = content(before), content(out)
    assert set(first) == set(second)
    del first["manifest.json"], second["manifest.json"]
    assert first == second


def test_a_complete_run_is_not_computed_again_but_for_what_is_gone(
    tiny_recognizer: Recognizer,
    targets: Tensor,
    known: Any,
    whole: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, manifest = whole
    out = tmp_path / "out"
    shutil.copytree(before, out)
    real, made = synthesis.invert, []
    monkeypatch.setattr(synthesis, "invert", lambda *a, **k: (made.append(1), real(*a, **k))[1])
    settings = {"variations": 2, "batch_size": 2, "steps": 2, "record": True}
    again = run(tiny_recognizer, targets, known, out, **settings)
    assert (made, again["results"]) == ([], manifest["results"])
    (out / "0001_01.png").unlink()
    (out / "0001_00.png").write_bytes(b"another")
    again = run(tiny_recognizer, targets, known, out, **settings)
    assert len(made) == 1
    assert without_times(again) == without_times(manifest)
    assert content(out)["0001_01.png"] == content(before)["0001_01.png"]


def test_force_leaves_nothing_foreign(
    tiny_recognizer: Recognizer, targets: Tensor, known: Any, whole: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole[0], out)
    (out / "journal.5.jsonl").write_text("mine\n")
    (out / "notes.txt").write_text("the user's")
    with pytest.raises(UsageError, match="another run"):
        run(tiny_recognizer, targets[:1], known, out)
    run(tiny_recognizer, targets[:1], known, out, force=True)
    assert sorted(content(out)) == ["0000_00.png", "manifest.json", "notes.txt", "sheet.png"]


def test_each_rank_does_its_share_and_the_first_writes_the_manifest(
    tiny_recognizer: Recognizer,
    tiny_checkpoint: Path,
    targets: Tensor,
    known: Any,
    whole: tuple[Path, dict[str, Any]],
    tmp_path: Path,
) -> None:
    """Two ranks in two threads that meet at a barrier, each with a network of its own."""
    meeting, results = threading.Barrier(2), {}
    networks = (tiny_recognizer, Recognizer.load(tiny_checkpoint))

    @dataclass(frozen=True)
    class Threads(Ranks):
        def wait(self) -> None:
            meeting.wait(timeout=300)

    def work(rank: int) -> None:
        config = replace(QUICK, variations=2, batch_size=2, steps=2, record=True)
        results[rank] = synthesize(
            networks[rank], targets, *known, tmp_path / "out", config=config, ranks=Threads(rank, 2)
        )

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, (0, 1)))
    assert results[0] == results[1]
    assert results[0]["settings"]["processes"] == 2
    assert without_times(results[0]) == without_times(whole[1])
    assert set(content(tmp_path / "out")) == set(content(whole[0]))


def test_pictures_that_another_rank_did_not_write_are_missed(
    tiny_recognizer: Recognizer, targets: Tensor, known: Any, tmp_path: Path
) -> None:
    """As with folders that the machines do not share."""

    class Alone(Ranks):
        def wait(self) -> None:
            pass

    config = replace(QUICK, steps=1, batch_size=1)
    with pytest.raises(EnvironmentProblem, match="1 pictures are in no journal"):
        synthesize(tiny_recognizer, targets, *known, tmp_path, config=config, ranks=Alone(0, 2))
    assert not (tmp_path / "manifest.json").exists()


# --- what the settings add


def test_the_report(tiny_recognizer: Recognizer, targets: Tensor, known: Any, tmp_path: Path) -> None:
    manifest = run(tiny_recognizer, targets[:2], known, tmp_path, variations=2, steps=2, report=True)
    rows = manifest["results"]
    for row in rows:
        assert row["holds"]["eight_bit"] == pytest.approx(row["cosine"], abs=1e-4)
        assert row["holds"]["face_found"] in (True, False)
    mean = sum(row["holds"]["jpeg_75"] for row in rows) / 4
    assert manifest["holds"]["jpeg_75"] == pytest.approx(mean, abs=1e-4)
    assert manifest["variety"]["measure"] == "feature_distance"
    assert "LPIPS was not measured" in manifest["variety"]["note"]
    pairs = [torch.stack([read_png(tmp_path / f"{t:04d}_{v:02d}.png") for v in (0, 1)]) for t in (0, 1)]
    for target, pair in enumerate(pairs):
        expected = feature_distance(tiny_recognizer, known[1], pair)
        assert manifest["variety"]["targets"][target] == {"target": target, "feature_distance": round(expected, 4)}
    assert run(tiny_recognizer, targets[:2], known, tmp_path, variations=2, steps=2, report=True)["holds"]


def test_without_a_detector_it_is_said_once(
    tiny_recognizer: Recognizer, targets: Tensor, known: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise EnvironmentProblem("cannot load the face detector (no such thing)")

    monkeypatch.setattr("arcinvert.synthesis.job.crop_detector", missing)
    said: list[str] = []
    config = replace(QUICK, steps=1, batch_size=1, report=True)
    manifest = synthesize(tiny_recognizer, targets, *known, tmp_path, config=config, say=said.append)
    (line,) = said
    assert "cannot load the face detector" in line
    for row in (*(row["holds"] for row in manifest["results"]), manifest["holds"]):
        assert [row[name] for name in ("face_found", "realigned", "yaw", "pitch")] == [None] * 4
        assert row["jpeg_75"] is not None


def test_the_floor(tiny_recognizer: Recognizer, targets: Tensor, known: Any, tmp_path: Path) -> None:
    plain = run(tiny_recognizer, targets, known, tmp_path / "plain", steps=2)
    cosines = sorted(row["cosine"] for row in plain["results"])
    floor = (cosines[1] + cosines[2]) / 2
    manifest = run(tiny_recognizer, targets, known, tmp_path / "floor", steps=2, min_cosine=floor, retries=1)
    for row, first in zip(manifest["results"], plain["results"], strict=True):
        assert row["attempts"] == (1 if first["cosine"] > floor else 2)
        assert row["below_min_cosine"] is (row["cosine"] < floor)
        assert row["cosine"] >= first["cosine"]
    assert manifest["below_min_cosine"] == sum(row["below_min_cosine"] for row in manifest["results"])


def test_the_record(whole: tuple[Path, dict[str, Any]]) -> None:
    out, manifest = whole
    expected = [f"000{t}_00{kind}" for t in range(3) for kind in (".plot.png", ".webp")]
    assert sorted(name for name in content(out) if "webp" in name or "plot" in name) == expected
    with Image.open(out / "0000_00.webp") as film:
        assert film.n_frames == 3
    for row in manifest["results"]:
        assert row["history"]["step"] == [0, 1]
        assert len(row["history"]["cosine"]) == 2
