import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file

from arcinvert.backbones import build_backbone
from arcinvert.checkpoint import FORMAT, save_checkpoint
from arcinvert.errors import CheckpointError, EnvironmentProblem, InputError
from arcinvert.formats import open_checkpoint
from arcinvert.recognizer import Recognizer

HEADER = {
    "backbone": "iresnet18",
    "backbone_settings": {"width": 0.05, "embedding_size": 8},
    "embedding_size": 8,
    "preprocessing": {"size": [112, 112], "color": "RGB", "mean": [0.5] * 3, "std": [0.5] * 3},
}


def ours(path: Path) -> Path:
    network = build_backbone("iresnet18", width=0.05, embedding_size=8)
    save_checkpoint(path, HEADER, {f"network.{key}": value for key, value in network.state_dict().items()})
    return path


def onnx_content() -> bytes:
    weight = numpy_helper.from_array(np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype(np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["data", "w"], ["x"], strides=[8, 8]),
        helper.make_node("GlobalAveragePool", ["x"], ["p"]),
        helper.make_node("Flatten", ["p"], ["out"]),
    ]
    image = helper.make_tensor_value_info("data", TensorProto.FLOAT, ["N", 3, 112, 112])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", 4])
    return bytes(helper.make_model(helper.make_graph(nodes, "g", [image], [out], [weight])).SerializeToString())


def torch_content(path: Path, **settings: bool) -> bytes:
    torch.manual_seed(0)
    network = build_backbone("iresnet18", width=0.0625, embedding_size=8)
    torch.save(network.state_dict(), path, **settings)
    return path.read_bytes()


class TestByContent:
    @pytest.mark.parametrize("name", ["a.safetensors", "a", "a.onnx", "a.pth", "a.bin", "a.SAFETENSORS", "a.params"])
    def test_ours(self, name: str, tmp_path: Path) -> None:
        found = open_checkpoint(ours(tmp_path / name))
        assert found.header == {"format": FORMAT, "license": "not stated", **HEADER}

    @pytest.mark.parametrize("name", ["a.onnx", "a", "a.ONNX", "a.bin", "a.pth", "a.safetensors", "a.params"])
    @pytest.mark.parametrize("producer", ["", "pytorch"])
    def test_onnx(self, name: str, producer: str, tmp_path: Path) -> None:
        content = onnx_content()
        if producer:
            content = content[:2] + b"\x12" + bytes([len(producer)]) + producer.encode() + content[2:]
        (tmp_path / name).write_bytes(content)
        found = open_checkpoint(tmp_path / name)
        assert found.header["source"]["format"] == "ONNX"
        assert found.header["embedding_size"] == 4

    @pytest.mark.parametrize("name", ["a.pth", "a.pt", "a", "a.onnx"])
    @pytest.mark.parametrize("zipped", [True, False])
    def test_torch(self, name: str, zipped: bool, tmp_path: Path) -> None:
        content = torch_content(tmp_path / "made", _use_new_zipfile_serialization=zipped)
        (tmp_path / name).write_bytes(content)
        found = open_checkpoint(tmp_path / name)
        assert found.header["backbone"] == "iresnet18"
        assert Recognizer.from_checkpoint(found, "a").embedding_size == 8

    def test_safetensors_of_others(self, tmp_path: Path) -> None:
        torch.manual_seed(0)
        network = build_backbone("iresnet18", width=0.0625, embedding_size=8)
        for name, metadata in {"a.safetensors": None, "b": {"format": "pt"}}.items():
            save_file(network.state_dict(), tmp_path / name, metadata=metadata)
            assert open_checkpoint(tmp_path / name).header["backbone"] == "iresnet18"

    @pytest.mark.parametrize("name", ["a.params", "a-symbol.json", "a-0000.params"])
    def test_mxnet_is_told_by_its_name(self, name: str, tmp_path: Path) -> None:
        (tmp_path / name).write_bytes(b"\x12\x01" + bytes(30))
        with pytest.raises(CheckpointError, match=r"NAME-symbol\.json|MXNet"):
            open_checkpoint(tmp_path / name)


