"""A job in a folder."""

import hashlib
import json
import math
import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from digests import digests
from PIL import Image
from torch import Tensor

import arcinvert
from arcinvert.distributed import Processes
from arcinvert.errors import DivergedError, EnvironmentProblem, UsageError
from arcinvert.faceprior.prior import ATTRIBUTES
from arcinvert.inversion import reconstruct
from arcinvert.inversion.controls import LEVEL, NOSE, Controls
from arcinvert.inversion.invert import Inversion
from arcinvert.inversion.reconstruct import Settings
from arcinvert.inverter import Inverter
from arcinvert.recognizer import Recognizer
from arcinvert.synthesis import journal
from arcinvert.synthesis.diversity import feature_distance
from arcinvert.synthesis.job import compared, missed_controls, synthesize
from arcinvert.synthesis.journal import Row
from arcinvert.synthesis.sheets import read_crop, read_png

Manifest = dict[str, Any]
QUICK = Settings(steps=4, batch_size=4)
RECORDED: dict[str, Any] = {"variations": 2, "batch_size": 2, "steps": 2, "record": True}


def run(
    inverter: Inverter, targets: Tensor, out: Path, *, report: bool = False, force: bool = False, **settings: Any
) -> Manifest:
    return synthesize(inverter, targets, out, settings=replace(QUICK, **settings), report=report, force=force)


