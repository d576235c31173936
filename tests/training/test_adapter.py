"""Adapters: a perceptron on stored embeddings."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from arcinvert.adapter import Adapter, Perceptron
from arcinvert.checkpoint import load_checkpoint, save_checkpoint
from arcinvert.cli import run
from arcinvert.errors import CheckpointError, DivergedError, InputError, UsageError
from arcinvert.training.adapter import AdapterConfig, train_adapter

SIZE, IDENTITIES, EACH = 16, 40, 6
SMALL = AdapterConfig(hidden=32, epochs=30, batch_size=32, lr=0.1, held_out=10)


def people() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Embeddings in which the last half of the components tells of the image, loudly, and not of the person."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(IDENTITIES), EACH)
    person = random.normal(size=(IDENTITIES, SIZE // 2))[labels] + 0.2 * random.normal(size=(len(labels), SIZE // 2))
    rows = np.concatenate([person, 2 * random.normal(size=person.shape)], 1)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), labels


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stored")
    rows, labels = people()
    np.save(folder / "E.npy", rows)
    (folder / "L.txt").write_text("".join(f"{label:03d}\n" for label in labels))
    return folder


def settings(path: Path, config: AdapterConfig) -> Path:
    path.write_text("".join(f"{key} = {value}\n" for key, value in config.__dict__.items()))
    return path


def test_a_new_one_of_equal_sizes_changes_nothing() -> None:
    rows, _ = people()
    network = Perceptron(SIZE, 8, SIZE).eval()
    np.testing.assert_allclose(Adapter(network, SIZE, SIZE, {}, "")(rows), rows, atol=1e-6)
    assert Adapter(Perceptron(SIZE, 8, 5).eval(), SIZE, 5, {}, "")(rows).shape == (len(rows), 5)


def test_held_out_identities_are_found_better_afterwards_and_have_no_part() -> None:
    rows, labels = people()
    header, tensors = train_adapter(rows, labels, config=SMALL)
    measured = header["validation"]
    assert measured["identities"] == 10
    assert measured["map_after"] > measured["map_before"] + 0.2
    others = rows.copy()
    others[labels >= IDENTITIES - 10] = others[labels >= IDENTITIES - 10][::-1]
    again = train_adapter(others, labels, config=SMALL)[1]
    assert all(torch.equal(value, again[key]) for key, value in tensors.items())


def test_train_embed_and_eval_use_the_same_file(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, given = (
        tmp_path / "adapter.safetensors",
        ["--embeddings", str(files / "E.npy"), "--labels", str(files / "L.txt")],
    )
    toml = settings(tmp_path / "a.toml", SMALL)
    assert run(["train", *given, "-o", str(out), "--config", str(toml), "--license", "MIT"]) == 0
    assert "MAP@100 of 10 held-out identities" in capsys.readouterr().out
    header = load_checkpoint(out).header
    assert (header["kind"], header["license"], header["data"]["identities"]) == ("adapter", "MIT", 30)
    found = []
    for more in ([], ["--adapter", str(out)]):
        assert run(["eval", "retrieval", *given, *more, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[1]["retrieval"]["map"] > found[0]["retrieval"]["map"] + 0.2
    assert found[1]["sources"][-1]["sha256"] == Adapter.load(out).digest
    assert run(["embed", "nothing.png", "--aligned", "--adapter", str(out), "-o", str(tmp_path / "e.npy")]) == 2
    assert "takes 16-d" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "value", "shown"),
    [("kind", "recognizer", "got recognizer"), ("hidden", 10**9, "1000000000"), ("size", "16", "'16'"),
     ("hidden", 31, "mismatches")],
)  # fmt: skip
def test_a_file_that_does_not_fit_is_refused(change: str, value: Any, shown: str, tmp_path: Path) -> None:
    tensors = {f"network.{key}": part for key, part in Perceptron(SIZE, 32, SIZE).state_dict().items()}
    header = {"kind": "adapter", "size": SIZE, "hidden": 32, "embedding_size": SIZE}
    save_checkpoint(tmp_path / "a", header, tensors)
    assert Adapter.load(tmp_path / "a").size == SIZE
    save_checkpoint(tmp_path / "a", header | {change: value}, tensors)
    with pytest.raises(CheckpointError, match=shown):
        Adapter.load(tmp_path / "a")
    tensors["network.layers.6.bias"] = torch.full((SIZE,), torch.nan)
    save_checkpoint(tmp_path / "a", header, tensors)
    with pytest.raises(CheckpointError, match="finite"):
        Adapter.load(tmp_path / "a")


def test_input_that_does_not_fit() -> None:
    rows, labels = people()
    with pytest.raises(InputError, match="got 1 and 6"):
        train_adapter(rows, labels, config=replace(SMALL, held_out=39))
    with pytest.raises(DivergedError, match="lr"):
        train_adapter(rows, labels, config=replace(SMALL, lr=1e30))
    with pytest.raises(InputError, match="got 3-d"):
        Adapter(Perceptron(SIZE, 8, SIZE).eval(), SIZE, SIZE, {}, "")(np.zeros((1, 3), np.float32))
    for document, shown in (({"width": 3}, "'width'"), ({"epochs": 0.5}, "0.5"), ({"margin": 4}, "got 4")):
        with pytest.raises(UsageError, match=shown):
            AdapterConfig.from_mapping(document)
    assert AdapterConfig.from_mapping({"lr": 1}).lr == 1


@pytest.mark.parametrize("more", [["--data", "x"], ["--stream"], ["--dry-run"]])
def test_options_that_do_not_go_together(more: list[str], files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["train", "--embeddings", str(files / "E.npy"), "--labels", str(files / "L.txt"), "-o", "a"]
    assert run([*given, *more]) == 2
    assert more[0] in capsys.readouterr().err
    assert run(given[:3]) == 2
    assert "--labels" in capsys.readouterr().err
    assert run(["train", "-o", "a"]) == 2
    assert "--data" in capsys.readouterr().err
