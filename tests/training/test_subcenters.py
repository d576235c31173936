import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import runs
import torch
from torch.nn.functional import normalize

from arcinvert.backbones import build_backbone
from arcinvert.checkpoint import load_checkpoint, save_checkpoint
from arcinvert.errors import CheckpointError, InputError
from arcinvert.recognizer import Recognizer
from arcinvert.training.data.clean_list import permute_labels
from arcinvert.training.data.containers import convert_images, list_images
from arcinvert.training.data.faces import load_faces, to_float
from arcinvert.training.purify import purify
from arcinvert.training.subcenters import (
    SubcenterCosines,
    dominant_checkpoint,
    load_subcenters,
    subcenter_cosines,
    training_images,
)
from arcinvert.training.trainer import train

TINY = replace(runs.TINY, subcenters=3, epochs=1)


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("opened",)


@pytest.fixture(scope="module")
def state(tiny_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state that a training with three sub-centers left. Do not write to it."""
    out = tmp_path_factory.mktemp("subcenters") / "net.safetensors"
    train(tiny_faces, out, config=TINY)
    return out.with_name("net.safetensors.state")


def cosines_of(path: Path, faces: Path, **settings: Any) -> SubcenterCosines:
    stored = load_subcenters(path)
    return subcenter_cosines(stored, training_images(stored, list_images(faces)), **settings)


@pytest.fixture(scope="module")
def seen(state: Path, tiny_faces: Path) -> SubcenterCosines:
    return cosines_of(state, tiny_faces, batch_size=7)


def test_cosines_image_by_image(state: Path, seen: SubcenterCosines, tiny_faces: Path) -> None:
    """The network built from the state by hand, with one image at a time."""
    left = torch.load(state, weights_only=True)
    network = build_backbone("iresnet18", width=0.05, embedding_size=16)
    network.load_state_dict(left["network"])
    network.eval()
    faces = load_faces(tiny_faces, ["id0", "id1", "id2", "id3"])
    assert seen.files == faces.files
    assert seen.identities == faces.identities
    assert torch.equal(seen.labels, faces.labels)
    assert torch.equal(seen.true, faces.labels)
    for row in range(0, 24, 5):
        with torch.no_grad():
            shown = normalize(network(to_float(faces.images[row : row + 1]) * 2 - 1))[0]
        for k, center in enumerate(left["head"]["centers"][faces.labels[row]]):
            assert float(seen.cosines[row, k]) == pytest.approx(float(shown @ center / center.norm()), abs=1e-5)


def test_the_batch_size_changes_nothing(state: Path, seen: SubcenterCosines, tiny_faces: Path) -> None:
    reported: list[tuple[int, int]] = []
    again = cosines_of(
        state, tiny_faces, batch_size=10, progress=lambda done, total, text: reported.append((done, total))
    )
    assert torch.allclose(again.cosines, seen.cosines, atol=1e-5)
    assert reported == [(10, 24), (20, 24), (24, 24)]


def test_a_container_gives_the_same_as_the_folder(
    state: Path, seen: SubcenterCosines, tiny_faces: Path, tmp_path: Path
) -> None:
    convert_images(list_images(tiny_faces), tmp_path / "shards", per_shard=10)
    assert torch.equal(cosines_of(state, tmp_path / "shards", batch_size=7).cosines, seen.cosines)


def test_labels_that_the_training_made_wrong(tiny_faces: Path, tmp_path: Path) -> None:
    config = replace(TINY, label_noise=0.5, seed=3)
    train(tiny_faces, tmp_path / "net.safetensors", config=config)
    found = cosines_of(tmp_path / "net.safetensors.state", tiny_faces)
    noisy, wrong = permute_labels(found.true, 0.5, seed=3)
    assert wrong.sum() == 12
    assert torch.equal(found.labels, noisy)


def test_a_training_with_a_clean_list(tiny_faces: Path, tmp_path: Path) -> None:
    clean = {f"id{identity}/{picture}.png" for identity in (0, 2, 3) for picture in (0, 1, 4)}  # nothing of id1
    train(tiny_faces, tmp_path / "net.safetensors", config=TINY, keep=clean)
    stored = load_subcenters(tmp_path / "net.safetensors.state")
    found = subcenter_cosines(stored, training_images(stored, list_images(tiny_faces), clean))
    assert set(found.files) == clean
    assert found.identities == ("id0", "id2", "id3")
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_other_images_are_refused(state: Path, tiny_faces: Path, tmp_path: Path) -> None:
    stored = load_subcenters(state)
    other = tmp_path / "faces"
    shutil.copytree(tiny_faces, other)
    shutil.copy(other / "id0" / "1.png", other / "id0" / "2.png")
    with pytest.raises(InputError, match="are not those of the training"):
        cosines_of(state, other)
    shutil.rmtree(other / "id0")
    with pytest.raises(InputError, match=r"expected the 4 identities of the training in .*, got 3"):
        cosines_of(state, other)
    clean = {entry.file for entry in list_images(tiny_faces).entries} - {"id1/1.png"}
    with pytest.raises(InputError, match="are not those of the training"):
        subcenter_cosines(stored, training_images(stored, list_images(tiny_faces), clean))


def test_a_checkpoint_with_the_dominant_sub_centers(state: Path, seen: SubcenterCosines, tmp_path: Path) -> None:
    stored = load_subcenters(state)
    found = purify(seen.cosines, seen.labels, 4)
    save_checkpoint(tmp_path / "net.safetensors", *dominant_checkpoint(stored, torch.from_numpy(found.dominant)))
    written = load_checkpoint(tmp_path / "net.safetensors")
    centers = normalize(stored.tensors["head.centers"], dim=-1)
    expected = torch.stack([centers[label, k] for label, k in enumerate(found.dominant)])
    assert written.tensors["head.centers"].shape == (4, 16)
    assert torch.allclose(written.tensors["head.centers"].float(), expected, atol=1e-3)
    images = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    mine = Recognizer.load(tmp_path / "net.safetensors").embed(images)
    assert torch.allclose(mine, Recognizer.from_checkpoint(stored, "state").embed(images), atol=5e-2)
    with pytest.raises(CheckpointError, match=r"expected sub-centers .*got \(4, 16\)"):
        load_subcenters(tmp_path / "net.safetensors")


def test_a_checkpoint_with_all_sub_centers(
    state: Path, seen: SubcenterCosines, tiny_faces: Path, tmp_path: Path
) -> None:
    stored = load_subcenters(state)
    save_checkpoint(tmp_path / "all.safetensors", dict(stored.header), dict(stored.tensors))
    again = cosines_of(tmp_path / "all.safetensors", tiny_faces, batch_size=7)
    assert torch.allclose(again.cosines, seen.cosines, atol=1e-6)
    save_checkpoint(tmp_path / "bare.safetensors", {**stored.header, "training": None}, dict(stored.tensors))
    with pytest.raises(CheckpointError, match="does not hold the settings of its training"):
        cosines_of(tmp_path / "bare.safetensors", tiny_faces)


def test_files_without_sub_centers_are_refused(state: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"expected sub-centers .*got none"):
        load_subcenters(tiny_checkpoint)
    with pytest.raises(CheckpointError, match="found none"):
        load_subcenters(tmp_path / "nothing")
    left = torch.load(state, weights_only=True)
    torch.save({"network": left["network"]}, tmp_path / "other.state")
    with pytest.raises(CheckpointError, match="is not a training state"):
        load_subcenters(tmp_path / "other.state")
    centers = left["head"]["centers"]
    left["head"] = {"centers": torch.full_like(centers, torch.nan)}
    torch.save(left, tmp_path / "nan.state")
    with pytest.raises(CheckpointError, match="not finite"):
        load_subcenters(tmp_path / "nan.state")
    left["head"] = {"centers": centers[:, 0].clone()}
    torch.save(left, tmp_path / "single.state")
    with pytest.raises(CheckpointError, match=r"got \(4, 16\).*subcenters = 3"):
        load_subcenters(tmp_path / "single.state")
    torn = bytearray(state.read_bytes())
    torn[len(torn) // 2] ^= 255
    (tmp_path / "torn.state").write_bytes(torn)
    with pytest.raises(CheckpointError, match=r"torn\.state"):
        load_subcenters(tmp_path / "torn.state")
    torch.save({"config": Hostile()}, tmp_path / "hostile.state")
    with pytest.raises(CheckpointError, match="holds more than tensors"):
        load_subcenters(tmp_path / "hostile.state")
    with zipfile.ZipFile(tmp_path / "any.zip", "w") as archive:
        archive.writestr("a.txt", "no state")
    with pytest.raises(CheckpointError, match=r"any\.zip"):
        load_subcenters(tmp_path / "any.zip")