class TestRefusals:
    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"hello",
            b"\x80\x04.",
            b"\x08\x08\x12\x00",
            b"PK\x03\x04",
            bytes(200),
            struct.pack("<Q", 2) + b"{}",
            struct.pack("<Q", 1 << 26) + b"{",
            struct.pack("<Q", 4) + b"{\xff}}",
            struct.pack("<Q", 20) + b'{"__metadata__": 12}',
            struct.pack("<Q", 32) + b'{"__metadata__": {"arcinvert":1}}',
            struct.pack("<Q", 200_000) + b"[" * 200_000,
            pickle.dumps({"a": print}),
        ],
    )
    def test_garbage_under_any_name(self, content: bytes, tmp_path: Path) -> None:
        for name in ("a", "a.onnx", "a.pth", "a.safetensors", "a.params", "a-symbol.json", "a.bin", "a.npy"):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(CheckpointError) as caught:
                open_checkpoint(tmp_path / name)
            assert "\n" not in str(caught.value)

    def test_no_known_format_names_the_known_ones(self, tmp_path: Path) -> None:
        (tmp_path / "a.npy").write_bytes(b"\x93NUMPY")
        with pytest.raises(CheckpointError, match=r"is of no supported format; expected arcinvert .* ONNX, .* MXNet"):
            open_checkpoint(tmp_path / "a.npy")

    def test_nothing_there(self, tmp_path: Path) -> None:
        for path in (tmp_path, tmp_path / "none.onnx"):
            with pytest.raises(CheckpointError, match="expected a checkpoint file, found none"):
                open_checkpoint(path)

    def test_paddle(self, tmp_path: Path) -> None:
        (tmp_path / "a.pdparams").write_bytes(b"\x80\x02.")
        with pytest.raises(CheckpointError, match="Paddle"):
            open_checkpoint(tmp_path / "a.pdparams")

    @pytest.mark.parametrize(
        ("name", "content", "found", "way_out"),
        [
            ("facenet512_weights.h5", b"\x89HDF\r\n\x1a\n" + bytes(88), "HDF5 file, as Keras", "DeepFace.build_model"),
            ("net.pth", b"\x89HDF\r\n\x1a\n", "HDF5 file, as Keras", "tf2onnx.convert --saved-model"),
            ("net.tflite", b"\x1c\0\0\0TFL3" + bytes(8), "TensorFlow Lite", "tf2onnx.convert --tflite 'net.tflite'"),
            ("saved_model.pb", b"\x08\x01\x12\x09", "program of TensorFlow", "--saved-model"),
            ("net.pdmodel", b"\x0a\x04", "program of Paddle", "paddle2onnx"),
        ],
    )
    def test_other_frameworks(self, name: str, content: bytes, found: str, way_out: str, tmp_path: Path) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=found) as caught:
            open_checkpoint(tmp_path / name)
        assert way_out in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_keras_model(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "net.keras", "w") as archive:
            for member in ("metadata.json", "config.json", "model.weights.h5"):
                archive.writestr(member, "{}")
        with pytest.raises(CheckpointError, match=r"model of Keras.*tf2onnx"):
            open_checkpoint(tmp_path / "net.keras")

    def test_no_right_to_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = ours(tmp_path / "a")

        def refuses(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("builtins.open", refuses)
        with pytest.raises(EnvironmentProblem, match=r"cannot read .*: Permission denied"):
            open_checkpoint(path)

    def test_ours_is_damaged(self, tmp_path: Path) -> None:
        content = ours(tmp_path / "a").read_bytes()
        for keep in (9, 100, len(content) - 1):
            (tmp_path / "a").write_bytes(content[:keep])
            with pytest.raises(CheckpointError, match="not a whole safetensors file"):
                open_checkpoint(tmp_path / "a")

    def test_a_pickle_is_never_run(self, tmp_path: Path) -> None:
        class Evil:
            def __reduce__(self) -> tuple[object, tuple[str]]:
                return os.mkdir, (str(tmp_path / "made"),)

        for name in ("a.pth", "a", "a.onnx", "a.params"):
            (tmp_path / name).write_bytes(pickle.dumps({"weight": Evil()}))
            with pytest.raises(CheckpointError):
                open_checkpoint(tmp_path / name)
        assert not (tmp_path / "made").exists()


class TestAGraphOfOurs:
    """The backbone ``graph`` in a file of ours: the header is a stranger's."""

    @pytest.fixture
    def stored(self, tmp_path: Path) -> Path:
        (tmp_path / "a.onnx").write_bytes(onnx_content())
        found = open_checkpoint(tmp_path / "a.onnx")
        save_checkpoint(tmp_path / "a.safetensors", found.header, found.tensors)
        return tmp_path / "a.safetensors"

    def test_round_trip(self, stored: Path) -> None:
        images = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(0))
        found, expected = (Recognizer.load(stored.with_suffix(end)).embed(images) for end in (".safetensors", ".onnx"))
        assert torch.equal(found, expected)

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ('"conv"', '"__class__"'),
            ('"conv"', '"linear"'),
            ('"out_channels": 4', '"out_channels": 1000000000'),
            ('"out_channels": 4', '"out_channels": "4"'),
            ('"groups": 1', '"groups": 0'),
            ('"output": "out", "steps"', '"output": "gone", "steps"'),
            ('"inputs": ["image"]', '"inputs": ["out"]'),
            ('"axis": 1', '"axis": 0'),
            ('"kernel_size": [8, 8]', '"kernel_size": [9, 8]'),
            ('"kernel_size": [8, 8]', '"kernel_size": [8000000, 8000000]'),
        ],
    )
    def test_headers_that_lie(self, stored: Path, old: str, new: str) -> None:
        checkpoint = open_checkpoint(stored)
        text = json.dumps(checkpoint.header, sort_keys=True)
        assert old in text
        save_checkpoint(stored, json.loads(text.replace(old, new)), checkpoint.tensors)
        with pytest.raises(InputError) as caught:
            Recognizer.load(stored)
        assert "\n" not in str(caught.value)
