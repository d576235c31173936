"""``arcinvert plot`` and ``arcinvert eval distance`` from the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from arcinvert.cli import run
from arcinvert.cli.plot import common
from arcinvert.cli.plot import toy_experiment as toy
from arcinvert.evaluation.embedding import embed_folder
from arcinvert.evaluation.generation.distances import cosine_features, kernel_distance
from arcinvert.recognizer import Recognizer
from arcinvert.training.margins import MARGINS

pytestmark = pytest.mark.usefixtures("as_found")

pytest.importorskip("matplotlib")


@pytest.fixture
def stored(tmp_path: Path) -> list[str]:
    """``--embeddings`` and ``--labels`` of six identities with four rows each."""
    random = np.random.default_rng(0)
    rows = np.repeat(random.normal(size=(6, 16)), 4, axis=0) + random.normal(size=(24, 16)) * 0.6
    np.save(tmp_path / "net.npy", rows / np.linalg.norm(rows, axis=1, keepdims=True))
    (tmp_path / "labels.txt").write_text("".join(f"person {number // 4}\n" for number in range(24)))
    return ["--embeddings", str(tmp_path / "net.npy"), "--labels", str(tmp_path / "labels.txt")]


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.startswith("arcinvert: ")
    assert found.err.count("\n") == 1
    return found.err


@pytest.mark.parametrize("kind", ["roc", "det", "angles", "cmc"])
def test_a_picture_of_stored_embeddings(
    kind: str, stored: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out" / "picture.png"
    assert run(["plot", kind, *stored, *stored, "--name", "a", "--name", "b", "-o", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["out"] == str(out)
    assert [curve["name"] for curve in found["curves"]] == ["a", "b"]
    counts = {"gallery": 6, "probes": 18} if kind == "cmc" else {"genuine_pairs": 36, "impostor_pairs": 240}
    assert counts.items() <= found["curves"][0].items()
    assert [entry["rows"] for entry in found["curves"][0]["files"]] == [24, 24]
    Image.open(out).verify()


def test_a_file_names_its_curve(stored: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a.svg"
    assert run(["plot", "roc", *stored, "-o", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: written\n"


def test_all_margins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plot", "logits", "-o", str(tmp_path / "a.svg"), "--json"]) == 0
    found = {curve["name"]: curve["margins"] for curve in json.loads(capsys.readouterr().out)["curves"]}
    assert set(found) == set(MARGINS)
    assert found["arcface"] == [1.0, 0.5, 0.0]


def test_the_toy(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy.embed_in_two_dimensions, "__kwdefaults__", {"steps": 200, "scale": 16.0})
    assert run(["plot", "toy", "-o", str(tmp_path / "a.png"), "--json"]) == 0
    softmax, arcface = json.loads(capsys.readouterr().out)["curves"]
    assert (softmax["name"], arcface["name"], softmax["rows"]) == ("softmax", "arcface", 1600)
    assert min(softmax["right"], arcface["right"]) > 0.95
    # What the figure is drawn for: a margin draws identities together and apart from each other.
    assert arcface["to_center"] < 0.7 * softmax["to_center"]
    assert arcface["least_gap"] > softmax["least_gap"] + 2


def test_the_toy_is_the_same_each_time() -> None:
    features, labels = toy.random_features(3)
    first, second, other = (
        toy.embed_in_two_dimensions(features, labels, MARGINS["arcface"], seed=seed, steps=3)[0] for seed in (1, 1, 2)
    )
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)
    assert np.linalg.norm(first, axis=1) == pytest.approx(np.ones(len(first)))


def test_the_toy_on_faces(tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_faces: Path) -> None:
    for identity in range(8):
        (tmp_path / "faces" / str(identity)).mkdir(parents=True)
        for number in range(3):
            image = np.full((112, 112, 3), 20 * identity + number, np.uint8)
            Image.fromarray(image).save(tmp_path / "faces" / str(identity) / f"{number}.png")
    features, labels = toy.face_features(tmp_path / "faces")
    assert features.shape == (24, 3 * 16 * 16)
    assert labels.tolist() == [identity for identity in range(8) for _ in range(3)]
    assert features.std(0) == pytest.approx(torch.ones(768), abs=0.05)
    assert run(["plot", "toy", "--data", str(tiny_faces), "-o", str(tmp_path / "a.png")]) == 3
    assert "expected at least 8 identities" in error_of(capsys)


def test_spread_of_a_circle_made_by_hand() -> None:
    turn = np.radians(np.arange(8) * 45)
    centers = np.stack([np.cos(turn), np.sin(turn)], 1)
    angles = np.radians(np.arange(8)[:, None] * 45 + np.linspace(-3, 5, 101))
    points = np.stack([np.cos(angles), np.sin(angles)], -1).reshape(-1, 2)
    within, gap = toy.spread(points, np.repeat(np.arange(8), 101), centers)
    assert within == pytest.approx(np.abs(np.linspace(-3, 5, 101)).mean())
    assert gap == pytest.approx(45 - 8 * 0.96)


# --- what is refused


def test_bad_rows_and_labels(
    stored: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a.png"
    start = ["plot", "roc", *stored, "-o", str(out)]
    labels = tmp_path / "labels.txt"
    whole = labels.read_text()
    for content, expected in (
        (whole + "more\n", "25 labels"),
        (whole.replace("person 1\n", "\n", 1), "line 5 is blank"),
        ("one\n" * 24, "expected"),
    ):
        labels.write_text(content)
        assert run(start) == 3
        assert expected in error_of(capsys)
    labels.write_text("".join(f"{number}\n" for number in range(24)))
    assert run(start) == 3
    assert "expected" in error_of(capsys)
    labels.write_text(whole)
    rows = np.load(tmp_path / "net.npy")
    np.save(tmp_path / "net.npy", np.where(np.arange(24)[:, None] == 7, np.nan, rows))
    assert run(start) == 3
    assert "row 7" in error_of(capsys)
    (tmp_path / "net.npy").write_bytes(b"\x80\x04N.")
    assert run(start) == 3
    assert "pickle" in error_of(capsys)
    assert not out.exists()


def test_too_many_rows_for_a_picture(
    stored: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "MAX_ROWS", 23)
    assert run(["plot", "det", *stored, "-o", str(tmp_path / "a.png")]) == 3
    assert "at most 23 embeddings" in error_of(capsys)


def test_options_that_do_not_fit(stored: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["-o", str(tmp_path / "a.png")]
    for arguments, expected in (
        ([*stored, *stored, *out], "different names"),
        ([*stored, *stored[2:], *out], "got 1 --embeddings, 2 --labels"),
        ([*stored, "--name", "a", "--name", "b", *out], "2 --name"),
        ([*stored, "-o", str(tmp_path / "a.gif")], "expected an output .png or .svg"),
        ([*stored[:2], *out], "--labels"),
    ):
        assert run(["plot", "roc", *arguments]) == 2
        assert expected in error_of(capsys)
    for kind in ("logits", "toy"):
        assert run(["plot", kind, "-o", str(tmp_path / "a.jpg")]) == 2
        error_of(capsys)


# --- eval distance


def test_the_distance_of_two_folders(
    tiny_faces: Path, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "id0").mkdir()
    for number in range(5):
        noise = np.random.default_rng(number).integers(0, 256, (112, 112, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "id0" / f"{number}.png")
    start = ["eval", "distance", str(tiny_faces), str(tmp_path), "--checkpoint", str(tiny_checkpoint)]
    assert run([*start, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    recognizer = Recognizer.load(tiny_checkpoint)
    one, other = (embed_folder(recognizer, folder) for folder in (tiny_faces, tmp_path))
    expected = kernel_distance(cosine_features(one.rows), cosine_features(other.rows))
    assert found["kid"]["mean"] == pytest.approx(expected.mean, rel=1e-4)
    assert found["kid"]["size"] == 2
    assert found["frechet"] is None
    assert "fewer than 2048" in found["reason"]
    assert (found["first"], found["second"], found["space"]) == (36, 5, "tiny")
    assert [entry["sha256"] for entry in found["sets"]] == [one.digest, other.digest]
    assert found["network_sha256"] == recognizer.digest
    # The table; and a picture that cannot be read is left out, and said.
    (tmp_path / "id0" / "9.png").write_bytes(b"no picture")
    assert run(start) == 4
    printed = capsys.readouterr()
    assert "| KID in the feature space of tiny (100 subsets of 2) |" in printed.out
    assert "| Frechet distance in the feature space of tiny | fewer than 2048" in printed.out
    assert printed.out.count("36 and 5") == 2
    assert "FID" not in printed.out
    assert "skipped" in printed.err


def test_distances_that_are_refused(
    tiny_faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch_fidelity")
    faces, empty = str(tiny_faces), str(tmp_path)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: empty)
    for arguments, code, expected in (
        ([faces, str(tmp_path / "none")], 3, "expected a folder of pictures"),
        ([faces, empty], 3, "expected images in the folder"),
        ([faces, faces, "--features", "vgg"], 2, "recognizer or inception"),
        ([faces, faces, "--weights", "a.pth"], 2, "expected --features inception"),
        ([faces, faces, "--features", "inception"], 5, "the weights of Inception are missing"),
    ):
        assert run(["eval", "distance", *arguments]) == code
        assert expected in error_of(capsys)
    Image.new("RGB", (112, 112)).save(tmp_path / "a.png")
    assert run(["eval", "distance", faces, empty]) == 3
    assert "at least 4 pictures in each set, got 36 and 1" in error_of(capsys)
