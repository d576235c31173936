"""Pictures read at every step against pictures held in memory."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from arcinvert.checkpoint import load_checkpoint
from arcinvert.errors import InputError
from arcinvert.training.config import TrainConfig
from arcinvert.training.data.batches import Batches
from arcinvert.training.data.containers import convert_images, list_images
from arcinvert.training.data.faces import open_faces
from arcinvert.training.data.streaming import StreamedImages, stream_faces
from arcinvert.training.trainer import train

CPU = torch.device("cpu")
TINY = TrainConfig(width=0.05, embedding_size=16, scale=16.0, epochs=2, batch_size=8, lr=0.05, held_out=2)


@pytest.mark.parametrize("kind", ["folder", "rec", "shards"])
@pytest.mark.parametrize("clean", [False, True], ids=["all", "clean list"])
def test_they_are_the_faces_that_memory_would_hold(tiny_faces: Path, tmp_path: Path, kind: str, clean: bool) -> None:
    source = {"folder": tiny_faces, "rec": tmp_path / "faces.rec", "shards": tmp_path / "shards"}[kind]
    if kind != "folder":
        convert_images(list_images(tiny_faces), source, per_shard=7 if kind == "shards" else None)
    pictures = list_images(source)
    names = pictures.identities[:4]
    kept = {entry.file for entry in pictures.of(names).entries[::2]} if clean else None
    held, stored = open_faces(pictures, names, keep=kept), stream_faces(pictures, names, keep=kept)
    assert (stored.files, stored.identities, stored.digest) == (held.files, held.identities, held.digest)
    assert torch.equal(stored.labels, held.labels)
    rows = torch.randperm(len(held))
    assert torch.equal(stored.images[rows], held.images[rows])
    assert torch.equal(stored.images[3:9], held.images[3:9])
    assert stored.images[rows[:0]].shape == (0, 112, 112, 3)
    assert len(stored.images) == len(held.images)


def test_batches_made_ahead_are_the_same_in_any_order(tiny_faces: Path) -> None:
    pictures = list_images(tiny_faces)
    held, stored = open_faces(pictures), stream_faces(pictures, pictures.identities)
    assert isinstance(stored.images, StreamedImages)
    one, other = (Batches(faces, TINY, CPU, torch.contiguous_format) for faces in (held, stored))
    for step in (0, 1, 2, 5, 6, 3, 7):
        for first, second in zip(one.at(step), other.at(step), strict=True):
            assert torch.equal(first, second)


def test_a_run_can_go_on_from_disk_that_began_in_memory(tiny_faces: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "net"
    train(tiny_faces, whole, config=TINY)

    def stop(done: int, total: int, text: str) -> None:
        if done == 4:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(tiny_faces, out, config=TINY, save_every=0, progress=stop)
    train(tiny_faces, out, config=TINY, stream=True)
    expected, found = load_checkpoint(whole).tensors, load_checkpoint(out).tensors
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_what_is_no_picture_is_named_when_it_is_asked_for(tiny_faces: Path, tmp_path: Path) -> None:
    source = tmp_path / "faces"
    shutil.copytree(tiny_faces, source)
    (source / "id1" / "2.png").write_bytes(b"not a picture")
    with pytest.raises(InputError, match=r"id1/2\.png"):
        train(source, tmp_path / "net", config=replace(TINY, epochs=1), stream=True)
