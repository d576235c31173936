"""The face prior that ships, its decoder, and files that are not one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from priors import HEADER, stored_prior
from torch import Tensor

from arcinvert.checkpoint import load_checkpoint, save_checkpoint
from arcinvert.errors import CheckpointError
from arcinvert.faceprior.prior import ATTRIBUTES, FacePrior, default_face_prior, load_face_prior

ROWS = range(0, 7000, 1000)


@pytest.fixture(scope="module")
def prior() -> FacePrior:
    return default_face_prior()


# --- the shipped file


def test_the_shipped_prior_is_whole(prior: FacePrior) -> None:
    assert prior.codes.shape == (len(prior), prior.size)
    assert len(prior) > 5000
    assert len(prior.digest) == 64
    assert not any(parameter.requires_grad for parameter in prior.decoder.parameters())
    assert prior.mean.shape == (3, 112, 112)
    assert 0.2 < float(prior.mean.mean()) < 0.8
    assert default_face_prior() is prior


def test_its_latents_are_whitened(prior: FacePrior) -> None:
    latents = prior.latents(range(len(prior)))
    assert float(latents.mean(0).square().mean().sqrt()) < 0.1
    deviation = latents.std(0)
    assert 0.7 < float(deviation.min()) <= float(deviation.max()) < 1.1


def test_the_decoder_draws_the_face_that_the_generator_drew(prior: FacePrior) -> None:
    """Nearer to it than to the other faces, and than the mean face is."""
    wanted = prior.pictures(ROWS).float() / 255
    drawn = prior.drawn(prior.latents(ROWS)).float() / 255
    error = (drawn[:, None] - wanted[None]).square().mean((2, 3, 4))
    assert error.argmin(1).tolist() == list(range(len(ROWS)))
    mean = (prior.mean.permute(1, 2, 0) - wanted).square().mean((1, 2, 3))
    assert float(error.diagonal().mean()) < 0.4 * float(mean.mean())


def test_a_large_picture_is_the_small_one_with_more_detail(prior: FacePrior) -> None:
    latents = prior.latents(ROWS[:2])
    small, large = prior.render(latents), prior.render(latents, 224)
    assert large.shape == (2, 3, 224, 224)
    reduced = torch.nn.functional.avg_pool2d(large, 2)
    assert 0 < float((reduced - small).abs().mean()) < 0.02


def test_a_moved_face_has_the_attributes_and_looks_so(prior: FacePrior) -> None:
    latents = prior.latents(ROWS)
    before = prior.attributes(latents)
    asked = torch.full_like(before, torch.nan)
    asked[:, 3:] = before[:, 3:] + 0.15
    moved = prior.moved(latents, asked)
    after = prior.attributes(moved)
    torch.testing.assert_close(after[:, 3:], asked[:, 3:], atol=1e-3, rtol=0)
    torch.testing.assert_close(after[:, :3], before[:, :3], atol=1e-3, rtol=0)

    def seen(faces: Tensor) -> Tensor:
        gray = faces[..., 40:100, 28:84].mean(1)
        return torch.stack([(gray[..., 28:] - gray[..., :28]).mean((1, 2)), gray.mean((1, 2))], 1)

    assert bool((seen(prior.render(moved)) - seen(prior.render(latents)) > 0.03).all())


def test_a_turned_face_turns_its_nose(prior: FacePrior) -> None:
    """Left and right of the mean face are about mirror images, and each moves features to its side."""
    asked = torch.full((2, len(ATTRIBUTES)), torch.nan)
    asked[:, 0] = torch.tensor([-0.3, 0.3])
    left, right = prior.render(prior.moved(torch.zeros(2, prior.size), asked))
    apart = (left - right).square().mean()
    assert float((left - right.flip(-1)).square().mean()) < 0.5 * float(apart)
    assert float(apart) > 1e-3


# --- what a prior does


def test_the_likeliest_move_is_the_shortest_under_the_spread(small_prior: FacePrior) -> None:
    latents, spread = small_prior.latents(range(3)), torch.linspace(0.2, 1.2, small_prior.size)
    asked = torch.tensor([[0.2, 0.5, 0.9, 0.1, 0.4]]).expand(3, -1)
    moved = small_prior.moved(latents, asked, spread)
    missing = (asked - small_prior.attributes(latents)).double()
    shortest = missing @ torch.linalg.pinv((small_prior.attribute_weight * spread).double()).T * spread.double()
    torch.testing.assert_close((moved - latents).double(), shortest, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(small_prior.moved(latents, small_prior.attributes(latents)), latents)


def test_portraits_begin_with_the_picture_and_differ(small_prior: FacePrior) -> None:
    found = small_prior.portraits([3, 9], 3, seed=1)
    assert found.shape == (2, 3, 112, 112, 3)
    assert torch.equal(found[:, 0], small_prior.pictures([3, 9]))
    assert not torch.equal(found[:, 1], found[:, 2])
    assert torch.equal(found, small_prior.portraits([3, 9], 3, seed=1))
    assert not torch.equal(found[:, 1], small_prior.portraits([3, 9], 3, seed=2)[:, 1])


def test_the_first_faces_are_the_same_faces(small_prior: FacePrior) -> None:
    few = small_prior.first(5)
    assert len(few) == 5
    assert torch.equal(few.pictures([4]), small_prior.pictures([4]))
    assert torch.equal(few.latents([4]), small_prior.latents([4]))


def test_early_and_late_are_disjoint_and_of_one_length(small_prior: FacePrior, prior: FacePrior) -> None:
    for each in (small_prior, prior):
        rows = range(each.size)
        early, late = rows[each.early], rows[each.late]
        assert (early[0], late[-1], len(early)) == (0, each.size - 1, len(late))
        assert early[-1] < late[0]


def test_rows_of_a_batch_are_independent_and_differentiable(small_prior: FacePrior) -> None:
    latents = small_prior.latents(range(3)).requires_grad_(True)
    faces = small_prior.render(latents)
    torch.testing.assert_close(faces[1:2], small_prior.render(latents[1:2]), atol=1e-5, rtol=1e-4)
    faces[1].sum().backward()
    assert latents.grad is not None
    assert bool((latents.grad[1] != 0).all())
    assert not latents.grad[[0, 2]].any()


def test_to_another_device_keeps_everything(small_prior: FacePrior) -> None:
    moved = small_prior.to("cpu")
    assert moved.digest == small_prior.digest
    assert moved.decoder is not small_prior.decoder
    assert torch.equal(moved.render(moved.latents([1])), small_prior.render(small_prior.latents([1])))


# --- files


def test_a_small_prior_comes_back(tmp_path: Path) -> None:
    digest = save_checkpoint(tmp_path / "p", HEADER, stored_prior(6))
    prior = load_face_prior(tmp_path / "p")
    assert (prior.digest, prior.size, len(prior)) == (digest, 24, 6)
    drawn = prior.drawn(prior.latents(range(6))).float()
    assert float((drawn - prior.pictures(range(6)).float()).abs().mean()) < 3  # what WebP changes


@pytest.mark.parametrize("missing", [key for key in stored_prior(1) if not key.startswith("network.stages")])
def test_an_incomplete_prior_is_refused(tmp_path: Path, missing: str) -> None:
    save_checkpoint(tmp_path / "p", HEADER, {key: value for key, value in stored_prior(2).items() if key != missing})
    with pytest.raises(CheckpointError):
        load_face_prior(tmp_path / "p")


@pytest.mark.parametrize(
    "wrong",
    [
        {"codes": torch.zeros(6, dtype=torch.int8)},
        {"codes": torch.zeros(6, 23, dtype=torch.int8)},
        {"code_scale": torch.zeros(25)},
        {"files": torch.zeros(9)},
        {"files": torch.zeros(9, dtype=torch.uint8)},
        {"offsets": torch.zeros(7, dtype=torch.int64)},
        {"offsets": torch.arange(6)},
        {"attributes.weight": torch.zeros(3, 24)},
        {"attributes.bias": torch.zeros(3)},
        {"attributes.spread": torch.zeros(5, 1)},
        {"network.start.bias": torch.zeros(3)},
    ],
    ids=lambda wrong: " ".join(f"{key} {tuple(value.shape)}" for key, value in wrong.items()),
)
def test_parts_that_do_not_fit_each_other_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    save_checkpoint(tmp_path / "p", HEADER, stored_prior(6) | wrong)
    with pytest.raises(CheckpointError, match="fit"):
        load_face_prior(tmp_path / "p")


@pytest.mark.parametrize(
    "decoder", [None, {}, {**HEADER["decoder"], "widths": 7}, {**HEADER["decoder"], "latent": "x"}]
)
def test_a_header_that_describes_no_decoder_is_refused(tmp_path: Path, decoder: object) -> None:
    save_checkpoint(tmp_path / "p", {**HEADER, "decoder": decoder}, stored_prior(2))
    with pytest.raises(CheckpointError, match="lacks or garbles"):
        load_face_prior(tmp_path / "p")


def test_another_kind_of_checkpoint_is_refused(tiny_checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a face prior"):
        load_face_prior(tiny_checkpoint)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "p", HEADER, stored_prior(2))
    assert load_checkpoint(tmp_path / "p").header["kind"] == "face prior"
    (tmp_path / "p").write_bytes((tmp_path / "p").read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="not a whole"):
        load_face_prior(tmp_path / "p")
    with pytest.raises(CheckpointError, match="found none"):
        load_face_prior(tmp_path / "nothing")
