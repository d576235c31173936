"""A calibration is found in the checkpoint, beside it or in the cache, and else made."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from arcinvert.calibration.auxiliary import default_auxiliary
from arcinvert.calibration.cache import find_calibration, load_calibration, mixed_calibration, save_calibration
from arcinvert.calibration.calibration import Calibration
from arcinvert.checkpoint import load_checkpoint, save_checkpoint
from arcinvert.errors import CheckpointError
from arcinvert.faceprior.prior import FacePrior
from arcinvert.recognizer import Recognizer


@pytest.fixture(scope="module")
def calibrated(tiny_checkpoint: Path, tiny_calibration: Calibration, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("calibrated") / "net.safetensors"
    save_calibration(tiny_checkpoint, out, tiny_calibration)
    return out


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("ARCINVERT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "calibrations"


# --- in the checkpoint, or beside it


def test_saving_leaves_the_network_as_it_is_and_replaces_an_older_calibration(
    calibrated: Path, tiny_checkpoint: Path, tiny_calibration: Calibration, tmp_path: Path
) -> None:
    before, after = load_checkpoint(tiny_checkpoint), load_checkpoint(calibrated)
    for key, value in before.tensors.items():
        assert torch.equal(after.tensors[key], value)
    assert {**after.header, "calibration": None} == {**before.header, "calibration": None}
    statistics = replace(tiny_calibration.statistics, location_mean={}, location_var={})
    save_calibration(calibrated, tmp_path / "again", replace(tiny_calibration, statistics=statistics, faces=11))
    found = find_calibration(Recognizer.load(tmp_path / "again"))
    assert found is not None
    assert found.faces == 11
    assert found.statistics.location_mean == {}


def test_a_calibration_beside_a_checkpoint_goes_first(
    calibrated: Path, tiny_calibration: Calibration, tmp_path: Path
) -> None:
    net, beside = tmp_path / "net.safetensors", tmp_path / "net.calibration.safetensors"
    net.write_bytes(calibrated.read_bytes())
    save_calibration(net, beside, replace(tiny_calibration, faces=11))
    assert not any(key.startswith("network.") for key in load_checkpoint(beside).tensors)
    recognizer = Recognizer.load(net)
    found = find_calibration(recognizer)
    assert found is not None
    assert found.faces == 11
    assert recognizer.digest == Recognizer.load(calibrated).digest  # it is the same network still


def test_a_calibration_beside_another_checkpoint_is_refused(
    calibrated: Path, tiny_checkpoint: Path, tiny_calibration: Calibration, tmp_path: Path
) -> None:
    beside = tmp_path / "net.calibration.safetensors"
    (tmp_path / "net.safetensors").write_bytes(tiny_checkpoint.read_bytes())
    save_calibration(calibrated, beside, tiny_calibration)
    with pytest.raises(CheckpointError, match=r"net\.calibration\.safetensors"):
        Recognizer.load(tmp_path / "net.safetensors")
    beside.write_bytes(tiny_checkpoint.read_bytes())
    with pytest.raises(CheckpointError, match=r"net\.calibration\.safetensors"):
        Recognizer.load(tmp_path / "net.safetensors")


def test_one_for_another_auxiliary_recognizer_or_of_old_is_none(calibrated: Path, tmp_path: Path) -> None:
    stored = load_checkpoint(calibrated)
    assert stored.header["calibration"]["auxiliary"] == default_auxiliary().digest
    old = {k: v for k, v in stored.tensors.items() if not k.startswith("calibration.auxiliary.expected.")}
    another = {**stored.header, "calibration": {**stored.header["calibration"], "auxiliary": "0" * 64}}
    for header, tensors in ((stored.header, old), (another, stored.tensors)):
        save_checkpoint(tmp_path / "c", header, tensors)
        assert find_calibration(Recognizer.load(tmp_path / "c")) is None


def test_a_damaged_one_in_the_checkpoint_is_refused(calibrated: Path, tmp_path: Path) -> None:
    stored = load_checkpoint(calibrated)
    save_checkpoint(tmp_path / "c", {**stored.header, "calibration": None}, stored.tensors)
    with pytest.raises(CheckpointError, match="calibration"):
        find_calibration(Recognizer.load(tmp_path / "c"))


# --- in the user's cache


def test_a_new_network_is_calibrated_once(
    cache: Path,
    tiny_recognizer: Recognizer,
    small_prior: FacePrior,
    tiny_calibration: Calibration,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "arcinvert")
    assert find_calibration(tiny_recognizer, small_prior) is None
    first = load_calibration(tiny_recognizer, small_prior)
    assert len(caplog.messages) == 1
    assert "64 synthetic faces" in caplog.messages[0]
    torch.testing.assert_close(first.latents.weight, tiny_calibration.latents.weight, atol=1e-2, rtol=1e-3)
    again = load_calibration(tiny_recognizer, small_prior)
    assert len(caplog.messages) == 1
    assert torch.equal(again.latents.weight, first.latents.weight)
    assert torch.equal(again.statistics.location_var["bn1"], first.statistics.location_var["bn1"])
    assert len(list(cache.iterdir())) == 1
    assert find_calibration(tiny_recognizer) is None
    assert find_calibration(tiny_recognizer, replace(small_prior, digest="other")) is None


def test_calibrations_of_an_older_fit_are_made_anew(
    cache: Path, tiny_recognizer: Recognizer, small_prior: FacePrior, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_calibration(tiny_recognizer, small_prior)
    assert find_calibration(tiny_recognizer, small_prior) is not None
    monkeypatch.setattr("arcinvert.calibration.cache.EDITION", "another")
    assert find_calibration(tiny_recognizer, small_prior) is None


def test_the_checkpoints_own_comes_first(cache: Path, calibrated: Path, small_prior: FacePrior) -> None:
    assert load_calibration(Recognizer.load(calibrated), small_prior).faces == 64
    assert not cache.exists()


def test_a_damaged_one_in_the_cache_is_made_again(
    cache: Path,
    tiny_recognizer: Recognizer,
    small_prior: FacePrior,
    tiny_calibration: Calibration,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("arcinvert.calibration.cache.calibrate", lambda *args, **settings: tiny_calibration)
    load_calibration(tiny_recognizer, small_prior)
    file = next(cache.iterdir())
    file.write_bytes(file.read_bytes()[:1000])
    assert find_calibration(tiny_recognizer, small_prior) is None
    load_calibration(tiny_recognizer, small_prior)
    assert find_calibration(tiny_recognizer, small_prior) is not None


def test_a_cache_that_cannot_be_written_is_logged(
    tmp_path: Path,
    tiny_recognizer: Recognizer,
    small_prior: FacePrior,
    tiny_calibration: Calibration,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("arcinvert.calibration.cache.calibrate", lambda *args, **settings: tiny_calibration)
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("ARCINVERT_CACHE", str(tmp_path / "file"))
    assert load_calibration(tiny_recognizer, small_prior).faces == 64
    assert "not kept" in caplog.messages[-1]


def test_a_calibration_on_crops_too_is_fitted_once(
    tiny_recognizer: Recognizer,
    small_prior: FacePrior,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ARCINVERT_CACHE", str(tmp_path))
    noise = torch.randint(0, 256, (12, 112, 112, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    first = mixed_calibration(tiny_recognizer, small_prior, noise, "aa" * 32)
    assert first.faces == 64 + 12
    monkeypatch.setattr("arcinvert.calibration.cache.calibrate", None)
    again = mixed_calibration(tiny_recognizer, small_prior, noise, "aa" * 32)
    assert torch.equal(first.latents.weight, again.latents.weight)
