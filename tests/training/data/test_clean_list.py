from pathlib import Path

import pytest
import torch

from arcinvert.errors import InputError, UsageError
from arcinvert.training.data.clean_list import permute_labels, read_clean_list, write_clean_list
from arcinvert.training.data.faces import load_faces, open_faces

IDS = [f"id{number}" for number in range(6)]


def test_written_and_read(tmp_path: Path) -> None:
    files = ["b/2.jpg", "a/ spaced .jpg", "a/é.jpg", "a/\udcff.jpg"]
    write_clean_list(tmp_path / "clean.txt", files)
    assert read_clean_list(tmp_path / "clean.txt") == set(files)
    (tmp_path / "dos.txt").write_bytes(b"# kept\r\n\r\na/1.jpg\r\nb/2.jpg")
    assert read_clean_list(tmp_path / "dos.txt") == {"a/1.jpg", "b/2.jpg"}


@pytest.mark.parametrize("text", ["", "# x\n", "a/b/c\n", "a\n", "/a\n", "../a\n", "a/\n", "a/1\na/1\n"])
def test_lists_that_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "clean.txt").write_text(text)
    with pytest.raises(InputError, match="clean"):
        read_clean_list(tmp_path / "clean.txt")


def test_only_what_is_kept_is_loaded(tiny_faces: Path) -> None:
    everything = load_faces(tiny_faces, IDS)
    kept = {"id0/1.png", "id2/0.png", "id2/5.png"}
    faces = load_faces(tiny_faces, IDS[:4], kept | {"id5/0.png"})  # of an identity that was not asked for
    assert faces.files == tuple(sorted(kept))
    assert faces.identities == ("id0", "id2")
    assert faces.labels.tolist() == [0, 1, 1]
    assert torch.equal(faces.images, everything.images[[1, 12, 17]])
    assert faces.digest not in {everything.digest, load_faces(tiny_faces, ["id0", "id2"]).digest}
    assert open_faces(tiny_faces, IDS[:4], keep=kept).digest == faces.digest
    assert load_faces(tiny_faces, IDS, everything.files).digest == everything.digest


def test_lists_that_do_not_fit_the_data(tiny_faces: Path) -> None:
    with pytest.raises(InputError, match=r"names 1 images that are not in .*'id0/9.png'"):
        load_faces(tiny_faces, IDS, {"id0/1.png", "id0/9.png"})
    with pytest.raises(InputError, match="keeps no image"):
        load_faces(tiny_faces, IDS[:2], {"id5/0.png"})


@pytest.mark.parametrize("share", [0.0, 0.1, 0.4, 1.0])
def test_exactly_the_share_gets_another_label(share: float) -> None:
    labels = torch.arange(50).repeat_interleave(8)
    noisy, wrong = permute_labels(labels, share, seed=3)
    assert wrong.sum() == round(share * 400)
    assert torch.equal(noisy != labels, wrong)
    assert torch.equal(noisy.bincount(), labels.bincount())
    assert torch.equal(labels, torch.arange(50).repeat_interleave(8))
    again, other = permute_labels(labels, share, seed=3)[0], permute_labels(labels, share, seed=4)[0]
    assert torch.equal(again, noisy)
    assert share == 0 or not torch.equal(other, noisy)


@pytest.mark.parametrize("seed", range(20))
def test_two_identities_trade_their_labels(seed: int) -> None:
    """Nearly every first draw leaves some labels as they were: all must be exchanged."""
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    assert permute_labels(labels, 1.0, seed=seed)[0].tolist() == [1, 1, 1, 0, 0, 0]


def test_wrong_labels_come_from_all_other_identities() -> None:
    noisy, wrong = permute_labels(torch.arange(10).repeat_interleave(200), 0.5, seed=0)
    taken = noisy[:200][wrong[:200]].bincount(minlength=10)
    assert taken[0] == 0
    assert taken[1:].min() >= 3


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), 0.9])
def test_shares_that_cannot_be(share: float) -> None:
    with pytest.raises(UsageError, match=r"share|mislabel"):
        permute_labels(torch.tensor([0] * 9 + [1]), share, seed=0)
