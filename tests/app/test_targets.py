"""Targets: photos, rows of files and of stores."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from arcinvert.app import targets
from arcinvert.app.targets import EXAMPLE, read_target
from arcinvert.errors import InputError
from arcinvert.recognizer import Recognizer

SIZE = 16


def test_an_aligned_crop_is_used_as_it_is(tiny_faces: Path, tiny_recognizer: Recognizer) -> None:
    path = tiny_faces / "id0" / "0.png"
    found = read_target(path, tiny_recognizer)
    picture = np.array(Image.open(path))
    assert found.crop is not None
    assert np.array_equal(found.crop.numpy(), picture)
    shown = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    assert torch.allclose(found.embedding, tiny_recognizer.trace(shown).embedding[0].detach(), atol=1e-6)


def test_the_largest_face_of_a_photo(tiny_recognizer: Recognizer) -> None:
    found = read_target(EXAMPLE, tiny_recognizer)
    assert found.crop is not None
    assert found.crop.shape == (112, 112, 3)
    assert "One face" in found.message


def test_a_row_of_a_file(tmp_path: Path, tiny_recognizer: Recognizer) -> None:
    rows = np.random.default_rng(0).normal(size=(3, SIZE)).astype(np.float32)
    np.save(tmp_path / "t.npy", rows)
    found = read_target(tmp_path / "t.npy", tiny_recognizer, 2)
    assert found.crop is None
    assert np.allclose(found.embedding, rows[2] / np.linalg.norm(rows[2]), atol=1e-6)


def test_a_row_of_a_store(tmp_path: Path, tiny_recognizer: Recognizer) -> None:
    rows = np.random.default_rng(1).normal(size=(4, SIZE))
    lines = ["person," + ",".join(f"embedding_{i}" for i in range(SIZE))]
    lines += [f"p{n}," + ",".join(f"{value:.6f}" for value in row) for n, row in enumerate(rows)]
    (tmp_path / "s.csv").write_text("\n".join(lines) + "\n")
    found = read_target(tmp_path / "s.csv", tiny_recognizer, 3)
    assert np.allclose(found.embedding, rows[3] / np.linalg.norm(rows[3]), atol=1e-4)


def test_bad_input_gives_one_line(tmp_path: Path, tiny_recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "wide.npy", np.ones((2, 128), np.float32))
    np.save(tmp_path / "good.npy", np.ones((2, SIZE), np.float32))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    Image.new("RGB", (300, 200), "gray").save(tmp_path / "empty.png")
    (tmp_path / "what.bin").write_bytes(b"\x80\x04hello")
    for name, row, text in (
        ("wide.npy", 0, "128-d"),
        ("good.npy", 2, "row from 0 to 1, got 2"),
        ("broken.png", 0, "expected an image"),
        ("empty.png", 0, "no face"),
        ("what.bin", 0, "pickle"),
        ("gone.png", 0, "found none"),
    ):
        with pytest.raises(InputError, match=text) as error:
            read_target(tmp_path / name, tiny_recognizer, row)
        assert "\n" not in str(error.value)
    monkeypatch.setattr(targets, "MAX_FILE_BYTES", 100)
    with pytest.raises(InputError, match="at most"):
        read_target(tmp_path / "wide.npy", tiny_recognizer)
