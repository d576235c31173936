"""Aligned crops and their embeddings."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arcinvert.errors import InputError, UsageError
from arcinvert.evaluation.embedding import embed_files, embed_folder, embed_images
from arcinvert.evaluation.readers.crops import files_digest, identity_files, read_crop
from arcinvert.recognizer import Recognizer
from arcinvert.training.data.faces import identity_folders, load_faces


def test_a_folder_of_identities(tiny_recognizer: Recognizer, tiny_faces: Path) -> None:
    found = embed_folder(tiny_recognizer, tiny_faces, batch_size=7)
    assert [path.relative_to(tiny_faces).as_posix() for path in found.files[:2]] == ["id0/0.png", "id0/1.png"]
    assert found.labels.tolist() == [person for person in range(6) for _ in range(6)]
    faces = load_faces(tiny_faces, identity_folders(tiny_faces))
    assert found.digest == faces.digest
    expected = tiny_recognizer.embed(faces.images.permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(found.rows, expected, atol=1e-5)
    assert found.rows.dtype == np.float32


def test_the_flip_test(tiny_recognizer: Recognizer, tiny_faces: Path) -> None:
    files = identity_files(tiny_faces)[0][:5]
    images = np.stack([np.asarray(Image.open(path)) for path in files])
    seen: list[int] = []
    plain = embed_images(tiny_recognizer, images, batch_size=2, progress=lambda done, *_: seen.append(done))
    mirror = embed_images(tiny_recognizer, images[:, :, ::-1])
    assert seen == [2, 4, 5]
    both = embed_files(tiny_recognizer, files, flip="concatenate")
    np.testing.assert_allclose(both, np.hstack([plain, mirror]) / np.sqrt(2), atol=1e-5)
    average = embed_files(tiny_recognizer, files, flip="average")
    for row, one, other in zip(average, plain, mirror, strict=True):
        np.testing.assert_allclose(row, (one + other) / np.linalg.norm(one + other), atol=1e-5)
    # A face and its mirror image are one under the average.
    turned = embed_images(tiny_recognizer, np.ascontiguousarray(images[:, :, ::-1]), flip="average")
    np.testing.assert_allclose(turned, average, atol=1e-5)


def test_nothing_to_embed(tiny_recognizer: Recognizer) -> None:
    size = tiny_recognizer.embedding_size
    assert embed_files(tiny_recognizer, [], flip="concatenate").shape == (0, 2 * size)


def test_what_cannot_be_embedded(tiny_recognizer: Recognizer, tmp_path: Path) -> None:
    images = np.zeros((1, 112, 112, 3), np.uint8)
    with pytest.raises(UsageError, match="none, average, concatenate"):
        embed_images(tiny_recognizer, images, flip="both")
    with pytest.raises(UsageError, match="batch size"):
        embed_images(tiny_recognizer, images, batch_size=0)
    for wrong in (images.astype(np.float32), images[:, :96], images[0]):
        with pytest.raises(InputError, match="expected images"):
            embed_images(tiny_recognizer, wrong)
    Image.new("RGB", (96, 96)).save(tmp_path / "small.png")
    with pytest.raises(InputError, match="got 96x96"):
        read_crop(tmp_path / "small.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:500])
    with pytest.raises(InputError, match=r"cut\.png"):
        embed_files(tiny_recognizer, [tmp_path / "cut.png"])


def test_folders_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a folder of identities"):
        identity_files(tmp_path / "none")
    with pytest.raises(InputError, match="one sub-folder per identity"):
        identity_files(tmp_path)
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann" / "notes.txt").touch()
    with pytest.raises(InputError, match=r"expected images .*ann/notes.txt': empty"):
        identity_files(tmp_path)


def test_the_digest_sees_names_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    expected = hashlib.sha256(b"a\0" + hashlib.sha256(b"1").digest()).hexdigest()
    assert files_digest(tmp_path, [tmp_path / "a"]) == expected
