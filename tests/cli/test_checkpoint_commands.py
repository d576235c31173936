"""``arcinvert checkpoint``: import, info, verify, export, pull, from the command line."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from arcinvert.backbones import build_backbone
from arcinvert.checkpoint import load_checkpoint
from arcinvert.cli import common, run
from arcinvert.recognizer import Recognizer

Y1 = "insightface-mobilefacenet-y1"


@pytest.fixture(autouse=True)
def as_found() -> Iterator[None]:
    """Puts back what a run leaves in this process."""
    yield
    common.state.quiet = common.state.debug = False
    torch.set_flush_denormal(False)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network as arcface_torch keeps it: a plain state dict."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("foreign") / "backbone.pth"
    torch.save(build_backbone("iresnet18", width=0.25, embedding_size=16).state_dict(), path)
    return path


def test_import_keeps_the_network(backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "net.safetensors"
    assert run(["checkpoint", "import", str(backbone), "-o", str(out)]) == 0
    assert "iresnet18, 16-d, 30 BatchNorm layers" in capsys.readouterr().out
    images = torch.rand(2, 3, 112, 112)
    torch.testing.assert_close(Recognizer.load(out).embed(images), Recognizer.load(backbone).embed(images))


def test_import_with_a_contract_that_the_user_knows(
    backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "net.safetensors"
    given = ["--color", "BGR", "--mean", "0", "--std", "255"]
    assert run(["checkpoint", "import", str(backbone), "-o", str(out), *given, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    wanted = {"mean": [0.0] * 3, "std": [255.0] * 3, "color": "BGR", "size": [112, 112], "crop": None}
    assert found["contract"] == wanted
    assert found["digest"] == load_checkpoint(out).digest
    images = torch.rand(2, 3, 112, 112)
    expected = build_backbone("iresnet18", width=0.25, embedding_size=16).eval()
    expected.load_state_dict(torch.load(backbone, weights_only=True))
    with torch.no_grad():
        features = torch.nn.functional.normalize(expected(images.flip(1)))
    torch.testing.assert_close(Recognizer.load(out).embed(images), features, atol=1e-5, rtol=1e-4)


def test_import_of_a_contract_that_cannot_be(
    backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "net.safetensors"
    assert run(["checkpoint", "import", str(backbone), "-o", str(out), "--color", "GBR"]) == 3
    assert "preprocessing" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("net.onnx", b"rubbish", "ONNX"),
        ("net.pdparams", b"\x80\x02}q\x00.", "paddle2onnx"),
        ("net.txt", b"text", "no supported format"),
        ("net.pth", b"PK\x03\x04", "net.pth"),
    ],
)
def test_what_is_no_recognizer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    for command in (["info"], ["verify"]):
        assert run(["checkpoint", *command, str(tmp_path / name)]) == 3
        error = capsys.readouterr().err
        assert says in error
        assert error.count("\n") == 1


def test_no_file_and_no_name(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["checkpoint", "info", str(tmp_path / "nothing.onnx")]) == 3
    assert "expected a checkpoint file, found none at" in capsys.readouterr().err


def test_info(backbone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["checkpoint", "info", str(backbone)]) == 0
    shown = capsys.readouterr()
    lines = dict(line.split(maxsplit=1) for line in shown.out.splitlines())
    assert lines["format"] == "arcface_torch"
    assert lines["image"].startswith("112x112 RGB, (x - 127.5) / 127.5")
    assert lines["calibrated"] == "no"
    assert "calibrate" in shown.err


def test_info_names_the_license_that_a_file_states(
    backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnx

    assert run(["checkpoint", "export", str(backbone), "-o", str(tmp_path / "net.onnx")]) == 0
    model = onnx.load(str(tmp_path / "net.onnx"))
    onnx.helper.set_model_props(model, {"License": "CC-BY-NC-4.0"})
    onnx.save(model, str(tmp_path / "licensed.onnx"))
    capsys.readouterr()
    for name, license in (("net.onnx", None), ("licensed.onnx", "CC-BY-NC-4.0")):
        assert run(["checkpoint", "info", str(tmp_path / name), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["license"] == license
    assert run(["checkpoint", "import", str(tmp_path / "licensed.onnx"), "-o", str(tmp_path / "net.safetensors")]) == 0
    assert load_checkpoint(tmp_path / "net.safetensors").header["license"] == "CC-BY-NC-4.0"
    assert run(["checkpoint", "export", str(tmp_path / "net.safetensors"), "-o", str(tmp_path / "again.onnx")]) == 0
    said = {entry.key: entry.value for entry in onnx.load(str(tmp_path / "again.onnx")).metadata_props}
    assert said["license"] == "CC-BY-NC-4.0"


def test_info_of_the_shipped_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    from arcinvert.recognizer import default_checkpoint

    assert run(["checkpoint", "info", str(default_checkpoint()), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["backbone"] == "iresnet18"
    assert found["batchnorm"]["found"] == 30
    assert found["calibration"]["in"] == "the checkpoint"
    assert [point["fmr"] for point in found["thresholds"]] == [0.01, 0.001]


def test_verify_an_untrained_network(backbone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Its BatchNorm layers still hold mean 0 and variance 1, which no face has.
    assert run(["checkpoint", "verify", str(backbone), "--faces", "16", "--json"]) == 10
    found = json.loads(capsys.readouterr().out)
    assert found["faces"] == 16
    assert found["problems"]


def test_export_and_back(backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = torch.rand(2, 3, 112, 112)
    expected = Recognizer.load(backbone).embed(images)
    for name, options in (("net.onnx", []), ("folded.onnx", ["--fold"]), ("back.pth", [])):
        out = tmp_path / name
        assert run(["checkpoint", "export", str(backbone), "-o", str(out), *options]) == 0
        assert name in capsys.readouterr().out
        again = Recognizer.load(out)
        torch.testing.assert_close(again.embed(images), expected, atol=1e-4, rtol=1e-3)
        assert again.header["backbone"] == "iresnet18"
        assert len(again.folded) == (21 if options else 0)


@pytest.mark.parametrize("arguments", [["-o", "net.txt"], ["-o", "net.pth", "--fold"]])
def test_export_to_what_is_not_known(backbone: Path, arguments: list[str]) -> None:
    assert run(["checkpoint", "export", str(backbone), *arguments]) == 2


def test_pull_of_what_is_no_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["checkpoint", "pull", "../../etc"]) == 2
    assert "expected a name" in capsys.readouterr().err


# --- real networks


def test_a_foreign_network_goes_all_the_way(
    test_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = test_data / "models" / f"{Y1}.onnx", tmp_path / "y1.safetensors"
    assert run(["checkpoint", "import", str(source), "-o", str(out)]) == 0
    assert run(["checkpoint", "verify", str(out), "--reference", str(source), "--faces", "40"]) == 0
    assert "no problem found" in capsys.readouterr().out
    assert run(["checkpoint", "export", str(out), "-o", str(tmp_path / "again.onnx")]) == 0
    against = ["--reference", str(tmp_path / "again.onnx")]
    assert run(["checkpoint", "verify", str(source), *against, "--faces", "40", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["scores"][0]["parity"] > 0.9999


def test_verify_says_what_it_cannot_tell(test_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = "only --reference can tell RGB from BGR"
    models = test_data / "models"
    assert run(["checkpoint", "verify", str(models / f"{Y1}.onnx"), "--faces", "40"]) == 0
    assert line not in capsys.readouterr().out
    assert run(["checkpoint", "verify", str(models / f"{Y1}-folded.onnx"), "--faces", "40"]) == 0
    assert line in capsys.readouterr().out


def test_embed_with_a_foreign_network(test_data: Path, faces_dir: Path, tmp_path: Path) -> None:
    picture = faces_dir / "00000" / "00.jpg"
    rows = []
    for number, name in enumerate((Y1, f"{Y1}-folded")):
        source, out = test_data / "models" / f"{name}.onnx", tmp_path / f"{number}.npy"
        assert run(["-q", "embed", str(picture), "-o", str(out), "--aligned", "--checkpoint", str(source)]) == 0
        rows.append(np.load(out)[0])
    assert rows[0].shape == (128,)
    assert float(rows[0] @ rows[1]) > 0.9999
