"""The checkpoint that ships: what it claims of itself, and that the first command of the README works."""

import json
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from arcinvert.calibration.cache import find_calibration
from arcinvert.checkpoint import file_digest, load_checkpoint
from arcinvert.cli import run
from arcinvert.evaluation.metrics import auc, operating_point, score_pairs
from arcinvert.faceprior.prior import default_face_prior
from arcinvert.inversion.invert import reduced
from arcinvert.recognizer import Recognizer, default_checkpoint
from arcinvert.synthesis.sheets import read_png
from arcinvert.training.data.faces import load_faces, to_float

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def held_out_faces(test_data, tmp_path_factory):
    """The identities that the checkpoint's header names as held out."""
    archive = test_data / "faces" / "images.tar"
    if not archive.is_file():
        pytest.skip(f"no faces at {archive}")
    wanted = load_checkpoint(default_checkpoint()).header["data"]["held_out"]
    folder = tmp_path_factory.mktemp("held_out")
    with tarfile.open(archive) as tar:
        chosen = [m for m in tar if len(Path(m.name).parts) == 2 and Path(m.name).parts[0] in set(wanted)]
        tar.extractall(folder, members=chosen, filter="data")
    return folder, wanted


def test_it_is_small_calibrated_and_says_what_it_is():
    path = default_checkpoint()
    assert path.stat().st_size < 40e6
    recognizer = Recognizer.load()
    header = recognizer.header
    assert header["backbone"] == "iresnet18"
    assert [p["fmr"] for p in header["validation"]["thresholds"]] == [1e-2, 1e-3]
    assert all(p["impostor_pairs"] > 100_000 and p["threshold"] > 0 for p in header["validation"]["thresholds"])
    assert len(header["data"]["digest"]) == 64
    calibration = find_calibration(recognizer)
    assert calibration is not None
    assert calibration.prior_digest == default_face_prior().digest


def test_the_model_card_is_of_this_checkpoint():
    assert (
        file_digest(REPOSITORY / "checkpoints" / "default.safetensors")
        in (REPOSITORY / "checkpoints" / "MODEL_CARD.md").read_text()
    )


def test_it_was_trained_by_the_configuration_beside_it():
    import tomllib

    from arcinvert.training.config import TrainConfig, differences

    with open(REPOSITORY / "checkpoints" / "default.toml", "rb") as file:
        config = TrainConfig.from_mapping(tomllib.load(file))
    stored = load_checkpoint(default_checkpoint()).header["training"]
    assert differences(config, stored) == []


@pytest.mark.slow
def test_verification_on_held_out_identities_is_what_the_header_claims(held_out_faces):
    folder, names = held_out_faces
    faces = load_faces(folder, names)
    recognizer = Recognizer.load()
    parts = [recognizer.embed(to_float(faces.images[i : i + 32])) for i in range(0, len(faces), 32)]
    scored = score_pairs(torch.cat(parts).numpy(), faces.labels.numpy())
    claimed = recognizer.header["validation"]
    measured = auc(genuine=scored.genuine, impostor=scored.impostor)
    assert measured == pytest.approx(claimed["auc"], abs=1e-3)
    assert measured > 0.981
    point = operating_point(1e-3, genuine=scored.genuine, impostor=scored.impostor)
    assert point.tar == pytest.approx(claimed["thresholds"][1]["tar"], abs=0.01)
    assert point.tar > 0.48


@pytest.mark.slow
def test_the_readme_command_gives_faces_of_the_target(tmp_path, capsys):
    out = tmp_path / "out"
    target = REPOSITORY / "examples" / "target.npy"
    code = run(["synth", "--embedding", str(target), "--variations", "4", "-o", str(out), "--json"])
    assert code == 0
    manifest = json.loads(capsys.readouterr().out)
    assert [row["file"] for row in manifest["results"]] == [f"0000_{v:02d}.png" for v in range(4)]
    assert min(row["cosine"] for row in manifest["results"]) > 0.9
    wanted = np.load(target, allow_pickle=False).reshape(1, -1)
    recognizer = Recognizer.load()
    for row in manifest["results"]:
        again = recognizer.embed(reduced(read_png(out / row["file"])[None])).numpy() @ wanted.T
        assert float(again[0, 0]) == pytest.approx(row["cosine"], abs=1e-3)


@pytest.mark.slow
def test_judges_recognize_the_reconstructions_and_not_the_controls(held_out_faces, test_data, tmp_path, monkeypatch):
    folder, _ = held_out_faces
    judge = test_data / "models" / "insightface-mobilefacenet-y1.onnx"
    if not judge.is_file():
        pytest.skip(f"no judge at {judge}")
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    import inversion

    report = tmp_path / "report.json"
    arguments = [
        "--data",
        str(folder),
        "--targets",
        "8",
        "--judge",
        str(judge),
        "--json",
        str(report),
    ]
    monkeypatch.setattr(sys, "argv", ["inversion.py", *arguments])
    inversion.main()
    runs = json.loads(report.read_text())["runs"]
    fast, shuffled = runs["fast"], runs["control: shuffled targets"]
    assert fast["own_cosine"] > 0.9
    assert fast[judge.stem]["cosine"] > shuffled[judge.stem]["cosine"] + 0.15
    assert shuffled[judge.stem]["type1@0.01"]["rate"] <= 0.25
