"""Which embedding belongs to which picture, and the map that is fitted to them."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from arcinvert.audit import open_store
from arcinvert.audit.black_box.mapped_store import MappedStore
from arcinvert.audit.black_box.names import rows_of_pictures
from arcinvert.audit.black_box.pairs import fit_pairs, read_pairs
from arcinvert.audit.black_box.scores import read_scores
from arcinvert.errors import InputError
from arcinvert.mapping.linear_map import LinearMap
from arcinvert.recognizer import Recognizer

TURN = np.linalg.qr(np.random.default_rng(0).normal(size=(16, 16)))[0].astype(np.float32)
"""What the unknown system does beside the tiny network."""


@pytest.fixture(scope="module")
def shown(tiny_faces: Path) -> list[str]:
    return [f"id{i}/{n}.png" for i in range(6) for n in range(6)]


@pytest.fixture(scope="module")
def system(tiny_recognizer: Recognizer, tiny_faces: Path, shown: list[str]) -> np.ndarray:
    """The unknown system's embeddings of the pictures, of norm 7."""
    images = torch.stack([torch.from_numpy(np.array(Image.open(tiny_faces / name))) for name in shown])
    return 7 * tiny_recognizer.embed(images.permute(0, 3, 1, 2)).numpy() @ TURN


def archive(folder: Path, rows: np.ndarray, **names: Any) -> str:
    path = folder / "pairs.npz"
    np.savez(path, embeddings=rows, **{key: np.array(value) for key, value in names.items()})
    return str(path)


@pytest.mark.parametrize(
    "named",
    [
        lambda name: name,
        lambda name: f"/home/somebody/faces/{name}",
        lambda name: f"C:\\faces\\{name}".replace("/", "\\"),
        lambda name: name.removesuffix(".png"),
    ],
)
def test_a_row_names_its_picture_in_several_ways(
    named: Any, system: np.ndarray, shown: list[str], tiny_faces: Path, tmp_path: Path
) -> None:
    order = np.random.default_rng(1).permutation(len(shown))
    pairs = read_pairs(archive(tmp_path, system[order], path=[named(shown[i]) for i in order]), tiny_faces)
    assert [path.relative_to(tiny_faces).as_posix() for path in pairs.files] == shown
    np.testing.assert_allclose(7 * pairs.rows, system, atol=1e-5)
    assert pairs.labels.tolist() == [i for i in range(6) for _ in range(6)]
    assert pairs.skipped == ()


def test_a_column_of_pictures_goes_before_one_of_people(
    system: np.ndarray, shown: list[str], tiny_faces: Path, tmp_path: Path
) -> None:
    with open(tmp_path / "pairs.csv", "w", newline="") as file:
        rows = [["person", "path", "embedding"], *(["x", n, r.tolist()] for n, r in zip(shown, system, strict=True))]
        csv.writer(file).writerows(rows)
    pairs = read_pairs(str(tmp_path / "pairs.csv"), tiny_faces)
    np.testing.assert_allclose(7 * pairs.rows, system, atol=1e-5)


def test_rows_without_names_stand_in_order_or_are_refused(system: np.ndarray, tiny_faces: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "pairs.npy", system)
    np.testing.assert_allclose(7 * read_pairs(str(tmp_path / "pairs.npy"), tiny_faces).rows, system, atol=1e-5)
    np.save(tmp_path / "pairs.npy", system[1:])
    with pytest.raises(InputError, match=r"36 pictures .* has 35 rows without names"):
        read_pairs(str(tmp_path / "pairs.npy"), tiny_faces)


