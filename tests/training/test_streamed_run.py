"""Images read at every step against images held in memory."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from runs import CPU, TINY, KilledError, assert_same_tensors, kill_at

from arcinvert.errors import InputError
from arcinvert.training.data.batches import Batches
from arcinvert.training.data.containers import convert_images, list_images
from arcinvert.training.data.faces import open_faces
from arcinvert.training.data.streaming import StreamedImages, stream_faces
from arcinvert.training.trainer import train


@pytest.mark.parametrize("kind", ["folder", "rec", "shards"])
@pytest.mark.parametrize("clean", [False, True], ids=["all", "clean list"])
def test_the_images_are_those_held_in_memory(tiny_faces: Path, tmp_path: Path, kind: str, clean: bool) -> None:
    source = {"folder": tiny_faces, "rec": tmp_path / "faces.rec", "shards": tmp_path / "shards"}[kind]
    if kind != "folder":
        convert_images(list_images(tiny_faces), source, per_shard=7 if kind == "shards" else None)
    images = list_images(source)
    names = images.identities[:4]
    kept = {entry.file for entry in images.of(names).entries[::2]} if clean else None
    held, stored = open_faces(images, names, keep=kept), stream_faces(images, names, keep=kept)
    assert (stored.files, stored.identities, stored.digest) == (held.files, held.identities, held.digest)
    assert torch.equal(stored.labels, held.labels)
    rows = torch.randperm(len(held))
    assert torch.equal(stored.images[rows], held.images[rows])
    assert torch.equal(stored.images[3:9], held.images[3:9])
    assert stored.images[rows[:0]].shape == (0, 112, 112, 3)
    assert len(stored.images) == len(held.images)


def test_batches_made_ahead_are_the_same_in_any_order(tiny_faces: Path) -> None:
    images = list_images(tiny_faces)
    held, stored = open_faces(images), stream_faces(images, images.identities)
    assert isinstance(stored.images, StreamedImages)
    one, other = (Batches(faces, TINY, CPU, torch.contiguous_format) for faces in (held, stored))
    for step in (0, 1, 2, 5, 6, 3, 7):
        for first, second in zip(one.at(step), other.at(step), strict=True):
            assert torch.equal(first, second)


def test_a_run_begun_in_memory_resumes_from_disk(tiny_faces: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "net"
    train(tiny_faces, whole, config=TINY)
    with pytest.raises(KilledError):
        train(tiny_faces, out, config=TINY, save_every=0, progress=kill_at(4))
    train(tiny_faces, out, config=TINY, stream=True)
    assert_same_tensors(out, whole)


def test_a_file_that_is_no_image_is_left_out(tiny_faces: Path, tmp_path: Path) -> None:
    source = tmp_path / "faces"
    shutil.copytree(tiny_faces, source)
    (source / "id1" / "2.png").write_bytes((source / "id1" / "2.png").read_bytes()[:500])
    settings = replace(TINY, epochs=1)
    headers = [train(source, tmp_path / f"{s}.safetensors", config=settings, stream=s) for s in (True, False)]
    assert headers[0]["data"] == headers[1]["data"]
    assert headers[0]["data"]["skipped"] == 1
    with pytest.raises(InputError, match=r"id1/2\.png"):
        train(source, tmp_path / "net", config=settings, stream=True, strict=True)
    assert not (tmp_path / "net").exists()