def count_inversions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of images of every inversion from now on."""
    sizes: list[int] = []
    real = reconstruct.invert
    monkeypatch.setattr(
        reconstruct, "invert", lambda *a, target, **k: (sizes.append(len(target)), real(*a, target=target, **k))[1]
    )
    return sizes


@pytest.fixture(scope="module")
def two_by_two(
    tiny_inverter: Inverter, targets: Tensor, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Manifest]:
    """Two targets, two variations. Do not write into it."""
    out = tmp_path_factory.mktemp("synth") / "out"
    return out, run(tiny_inverter, targets[:2], out, variations=2, seed=5)


@pytest.fixture(scope="module")
def recorded(
    tiny_inverter: Inverter, targets: Tensor, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Manifest]:
    """Three targets, two variations, in batches of two, with their paths. Do not write into it."""
    out = tmp_path_factory.mktemp("recorded")
    return out, run(tiny_inverter, targets, out, **RECORDED)


# --- what is written


def test_the_manifest_describes_files_settings_and_versions(
    two_by_two: tuple[Path, Manifest], tiny_recognizer: Recognizer
) -> None:
    out, manifest = two_by_two
    names = ["0000_00.png", "0000_01.png", "0001_00.png", "0001_01.png"]
    assert list(digests(out)) == [*names, "manifest.json", "sheet.png"]
    assert json.loads((out / "manifest.json").read_text()) == manifest
    rows = manifest["results"]
    assert [(row["target"], row["variation"]) for row in rows] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert [row["file"] for row in rows] == names
    for row in rows:
        drawn = {"attributes"} if row["variation"] else set()
        assert set(row) == {"target", "variation", "file", "cosine", "steps", "seconds", "sha256"} | drawn
        assert set(row.get("attributes", ATTRIBUTES)) == set(ATTRIBUTES)
        assert row["sha256"] == hashlib.sha256((out / row["file"]).read_bytes()).hexdigest()
        assert row["steps"] == 4
        assert row["seconds"] > 0
    assert manifest["version"] == manifest["run"]["version"] == 2
    assert manifest["checkpoint"] == {"digest": tiny_recognizer.digest, "backbone": "iresnet18"}
    assert manifest["settings"] == {
        "variations": 2,
        "preset": "fast",
        "steps": 4,
        "seed": 5,
        "batch_size": 4,
        "pose": None,
        "expression": None,
        "light": None,
        "vary": ["pose", "expression", "light", "color"],
        "size": 224,
        "precision": "float32",
        "compile": False,
        "min_cosine": None,
        "retries": 2,
        "record": False,
        "device": "cpu",
        "processes": 1,
    }
    assert set(manifest["versions"]) == {"arcinvert", "torch", "numpy", "python"}
    assert manifest["versions"]["arcinvert"] == arcinvert.__version__
    assert manifest["versions"]["torch"] == torch.__version__
    assert manifest["licenses"].keys() == {"recognizer", "face prior", "auxiliary network"}
    assert manifest["licenses"]["auxiliary network"].startswith("CC0")
    assert manifest["diverged"] == 0
    assert manifest["mean_cosine"] == pytest.approx(sum(row["cosine"] for row in rows) / 4, abs=1e-5)
    assert "synthetic" in manifest["note"]
    assert not {"robustness", "diversity"} & set(manifest)


def test_the_manifest_holds_no_embedding(two_by_two: tuple[Path, Manifest]) -> None:
    def longest(value: Any) -> int:
        if isinstance(value, dict | list):
            parts = value.values() if isinstance(value, dict) else value
            return max((len(value), *map(longest, parts)))
        return 0

    assert longest(two_by_two[1]) < 20  # an embedding has 64 numbers


def test_cosine_is_that_of_the_written_file(
    two_by_two: tuple[Path, Manifest], tiny_recognizer: Recognizer, targets: Tensor
) -> None:
    out, manifest = two_by_two
    for row in manifest["results"]:
        again = tiny_recognizer.embed(read_crop(out / row["file"])[None]) @ targets[row["target"]]
        assert row["cosine"] == pytest.approx(float(again), abs=2e-5)


def test_image_files_are_marked_as_synthetic(two_by_two: tuple[Path, Manifest]) -> None:
    for path in two_by_two[0].glob("*.png"):
        with Image.open(path) as image:
            assert (image.format, image.mode) == ("PNG", "RGB")
            assert "synthetic" in image.text["Description"]
            assert image.text["Software"] == f"arcinvert {arcinvert.__version__}"
            assert image.size == ((452, 452) if path.name == "sheet.png" else (224, 224))


def test_the_sheet_has_a_target_a_row(two_by_two: tuple[Path, Manifest]) -> None:
    out, _ = two_by_two
    sheet = read_png(out / "sheet.png")
    assert torch.equal(sheet[:224, :224], read_png(out / "0000_00.png"))
    assert torch.equal(sheet[:224, 228:], read_png(out / "0000_01.png"))
    assert torch.equal(sheet[228:, :224], read_png(out / "0001_00.png"))
    assert bool((sheet[224:228] == 255).all())


def test_targets_and_variations_and_seeds_differ_and_the_same_seed_gives_the_same_bytes(
    two_by_two: tuple[Path, Manifest], tiny_inverter: Inverter, targets: Tensor, tmp_path: Path
) -> None:
    faces = [read_png(two_by_two[0] / row["file"]).float() for row in two_by_two[1]["results"]]
    for i in range(4):
        for k in range(i):
            assert float((faces[i] - faces[k]).abs().mean()) > 1
    for seed, same in ((5, True), (6, False)):
        run(tiny_inverter, targets[:2], tmp_path / str(seed), variations=2, seed=seed)
        again = digests(tmp_path / str(seed), "*.png")
        for name, found in digests(two_by_two[0], "*.png").items():
            assert (again[name] == found) is same


# --- refusals


def test_another_job_in_the_folder_is_refused_and_left_alone(
    tiny_inverter: Inverter, targets: Tensor, tmp_path: Path
) -> None:
    run(tiny_inverter, targets[:1], tmp_path)
    before = digests(tmp_path)
    for other, settings in ((targets[1:2], {}), (targets[:1], {"seed": 9}), (targets[:1], {"steps": 3})):
        with pytest.raises(UsageError, match=r"another job.*--force"):
            run(tiny_inverter, other, tmp_path, **settings)
        assert digests(tmp_path) == before
    run(tiny_inverter, targets[:1], tmp_path)  # the same job may run again
    assert digests(tmp_path)["0000_00.png"] == before["0000_00.png"]
    forced = run(tiny_inverter, targets[1:2], tmp_path, force=True)
    assert json.loads((tmp_path / "manifest.json").read_text()) == forced
    assert digests(tmp_path)["0000_00.png"] != before["0000_00.png"]


def test_a_job_of_manifest_version_1_is_refused_and_force_replaces_it(
    tiny_inverter: Inverter, targets: Tensor, recorded: tuple[Path, Manifest], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(recorded[0], out)
    old = {**recorded[1], "run": {key: value for key, value in recorded[1]["run"].items() if key != "version"}}
    del old["version"]
    (out / "manifest.json").write_text(json.dumps(old))
    before = digests(out)
    with pytest.raises(UsageError, match=r"another version of arcinvert.*--force") as caught:
        run(tiny_inverter, targets, out, **RECORDED)
    assert "\n" not in str(caught.value)
    assert digests(out) == before
    (out / "notes.txt").write_text("the user's")
    (out / "journal.5.jsonl").write_text("mine\n")
    assert run(tiny_inverter, targets[:1], out, force=True)["version"] == 2
    assert list(digests(out)) == ["0000_00.png", "manifest.json", "notes.txt", "sheet.png"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"run": 3}', "\udcff"])
def test_a_foreign_manifest_is_not_overwritten(
    tiny_inverter: Inverter, targets: Tensor, tmp_path: Path, text: str
) -> None:
    (tmp_path / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    before = digests(tmp_path)
    with pytest.raises(UsageError, match="another job"):
        run(tiny_inverter, targets[:1], tmp_path)
    assert digests(tmp_path) == before


def test_a_folder_that_cannot_be_made_is_refused_before_the_work(
    tiny_inverter: Inverter, targets: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr(reconstruct, "invert", None)
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(EnvironmentProblem, match="cannot write"):
            run(tiny_inverter, targets[:1], out)
    assert (tmp_path / "file").read_text() == "mine"


# --- divergence


def test_diverged_images_are_marked_and_left_out_of_the_mean(
    tiny_inverter: Inverter, targets: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = reconstruct.invert

    def diverge(rows: Sequence[int]) -> None:
        def fake(*args: Any, **options: Any) -> Inversion:
            found = real(*args, **options)
            return replace(found, diverged=torch.tensor([row in rows for row in range(3)]))

        monkeypatch.setattr(reconstruct, "invert", fake)

    diverge([1])
    manifest = run(tiny_inverter, targets, tmp_path / "one", steps=1)
    assert [row.get("diverged", False) for row in manifest["results"]] == [False, True, False]
    assert manifest["diverged"] == 1
    good = [row["cosine"] for row in manifest["results"] if "diverged" not in row]
    assert manifest["mean_cosine"] == pytest.approx(sum(good) / 2, abs=1e-5)
    assert (tmp_path / "one" / "0001_00.png").is_file()
    diverge([0, 1, 2])
    with pytest.raises(DivergedError, match="none of the 3"):
        run(tiny_inverter, targets, tmp_path / "all", steps=1)
    manifest = json.loads((tmp_path / "all" / "manifest.json").read_text())
    assert (manifest["mean_cosine"], manifest["diverged"]) == (None, 3)


def test_a_target_of_which_no_step_is_finite_diverges(tiny_inverter: Inverter, targets: Tensor, tmp_path: Path) -> None:
    calibration = tiny_inverter.calibration
    nan = torch.full_like(calibration.latents.bias, float("nan"))
    broken = replace(calibration, latents=replace(calibration.latents, bias=nan))
    with pytest.raises(DivergedError):
        run(replace(tiny_inverter, calibration=broken), targets[:1], tmp_path, steps=2)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    json.loads((tmp_path / "manifest.json").read_text(), parse_constant=refuse)


# --- resuming


def without_times(manifest: Manifest) -> Manifest:
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in manifest["results"]]
    return {**manifest, "results": rows, "seconds": None, "settings": None}


def tear(out: Path, journals: dict[int, list[Manifest]], manifest: Manifest) -> None:
    """Leave of a complete folder what a killed job leaves: the images that its journals name, and half a line."""
    kept = {row["file"].split(".")[0] for rows in journals.values() for row in rows}
    for path in out.iterdir():
        if path.name.split(".")[0] not in kept:
            path.unlink()
    for rank, rows in journals.items():
        for row in rows:
            journal.append(out, rank, manifest["run"], row)
    with open(out / "journal.0.jsonl", "ab") as file:
        file.write(b'{"target": 2, "vari')
    (out / ".abcd1234.part").write_bytes(b"half an image")


@pytest.mark.parametrize("journals", [{0: [0]}, {0: [0, 1], 1: [4], 2: [3]}], ids=str)
def test_a_killed_job_resumes_and_ends_like_one_that_was_not(
    tiny_inverter: Inverter,
    targets: Tensor,
    recorded: tuple[Path, Manifest],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    journals: dict[int, list[int]],
) -> None:
    before, manifest = recorded
    out = tmp_path / "out"
    shutil.copytree(before, out)
    tear(out, {rank: [manifest["results"][i] for i in kept] for rank, kept in journals.items()}, manifest)
    sizes = count_inversions(monkeypatch)
    again = run(tiny_inverter, targets, out, **RECORDED)
    there = {i for kept in journals.values() for i in kept}
    assert len(sizes) == sum(not {i, i + 1} <= there for i in (0, 2, 4))
    assert without_times(again) == without_times(manifest)
    first, second = digests(before), digests(out)
    del first["manifest.json"], second["manifest.json"]
    assert first == second


def test_a_complete_job_computes_only_what_is_missing(
    tiny_inverter: Inverter,
    targets: Tensor,
    recorded: tuple[Path, Manifest],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, manifest = recorded
    out = tmp_path / "out"
    shutil.copytree(before, out)
    sizes = count_inversions(monkeypatch)
    again = run(tiny_inverter, targets, out, **RECORDED)
    assert (sizes, again["results"]) == ([], manifest["results"])
    (out / "0001_01.png").unlink()
    (out / "0001_00.png").write_bytes(b"another")
    again = run(tiny_inverter, targets, out, **RECORDED)
    assert sizes == [2]
    assert without_times(again) == without_times(manifest)
    assert digests(out)["0001_01.png"] == digests(before)["0001_01.png"]


def test_each_rank_computes_its_share_and_the_first_writes_the_manifest(
    tiny_inverter: Inverter,
    tiny_checkpoint: Path,
    targets: Tensor,
    recorded: tuple[Path, Manifest],
    tmp_path: Path,
) -> None:
    """Two ranks in two threads that meet at a barrier, each with a network of its own."""
    barrier, results = threading.Barrier(2), {}
    inverters = (tiny_inverter, replace(tiny_inverter, recognizer=Recognizer.load(tiny_checkpoint)))

    @dataclass(frozen=True)
    class Threads(Processes):
        def wait(self) -> None:
            barrier.wait(timeout=600)

    def work(rank: int) -> None:
        settings = replace(QUICK, **RECORDED)
        ranks = Threads(rank, 2)
        results[rank] = synthesize(
            inverters[rank], targets, tmp_path / "out", settings=settings, report=False, ranks=ranks
        )

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, (0, 1)))
    assert results[0] == results[1]
    assert results[0]["settings"]["processes"] == 2
    assert without_times(results[0]) == without_times(recorded[1])
    assert set(digests(tmp_path / "out")) == set(digests(recorded[0]))


def test_images_that_another_rank_did_not_write_are_missed(
    tiny_inverter: Inverter, targets: Tensor, tmp_path: Path
) -> None:
    """As with folders that the machines do not share."""

    class Alone(Processes):
        def wait(self) -> None:
            pass

    settings = replace(QUICK, steps=1, batch_size=1)
    with pytest.raises(EnvironmentProblem, match="1 images are in no journal"):
        synthesize(tiny_inverter, targets, tmp_path, settings=settings, report=False, ranks=Alone(0, 2))
    assert not (tmp_path / "manifest.json").exists()


# --- what the settings add


def test_the_report_measures_robustness_and_diversity(tiny_inverter: Inverter, targets: Tensor, tmp_path: Path) -> None:
    manifest = run(tiny_inverter, targets[:2], tmp_path, variations=2, steps=2, report=True)
    rows = manifest["results"]
    for row in rows:
        assert row["robustness"]["eight_bit"] == pytest.approx(row["cosine"], abs=1e-4)
        assert row["robustness"]["face_found"] in (True, False)
    mean = sum(row["robustness"]["jpeg_75"] for row in rows) / 4
    assert manifest["robustness"]["jpeg_75"] == pytest.approx(mean, abs=1e-4)
    assert manifest["diversity"]["measure"] == "feature_distance"
    assert "LPIPS was not measured" in manifest["diversity"]["note"]
    expected = []
    for target in range(2):
        pair = torch.stack([read_crop(tmp_path / f"{target:04d}_{variation:02d}.png") for variation in range(2)])
        distance = feature_distance(tiny_inverter, pair)
        assert distance is not None
        expected.append({"target": target, "feature_distance": round(distance, 4)})
    assert manifest["diversity"]["targets"] == expected


def test_without_a_detector_there_is_one_message(
    tiny_inverter: Inverter,
    targets: Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def missing() -> None:
        raise EnvironmentProblem("cannot load the face detector (no such thing)")

    monkeypatch.setattr("arcinvert.synthesis.job.crop_detector", missing)
    manifest = run(tiny_inverter, targets, tmp_path, report=True, steps=1, batch_size=1)
    (message,) = caplog.messages
    assert "cannot load the face detector" in message
    for row in (*(row["robustness"] for row in manifest["results"]), manifest["robustness"]):
        assert [row[name] for name in ("face_found", "realigned", "yaw", "pitch")] == [None] * 4
        assert row["jpeg_75"] is not None


def test_the_least_cosine(tiny_inverter: Inverter, targets: Tensor, tmp_path: Path) -> None:
    plain = run(tiny_inverter, targets, tmp_path / "plain", steps=2)
    cosines = sorted(row["cosine"] for row in plain["results"])
    least = (cosines[1] + cosines[2]) / 2
    manifest = run(tiny_inverter, targets, tmp_path / "least", steps=2, min_cosine=least, retries=1)
    for row, first in zip(manifest["results"], plain["results"], strict=True):
        assert row["attempts"] == (1 if first["cosine"] > least else 2)
        assert row["below_min_cosine"] is (row["cosine"] < least)
        assert row["cosine"] >= first["cosine"]
    assert manifest["below_min_cosine"] == sum(row["below_min_cosine"] for row in manifest["results"])


def test_the_record_has_an_animation_a_plot_and_a_history(recorded: tuple[Path, Manifest]) -> None:
    out, manifest = recorded
    expected = [f"000{t}_00{kind}" for t in range(3) for kind in (".plot.png", ".webp")]
    assert sorted(name for name in digests(out) if "webp" in name or "plot" in name) == expected
    with Image.open(out / "0000_00.webp") as animation:
        assert animation.n_frames == 3
    for row in manifest["results"]:
        assert row["history"]["step"] == [0, 1]
        assert len(row["history"]["cosine"]) == 2


# --- sizes, and what was asked


@pytest.mark.parametrize("size", [112, 448])
def test_pictures_have_the_size_that_is_asked_for(
    tiny_inverter: Inverter, targets: Tensor, tmp_path: Path, size: int
) -> None:
    run(tiny_inverter, targets[:1], tmp_path, steps=2, size=size)
    assert read_png(tmp_path / "0000_00.png").shape == (size, size, 3)


def test_what_was_asked_stands_beside_what_is_measured() -> None:
    asked = dict(zip(ATTRIBUTES, Controls.parse("left", "smile").attributes(), strict=True))
    asked = {name: value for name, value in asked.items() if value == value}
    turned = compared(asked, {"yaw": NOSE * math.tan(math.radians(-23)), "pitch": LEVEL, "smile": None, "light": 0.1})
    assert turned["yaw"] == {"asked": pytest.approx(-25), "measured": pytest.approx(-23), "missed": False}
    assert turned["pitch"] == {"asked": pytest.approx(0, abs=1e-3), "measured": 0, "missed": False}
    assert turned["smile"] == {"asked": pytest.approx(0.98), "measured": None, "missed": False}
    assert set(turned) == {"yaw", "pitch", "smile"}
    assert compared(asked, {"yaw": 0.0})["yaw"]["missed"]
    assert compared({"age": 50.0}, {"age": 43.0}) == {"age": {"asked": 50.0, "measured": 43.0, "missed": False}}
    assert compared({"age": 50.0}, {"age": 41.0})["age"]["missed"]


def test_a_miss_counts_where_it_was_asked_for_and_not_where_a_variation_drew_it() -> None:
    hit, miss = {"missed": False}, {"missed": True}
    rows: list[Row] = [
        {"attributes": {"yaw": miss, "pitch": hit, "smile": miss, "light": miss}},
        {"attributes": {"yaw": hit, "pitch": hit, "light": miss}},
        {},
    ]
    assert missed_controls(rows, Settings()) == 0
    assert missed_controls(rows, Settings(expression="smile")) == 1
    assert missed_controls(rows, Settings(pose="left")) == 1
    assert missed_controls(rows, Settings(light="left", expression="smile")) == 2