def test_what_cannot_be_paired_is_left_out_and_named(
    system: np.ndarray, shown: list[str], tiny_faces: Path, tmp_path: Path
) -> None:
    rows, names = system.copy(), list(shown)
    rows[3], rows[4] = np.nan, 0  # no face found
    names[5] = shown[6]  # a picture with two rows, and one with none
    pairs = read_pairs(archive(tmp_path, rows, picture=names), tiny_faces)
    left_out = {Path(file).relative_to(tiny_faces).as_posix(): reason for file, reason in pairs.skipped}
    assert set(left_out) == {shown[n] for n in (3, 4, 5, 6)}
    assert "no face" in left_out[shown[3]]
    assert "none or several" in left_out[shown[6]]
    assert len(pairs.files) == len(pairs.rows) == len(pairs.labels) == 32
    with pytest.raises(InputError, match="'p0', expected such as"):
        read_pairs(archive(tmp_path, rows, picture=[f"p{n}" for n in range(36)]), tiny_faces)
    with pytest.raises(InputError, match="folder of pictures"):
        read_pairs(archive(tmp_path, rows, picture=names), tmp_path / "nowhere")


def test_a_name_that_two_pictures_have_belongs_to_none(system: np.ndarray, tmp_path: Path) -> None:
    store = open_store(archive(tmp_path, system[:2], labels=["0.png", "other.png"]))
    assert rows_of_pictures(store, ["a/0.png", "b/0.png", "c/other.png"], "pictures") == {2: 1}


def test_the_map_finds_the_turn_and_its_header_names_both_sides(
    system: np.ndarray, shown: list[str], tiny_faces: Path, tiny_recognizer: Recognizer, tmp_path: Path
) -> None:
    read = read_pairs(archive(tmp_path, system, picture=shown), tiny_faces)
    mapping, quality, pairs = fit_pairs(read, tiny_recognizer)
    assert quality.cosine > 0.99
    assert (quality.pairs, quality.identities) == (36, 6)
    assert mapping.header["to"] == tiny_recognizer.digest
    assert mapping.header["pairs"] == pairs.digest
    native = system @ TURN.T / 7
    assert float((mapping.apply(system) * native).sum(1).mean()) > 0.99
    again, _, _ = fit_pairs(read, tiny_recognizer)
    np.testing.assert_array_equal(mapping.weight, again.weight)


def test_pictures_without_a_face_are_left_out(
    system: np.ndarray, shown: list[str], tiny_faces: Path, tiny_recognizer: Recognizer, tmp_path: Path
) -> None:
    folder = tmp_path / "faces"
    for name in shown:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((tiny_faces / name).read_bytes())
    Image.new("RGB", (64, 64)).save(folder / shown[2])
    _, quality, pairs = fit_pairs(read_pairs(archive(tmp_path, system, picture=shown), folder), tiny_recognizer)
    assert quality.pairs == 35
    assert [(Path(file).name, reason) for file, reason in pairs.skipped] == [("2.png", "no face found")]


def test_a_mapped_store_has_the_rows_of_the_other_one(system: np.ndarray, tmp_path: Path) -> None:
    rows = system.copy()
    rows[1] = 0
    mapping = LinearMap(TURN[:, :5].copy(), np.zeros(16, "f"), np.zeros(5, "f"))
    store = open_store(archive(tmp_path, rows, labels=[f"p{n}" for n in range(36)]))
    mapped = MappedStore(store, mapping)
    assert (mapped.size, mapped.count, mapped.kind) == (5, 36, "npz")
    blocks = list(mapped.blocks(10))
    assert [len(block.positions) for block in blocks] == [10, 10, 10, 6]
    np.testing.assert_allclose(np.concatenate([b.templates for b in blocks]), mapping.apply(rows), atol=1e-6)
    taken = mapped.take(np.array([0, 1, 35]))
    assert taken.identities == ["p0", "p1", "p35"]
    assert np.isnan(taken.templates).all(1).tolist() == [False, True, False]


def test_scores_belong_to_records(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32)
    rows[2] = 0
    source = archive(tmp_path, rows, path=["00000012.png", "00000003.png", "00000007.png"])
    found, missing = read_scores(source, [3, 7, 12, 20], 16)
    assert missing == 2
    assert found.isneginf().all(1).tolist() == [False, True, False, True]
    np.testing.assert_allclose(found[2], rows[0] / np.linalg.norm(rows[0]), atol=1e-6)
    with pytest.raises(InputError, match=r"17 numbers .* has 16"):
        read_scores(source, [3], 17)
