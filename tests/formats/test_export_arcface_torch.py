from pathlib import Path

import pytest
import torch
from networks import equal, loaded, output, unlike_new
from torch import nn

from arcinvert.backbones import build_backbone
from arcinvert.errors import EnvironmentProblem, InputError
from arcinvert.formats.export_arcface_torch import write_arcface_torch
from arcinvert.formats.torch_file import read
from arcinvert.preprocessing import Preprocessing
from arcinvert.recognizer import Recognizer


@pytest.fixture(scope="module")
def arc() -> nn.Module:
    return unlike_new(build_backbone("iresnet18", width=0.125, embedding_size=24))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("iresnet18", {"width": 0.125}),
        ("iresnet50", {"width": 0.03}),
        ("mobilefacenet", {"width": 0.25}),
        ("mobilefacenet", {"width": 1, "blocks": [2, 1, 1, 1]}),
    ],
)
def test_round_trip(tmp_path: Path, name: str, settings: dict[str, object]) -> None:
    network = unlike_new(build_backbone(name, embedding_size=12, **settings))
    write_arcface_torch(tmp_path / "backbone.pth", network)
    plain = torch.load(tmp_path / "backbone.pth", weights_only=True)
    assert type(plain) is dict
    assert list(plain) == list(network.state_dict())
    assert equal(plain, dict(network.state_dict()))
    assert all(value.is_contiguous() and not value.requires_grad for value in plain.values())
    checkpoint = read(tmp_path / "backbone.pth")
    assert checkpoint.header["source"]["format"] == "arcface_torch"
    assert torch.equal(output(loaded(checkpoint)), output(network))


def test_a_folded_network_gets_batch_norms_back(tmp_path: Path) -> None:
    folded = unlike_new(build_backbone("iresnet18", width=0.125, embedding_size=12, folded=True))
    write_arcface_torch(tmp_path / "a.pth", folded)
    plain = build_backbone("iresnet18", width=0.125, embedding_size=12)
    state = torch.load(tmp_path / "a.pth", weights_only=True)
    assert list(state) == list(plain.state_dict())
    plain.load_state_dict(state)
    torch.testing.assert_close(output(plain.eval()), output(folded), rtol=1e-4, atol=1e-5)
    assert torch.equal(plain.layer2[0].bn3.bias, folded.layer2[0].conv2.bias)
    assert torch.equal(plain.layer2[0].downsample[1].bias, folded.layer2[0].downsample[0].bias)
    assert read(tmp_path / "a.pth").header["backbone_settings"] == {"width": 0.125, "embedding_size": 12}


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("eps", [2e-5, 1e-3, 1e-6])
def test_another_eps_goes_into_the_variance(tmp_path: Path, eps: float, folded: bool) -> None:
    network = unlike_new(build_backbone("iresnet18", width=0.125, embedding_size=12, eps=eps, folded=folded))
    for key, value in network.state_dict().items():
        if key.endswith("running_var"):
            value.mul_(0.01)  # so that eps counts
    write_arcface_torch(tmp_path / "a.pth", network)
    checkpoint = read(tmp_path / "a.pth")
    assert "eps" not in checkpoint.header["backbone_settings"]
    expected = output(network)
    torch.testing.assert_close(output(loaded(checkpoint)), expected, rtol=1e-4, atol=1e-4 * float(expected.std()))
    if eps == 1e-3:
        forgotten = build_backbone("iresnet18", width=0.125, embedding_size=12, folded=folded).eval()
        forgotten.load_state_dict(network.state_dict())
        assert not torch.allclose(output(forgotten), expected, rtol=1e-2)


def test_a_variance_that_cannot_carry_a_smaller_eps(tmp_path: Path) -> None:
    network = build_backbone("iresnet18", width=0.05, embedding_size=4, eps=1e-6)
    network.layer2[1].bn3.running_var[1] = 0
    with pytest.raises(InputError, match=r"a variance of layer2\.1\.bn3 is too small .* eps 1e-05, not 1e-06"):
        write_arcface_torch(tmp_path / "a.pth", network)
    assert not list(tmp_path.iterdir())


def test_what_arcface_torch_has_not(tmp_path: Path) -> None:
    pool = build_backbone("iresnet18", width=0.05, embedding_size=4, shortcut="pool")
    with pytest.raises(InputError, match="expected shortcut='conv'"):
        write_arcface_torch(tmp_path / "a.pth", pool)
    with pytest.raises(InputError, match=r"expected an IResNet or a MobileFaceNet .* got Linear"):
        write_arcface_torch(tmp_path / "a.pth", nn.Linear(2, 2))
    frozen = build_backbone("iresnet18", width=0.05, embedding_size=4)
    Recognizer(frozen, Preprocessing(), embedding_size=4)
    with pytest.raises(InputError, match="no Recognizer has frozen, got FrozenBatchNorm"):
        write_arcface_torch(tmp_path / "a.pth", frozen)
    assert not list(tmp_path.iterdir())


def test_the_network_is_left_alone_and_the_old_file_replaced(tmp_path: Path) -> None:
    network = unlike_new(build_backbone("iresnet18", width=0.05, embedding_size=4, eps=2e-5))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    path = tmp_path / "new" / "a.pth"
    for _ in range(2):
        write_arcface_torch(path, network)
    assert equal(before, dict(network.state_dict()))
    assert [file.name for file in path.parent.iterdir()] == ["a.pth"]


def test_over_the_file_it_was_read_from(tmp_path: Path, arc: nn.Module) -> None:
    """What was read is mapped from the old file, which must stay whole."""
    write_arcface_torch(tmp_path / "a.pth", arc)
    checkpoint = read(tmp_path / "a.pth")
    other = unlike_new(build_backbone("iresnet18", width=0.125, embedding_size=24), seed=5)
    write_arcface_torch(tmp_path / "a.pth", other)
    assert torch.equal(output(loaded(checkpoint)), output(arc))
    assert torch.equal(output(loaded(read(tmp_path / "a.pth"))), output(other))


def test_a_folder_in_the_way(tmp_path: Path, arc: nn.Module) -> None:
    (tmp_path / "a.pth").mkdir()
    with pytest.raises(EnvironmentProblem, match="cannot write"):
        write_arcface_torch(tmp_path / "a.pth", arc)
