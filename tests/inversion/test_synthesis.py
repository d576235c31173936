"""From embeddings to files."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import arcinvert
from arcinvert.calibration import Calibration
from arcinvert.errors import DivergedError, EnvironmentProblem, UsageError
from arcinvert.faceprior import FacePrior
from arcinvert.inversion import synthesis
from arcinvert.inversion.synthesis import (
    SynthConfig,
    contact_sheet,
    generator_for,
    reconstruct,
    synthesise,
    targets_tensor,
    write_png,
)
from arcinvert.recognizer import Recognizer

QUICK = SynthConfig(steps=4, batch_size=4)


@pytest.fixture(scope="module")
def targets(tiny_recognizer: Recognizer, small_prior: FacePrior) -> Tensor:
    return tiny_recognizer.embed(small_prior.decode(small_prior.coefficients(slice(30, 33))).clamp(0, 1))


@pytest.fixture(scope="module")
def known(
    tiny_recognizer: Recognizer, small_prior: FacePrior, tiny_calibration: Calibration
) -> tuple[FacePrior, Calibration]:
    return small_prior, tiny_calibration


def run(recognizer: Recognizer, targets: Tensor, known: Any, out: Path, **settings: Any) -> dict[str, Any]:
    force = settings.pop("force", False)
    return synthesise(recognizer, targets, *known, out, config=replace(QUICK, **settings), force=force)


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
        assert set(row) == {"target", "variation", "file", "cosine", "steps", "seconds"}
        assert row["steps"] == 4
        assert row["seconds"] > 0
    assert manifest["checkpoint"] == {"digest": tiny_recognizer.digest, "backbone": "iresnet18"}
    assert manifest["settings"] == {
        "variations": 2,
        "preset": "fast",
        "steps": 4,
        "seed": 5,
        "batch_size": 4,
        "device": "cpu",
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


def test_sheets_of_many_targets_have_eight_in_a_row() -> None:
    images = [torch.full((112, 112, 3), i, dtype=torch.uint8) for i in range(10)]
    sheet = contact_sheet(images, 1)
    assert sheet.shape == (228, 8 * 116 - 4, 3)
    assert int(sheet[10, 7 * 116 + 10, 0]) == 7
    assert int(sheet[120, 116 + 10, 0]) == 9
    assert (sheet[120:, 2 * 116 :] == 255).all()
    assert contact_sheet(images[:3], 1).shape == (112, 3 * 116 - 4, 3)


def test_variations_differ_and_so_do_targets(two_by_two: tuple[Path, dict[str, Any]]) -> None:
    out, _ = two_by_two
    faces = [pixels(out / name) for name in ("0000_00.png", "0000_01.png", "0001_00.png", "0001_01.png")]
    for i in range(4):
        for k in range(i):
            assert np.abs(faces[i] - faces[k]).mean() > 1


# --- seeds and neighbours


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


@pytest.mark.parametrize("preset", ["fast", "fourier"])
@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_a_target_does_not_depend_on_its_neighbours(
    tiny_recognizer: Recognizer, targets: Tensor, known: Any, preset: str, batch_size: int
) -> None:
    config = replace(QUICK, preset=preset, batch_size=batch_size)
    together = [found.image.int() for found in reconstruct(tiny_recognizer, targets, *known, config=config)]
    (alone,) = reconstruct(tiny_recognizer, targets[:1], *known, config=config)
    assert int((together[0] - alone.image.int()).abs().max()) <= 2
    if batch_size != 1:
        single = list(reconstruct(tiny_recognizer, targets, *known, config=replace(config, batch_size=1)))
        assert max(int((a - b.image.int()).abs().max()) for a, b in zip(together, single, strict=True)) <= 2


def test_more_variations_leave_the_first_as_it_was(tiny_recognizer: Recognizer, targets: Tensor, known: Any) -> None:
    one = list(reconstruct(tiny_recognizer, targets[:1], *known, config=QUICK))
    three = list(reconstruct(tiny_recognizer, targets[:1], *known, config=replace(QUICK, variations=3)))
    assert int((one[0].image.int() - three[0].image.int()).abs().max()) <= 2


def test_generators_are_one_per_image() -> None:
    def first(*key: int) -> float:
        return float(torch.rand(1, generator=generator_for(*key)))

    assert first(0, 1, 2) == first(0, 1, 2)
    keys = [(seed, target, variation) for seed in range(4) for target in range(4) for variation in range(4)]
    assert len({first(*key) for key in keys}) == len(keys)


def test_progress_runs_over_all_batches(tiny_recognizer: Recognizer, targets: Tensor, known: Any) -> None:
    told: list[tuple[int, int]] = []
    list(
        reconstruct(
            tiny_recognizer,
            targets,
            *known,
            config=replace(QUICK, batch_size=2),
            progress=lambda done, total, text: told.append((done, total)),
        )
    )
    assert told == [(step, 8) for step in range(1, 9)]


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


@pytest.mark.parametrize(
    "settings",
    [{"variations": 0}, {"batch_size": 0}, {"steps": 0}, {"steps": -1}, {"seed": -1}, {"preset": "slow"}],
    ids=str,
)
def test_settings_that_do_not_fit(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        SynthConfig(**settings)


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


def test_a_full_disk_leaves_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*paths: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(EnvironmentProblem, match="No space left"):
        write_png(tmp_path / "a.png", torch.zeros(112, 112, 3, dtype=torch.uint8))
    assert list(tmp_path.iterdir()) == []


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
    broken = replace(calibration, bias=torch.full_like(calibration.bias, float("nan")))
    with pytest.raises(DivergedError):
        run(tiny_recognizer, targets[:1], (prior, broken), tmp_path, steps=2)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    json.loads((tmp_path / "manifest.json").read_text(), parse_constant=refuse)


def test_targets_are_copied() -> None:
    rows = np.ones((2, 4), np.float32)
    tensor = targets_tensor(rows[::-1])
    rows[:] = 0
    assert torch.equal(tensor, torch.ones(2, 4))
