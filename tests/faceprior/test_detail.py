from pathlib import Path

import pytest
import torch

from arcinvert.checkpoint import save_checkpoint
from arcinvert.errors import CheckpointError
from arcinvert.faceprior.detail import ATTRIBUTES, DetailNetwork, load_face_detail
from arcinvert.faceprior.prior import FacePrior, default_face_prior

OTHER = "0" * 64


def parts(size: int = 6) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    tensors = {f"network.{name}": value.half() for name, value in DetailNetwork().state_dict().items()}
    return tensors | {"attributes.weight": torch.randn(3, size).half(), "attributes.bias": torch.randn(3)}


def written(path: Path, tensors: dict[str, torch.Tensor], **header: str) -> Path:
    save_checkpoint(path, {"kind": "face detail", "face_prior": OTHER} | header, tensors)
    return path


def test_a_new_network_adds_nothing() -> None:
    torch.manual_seed(0)
    soft = torch.rand(2, 3, 56, 56)
    detailed = DetailNetwork()(soft)
    assert detailed.shape == (2, 3, 112, 112)
    assert float(detailed.detach().abs().max()) == 0.0


def test_images_of_a_batch_are_independent() -> None:
    detail = default_face_prior().detail
    assert detail is not None
    soft = torch.rand(3, 3, 56, 56, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(detail.network(soft)[1:2], detail.network(soft[1:2]), atol=1e-5, rtol=1e-4)


def test_the_shipped_detail_brings_soft_faces_nearer_to_the_images(test_data: Path, faces_dir: Path) -> None:
    # Of identities that neither the basis nor the network has seen.
    from arcinvert.training.data.faces import load_faces, to_float

    prior = default_face_prior()
    names = sorted(entry.name for entry in faces_dir.iterdir())[-8:]
    images = to_float(load_faces(faces_dir, names).images)
    codes = prior.encode(images)
    soft, detailed = prior.decode(codes), prior.render(codes)

    def edges(images: torch.Tensor) -> float:
        return float((images[..., 1:] - images[..., :-1]).abs().mean())

    face = (slice(None), slice(None), slice(35, 100), slice(25, 88))
    assert float((detailed - images)[face].abs().mean()) < float((soft - images)[face].abs().mean())
    assert 1.15 * edges(soft[face]) < edges(detailed[face]) < edges(images[face])


def test_turned_faces_have_the_yaw_that_their_coefficients_predict(small_prior: FacePrior) -> None:
    prior = default_face_prior()
    codes = prior.coefficients(slice(0, 400))
    predicted = prior.attributes(codes)
    assert predicted.shape == (400, len(ATTRIBUTES))
    # A mirror image turns the other way and smiles as much.
    mirrored = prior.encode(prior.decode(codes).flip(-1))
    turned = prior.attributes(mirrored)
    assert float(torch.corrcoef(torch.stack([turned[:, 0], -predicted[:, 0]]))[0, 1]) > 0.95
    assert float(torch.corrcoef(torch.stack([turned[:, 2], predicted[:, 2]]))[0, 1]) > 0.9
    assert 0.08 < float(predicted[:, 0].std()) < 0.3


def test_read_back(tmp_path: Path) -> None:
    tensors = parts()
    found = load_face_detail(written(tmp_path / "d", tensors), prior_digest=OTHER)
    assert torch.equal(found.attribute_weight, tensors["attributes.weight"].float())
    assert all(not p.requires_grad for p in found.network.parameters())
    moved = found.to("cpu")
    assert moved.digest == found.digest
    soft = torch.rand(1, 3, 56, 56)
    assert torch.equal(moved.network(soft), found.network(soft))


def test_other_files_are_refused(tmp_path: Path, tiny_checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match="is not face detail"):
        load_face_detail(tiny_checkpoint, prior_digest=OTHER)
    with pytest.raises(CheckpointError, match="belongs to another face prior"):
        load_face_detail(written(tmp_path / "d", parts()), prior_digest="1" * 64)
    lacking = {name: value for name, value in parts().items() if name != "attributes.bias"}
    with pytest.raises(CheckpointError, match=r"lacks 'attributes\.bias'"):
        load_face_detail(written(tmp_path / "d", lacking), prior_digest=OTHER)
    with pytest.raises(CheckpointError, match="do not fit each other"):
        load_face_detail(written(tmp_path / "d", parts() | {"attributes.bias": torch.zeros(2)}), prior_digest=OTHER)
    with pytest.raises(CheckpointError, match="does not fit its network"):
        load_face_detail(written(tmp_path / "d", parts() | {"network.place": torch.zeros(2)}), prior_digest=OTHER)
