"""The license of weights, from headers and from digests."""

import json
from pathlib import Path

import pytest
import torch

from arcinvert.calibration.auxiliary import default_auxiliary
from arcinvert.checkpoint import load_checkpoint, save_checkpoint
from arcinvert.faceprior.prior import default_face_prior
from arcinvert.formats.license import DLIB, GENERATED, license_of, license_of_digest
from arcinvert.recognizer import Recognizer


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({}, "not stated"),
        ({"license": "MIT"}, "MIT"),
        ({"license": "not stated", "source": {"license": "MIT"}}, "MIT"),
        ({"license": "two\nlines\t" + 400 * "x"}, ("two lines " + 400 * "x")[:300]),
        ({"license": ["MIT"], "source": "a text"}, "not stated"),
    ],
)
def test_every_header_that_is_written_has_a_license(header: dict[str, object], expected: str, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "net", header, {"network.weight": torch.zeros(1)})
    assert load_checkpoint(tmp_path / "net").header["license"] == expected


def test_every_shipped_file_has_one() -> None:
    """A new edition of a shipped file states it in its header, or is listed by its digest."""
    prior = default_face_prior()
    assert Recognizer.load().license == license_of_digest(prior.digest) == GENERATED
    assert license_of_digest(default_auxiliary().digest) == DLIB


def test_a_known_model_and_a_download_are_found_by_their_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffalo = "4c06341c33c2ca1f86781dab0e829f88ad5b64be9fba56e56bc9ebdefc619e43"
    assert license_of({}, buffalo).startswith("non-commercial research only")
    assert license_of({"license": "bought"}, buffalo) == "bought"
    monkeypatch.setenv("ARCINVERT_CACHE", str(tmp_path))
    folder = tmp_path / "models" / "some--body"
    folder.mkdir(parents=True)
    (folder / "net.onnx.lock.json").write_text(json.dumps({"sha256": "a" * 64, "license": "mit"}))
    (folder / "other.onnx.lock.json").write_text("no JSON")
    assert license_of({}, "a" * 64) == "mit"
    assert license_of({}, "b" * 64) == "not stated"
