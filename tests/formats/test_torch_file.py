import errno
import json
import pickle
import re
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from networks import IMAGES, State, equal, loaded, output, unlike_new
from safetensors.torch import save_file
from torch import Tensor, nn

from arcinvert.backbones import build_backbone
from arcinvert.checkpoint import file_digest
from arcinvert.errors import CheckpointError, EnvironmentProblem
from arcinvert.formats.torch_file import read
from arcinvert.preprocessing import Preprocessing
from arcinvert.recognizer import Recognizer


@pytest.fixture(scope="module")
def arc() -> nn.Module:
    return unlike_new(build_backbone("iresnet18", width=0.125, embedding_size=24))


@pytest.fixture(scope="module")
def arc_state(arc: nn.Module) -> State:
    return dict(arc.state_dict())


# --- an IR network as CVLFace and AdaFace name its parts, written for these tests


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.shortcut_layer = nn.MaxPool2d(1, stride) if inputs == outputs else shortcut
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut_layer(x) + self.res_layer(x)


class IR(nn.Sequential):
    def __init__(self, depths: tuple[int, ...] = (2, 2, 2, 2), first: int = 8, size: int = 24) -> None:
        inputs, blocks = first, []
        for stage, depth in enumerate(depths):
            for i in range(depth):
                blocks.append(Block(inputs, first * 2**stage, 2 if i == 0 else 1))
                inputs = first * 2**stage
        head = [nn.BatchNorm2d(inputs), nn.Dropout(0.4), nn.Flatten(), nn.Linear(inputs * 49, size)]
        stem = nn.Sequential(nn.Conv2d(3, first, 3, 1, 1, bias=False), nn.BatchNorm2d(first), nn.PReLU(first))
        last = nn.Sequential(*head, nn.BatchNorm1d(size, affine=False))
        super().__init__(OrderedDict(input_layer=stem, output_layer=last, body=nn.Sequential(*blocks)))

    def forward(self, x: Tensor) -> Tensor:
        return self.output_layer(self.body(self.input_layer(x)))


@pytest.fixture(scope="module")
def ir() -> nn.Module:
    return unlike_new(IR())


@pytest.fixture(scope="module")
def ir_state(ir: nn.Module) -> State:
    return dict(ir.state_dict())


def prefixed(state: State, prefix: str) -> State:
    return {prefix + key: value for key, value in state.items()}


class TestArcFaceTorch:
    def test_header_and_tensors_of_a_plain_state_dict(self, tmp_path: Path, arc: nn.Module, arc_state: State) -> None:
        torch.save(arc_state, tmp_path / "backbone.pth")
        checkpoint = read(tmp_path / "backbone.pth")
        assert checkpoint.header == {
            "backbone": "iresnet18",
            "backbone_settings": {"width": 0.125, "embedding_size": 24},
            "embedding_size": 24,
            "preprocessing": {"size": [112, 112], "color": "RGB", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
            "source": {"format": "arcface_torch", "file": "backbone.pth"},
        }
        json.dumps(checkpoint.header)
        assert checkpoint.digest == file_digest(tmp_path / "backbone.pth")
        assert equal(checkpoint.section("network"), arc_state)
        assert len(checkpoint.tensors) == len(arc_state)
        assert torch.equal(output(loaded(checkpoint)), output(arc))
        assert Preprocessing.from_header(checkpoint.header["preprocessing"]) == Preprocessing()

    @pytest.mark.parametrize(
        ("depth", "width"), [(18, 0.05), (18, 0.33), (34, 0.07), (50, 0.11), (100, 0.02), (200, 0.02)]
    )
    def test_every_depth_and_odd_widths(self, tmp_path: Path, depth: int, width: float) -> None:
        network = build_backbone(f"iresnet{depth}", width=width, embedding_size=4)
        torch.save(network.state_dict(), tmp_path / "a.pt")
        checkpoint = read(tmp_path / "a.pt")
        assert checkpoint.header["backbone"] == f"iresnet{depth}"
        assert equal(dict(loaded(checkpoint).state_dict()), dict(network.state_dict()))

    @pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod.", "model."])
    def test_prefixes_of_wrappers(self, tmp_path: Path, arc_state: State, prefix: str) -> None:
        torch.save(prefixed(arc_state, prefix), tmp_path / "a.pth")
        checkpoint = read(tmp_path / "a.pth")
        assert equal(checkpoint.section("network"), arc_state)
        assert checkpoint.header["source"]["format"] == "arcface_torch"

    def test_a_training_checkpoint(self, tmp_path: Path, arc: nn.Module, arc_state: State) -> None:
        optimizer = torch.optim.SGD(arc.parameters(), lr=0.1, momentum=0.9)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
        whole = {"epoch": 3, "global_step": 1200, "state_dict_backbone": arc_state}
        whole |= {"state_dict_softmax_fc": {"weight": torch.ones(1000, 24)}}
        whole |= {"state_optimizer": optimizer.state_dict(), "state_lr_scheduler": schedule.state_dict()}
        torch.save(whole, tmp_path / "checkpoint_gpu_0.pt")
        checkpoint = read(tmp_path / "checkpoint_gpu_0.pt")
        assert checkpoint.header["source"]["format"] == "arcface_torch training state"
        assert equal(checkpoint.section("network"), arc_state)

    def test_the_older_file_without_zip(self, tmp_path: Path, arc_state: State) -> None:
        torch.save(arc_state, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
        assert (tmp_path / "a.pth").read_bytes()[:2] == b"\x80\x02"
        assert equal(read(tmp_path / "a.pth").section("network"), arc_state)

    def test_parameters_and_an_ordered_dict(self, tmp_path: Path, arc: nn.Module, arc_state: State) -> None:
        torch.save(OrderedDict(arc.state_dict(keep_vars=True)), tmp_path / "a.pth")
        checkpoint = read(tmp_path / "a.pth")
        assert equal(checkpoint.section("network"), arc_state)
        assert not any(tensor.requires_grad for tensor in checkpoint.tensors.values())

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_other_floats_become_float32(self, tmp_path: Path, arc_state: State, dtype: torch.dtype) -> None:
        torch.save({key: value.to(dtype) for key, value in arc_state.items()}, tmp_path / "a.pth")
        for key, value in loaded(read(tmp_path / "a.pth")).state_dict().items():
            assert value.dtype == arc_state[key].dtype
            assert torch.equal(value, arc_state[key].to(dtype).to(value.dtype))

    def test_without_num_batches_tracked(self, tmp_path: Path, arc_state: State) -> None:
        state = {key: value for key, value in arc_state.items() if not key.endswith("num_batches_tracked")}
        torch.save(state, tmp_path / "a.pth")
        network = loaded(read(tmp_path / "a.pth"))
        assert network.get_buffer("layer1.0.bn1.num_batches_tracked") == 0
        for key, value in state.items():
            assert torch.equal(network.state_dict()[key], value)

    def test_safetensors(self, tmp_path: Path, arc_state: State) -> None:
        save_file(arc_state, tmp_path / "a.safetensors", metadata={"format": "pt"})
        assert equal(read(tmp_path / "a.safetensors").section("network"), arc_state)

    @pytest.mark.parametrize(
        ("width", "blocks"), [(0.25, (1, 4, 6, 2)), (0.5, (2, 8, 12, 4)), (2, (1, 1, 1, 1)), (1, (3, 1, 2, 1))]
    )
    def test_mobilefacenet(self, tmp_path: Path, width: float, blocks: tuple[int, ...]) -> None:
        network = unlike_new(build_backbone("mobilefacenet", width=width, embedding_size=16, blocks=blocks))
        torch.save(network.state_dict(), tmp_path / "a.pt")
        checkpoint = read(tmp_path / "a.pt")
        different = {} if blocks == (1, 4, 6, 2) else {"blocks": list(blocks)}
        assert checkpoint.header["backbone"] == "mobilefacenet"
        assert checkpoint.header["backbone_settings"] == {"width": width, "embedding_size": 16, **different}
        json.dumps(checkpoint.header)
        assert torch.equal(output(loaded(checkpoint)), output(network))

    @pytest.mark.parametrize("wrapper", ["model", "model_state_dict", "net_state_dict", "backbone", "network", "ema"])
    @pytest.mark.parametrize("prefix", ["", "backbone.", "encoder."])
    def test_as_training_scripts_save_it(
        self, tmp_path: Path, wrapper: str, prefix: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        network = unlike_new(build_backbone("iresnet18", width=0.125, embedding_size=16))
        state = prefixed(dict(network.state_dict()), prefix)
        torch.save({wrapper: {**state, "kernel": torch.ones(16, 9)}, "epoch": 3}, tmp_path / "a.pth")
        with caplog.at_level("INFO", "arcinvert"):
            assert torch.equal(output(loaded(read(tmp_path / "a.pth"))), output(network))
        assert "left out: 'kernel'" in caplog.text

    @pytest.mark.slow
    def test_a_network_of_real_size_is_mapped_not_copied(self, tmp_path: Path) -> None:
        network = build_backbone("iresnet50")
        torch.save(network.state_dict(), tmp_path / "backbone.pth")
        checkpoint = read(tmp_path / "backbone.pth")
        assert checkpoint.header["backbone_settings"] == {"width": 1.0, "embedding_size": 512}
        assert equal(dict(loaded(checkpoint).state_dict()), dict(network.state_dict()))
        if Path("/proc/self/maps").exists():
            assert str(tmp_path / "backbone.pth") in Path("/proc/self/maps").read_text()


class TestOtherLayouts:
    def test_gdconv(self, tmp_path: Path) -> None:
        """The names of face.evoLVe and cavaface, written out for each kind of part."""
        state = build_backbone("mobilefacenet", embedding_size=16, width=0.125).state_dict()
        units = {2: "conv_23", 4: "conv_34", 6: "conv_45"}
        stacks = {3: "conv_3", 5: "conv_4", 7: "conv_5"}
        parts, steps = ("conv", "conv_dw", "project"), ("conv", "bn", "prelu")

        def theirs(key: str) -> str:
            words = key.split(".")
            if key.startswith("features."):
                if words[2] == "0":
                    return ".".join(["conv_6_dw", steps[int(words[4])], *words[5:]])
                return ".".join([{"2": "linear", "3": "bn"}[words[2]], *words[3:]])
            if words[0] == "conv_sep":
                return ".".join(["conv_6_sep", steps[int(words[2])], *words[3:]])
            place, rest = int(words[1]), words[2:]
            if place in units:
                return ".".join([units[place], parts[int(rest[1])], steps[int(rest[3])], *rest[4:]])
            if place in stacks:
                return ".".join([stacks[place], "model", rest[1], parts[int(rest[3])], steps[int(rest[5])], *rest[6:]])
            return ".".join([("conv1", "conv2_dw")[place], steps[int(rest[1])], *rest[2:]])

        torch.save({"module." + theirs(key): value for key, value in state.items()}, tmp_path / "a.pth")
        found = read(tmp_path / "a.pth")
        assert found.header["backbone"] == "mobilefacenet"
        assert set(found.network()) == set(state)
        assert all(torch.equal(found.network()[key], state[key]) for key in state)

    def test_facenet(self, tmp_path: Path) -> None:
        state = build_backbone("inception_resnet_v1", embedding_size=8).state_dict()
        torch.save({**state, "logits.weight": torch.zeros(10, 8), "logits.bias": torch.zeros(10)}, tmp_path / "a.pt")
        found = read(tmp_path / "a.pt")
        assert (found.header["backbone"], found.header["embedding_size"]) == ("inception_resnet_v1", 8)
        assert found.header["preprocessing"]["size"] == [160, 160]
        recognizer = Recognizer.load(tmp_path / "a.pt")
        own = torch.rand(2, 3, 160, 160)
        network = recognizer.network((own * 255 - 127.5) / 128)
        torch.testing.assert_close(recognizer.embed(own), torch.nn.functional.normalize(network))
        face = torch.rand(1, 3, 112, 112, requires_grad=True)
        recognizer.trace(face).embedding[0, 0].backward()
        assert face.grad is not None
        assert face.grad[..., 40:70, 40:70].abs().sum() > 0

    @pytest.mark.parametrize("named", [False, True])
    @pytest.mark.parametrize("protocol", [2, 4])
    def test_paddle(self, tmp_path: Path, arc: nn.Module, arc_state: State, protocol: int, named: bool) -> None:
        theirs = {"running_mean": "_mean", "running_var": "_variance"}
        arrays: dict[str, object] = {}
        for key, value in arc_state.items():
            before, _, last = key.rpartition(".")
            if last == "num_batches_tracked":
                continue
            last = "_weight" if ".prelu." in f".{key}" else theirs.get(last, last)
            array = (value.T if value.ndim == 2 else value).contiguous().numpy()
            arrays[f"{before}.{last}"] = (key, array) if named else array
        arrays["StructuredToParameterName@@"] = dict.fromkeys(arc_state, "a")
        path = tmp_path / "net.pdparams"
        path.write_bytes(pickle.dumps(arrays, protocol=protocol))
        found = read(path)
        assert found.header["source"]["format"] == "ArcFace-Paddle"
        images = torch.rand(2, 3, 112, 112)
        recognizer = Recognizer.load(path)
        expected = torch.nn.functional.normalize(arc(images * 2 - 1))
        torch.testing.assert_close(recognizer.embed(images), expected, atol=1e-5, rtol=1e-4)

    def test_magface(self, tmp_path: Path, arc_state: State) -> None:
        torch.save({"state_dict": prefixed(arc_state, "features.module.")}, tmp_path / "a.pth")
        assert set(read(tmp_path / "a.pth").network()) >= set(arc_state)


class TestIR:
    @pytest.mark.parametrize(
        ("prefix", "source", "color"),
        [
            ("", "CVLFace", "RGB"),
            ("net.", "CVLFace", "RGB"),
            ("model.net.", "CVLFace", "RGB"),
            ("model.", "AdaFace", "BGR"),
        ],
    )
    def test_the_same_function_under_every_prefix(
        self, tmp_path: Path, ir: nn.Module, ir_state: State, prefix: str, source: str, color: str
    ) -> None:
        torch.save(prefixed(ir_state, prefix), tmp_path / "model.pt")
        checkpoint = read(tmp_path / "model.pt")
        assert checkpoint.header["backbone"] == "iresnet18"
        assert checkpoint.header["backbone_settings"] == {"width": 0.125, "embedding_size": 24, "shortcut": "pool"}
        assert checkpoint.header["source"] == {"format": source, "file": "model.pt"}
        assert checkpoint.header["preprocessing"]["color"] == color
        torch.testing.assert_close(output(loaded(checkpoint)), output(ir), rtol=0, atol=1e-6)

    def test_an_affine_last_batch_norm_keeps_its_weights(self, tmp_path: Path, ir_state: State) -> None:
        affine = {"output_layer.4.weight": torch.rand(24), "output_layer.4.bias": torch.rand(24)}
        torch.save(ir_state | affine, tmp_path / "model.pt")
        features = loaded(read(tmp_path / "model.pt")).features
        assert torch.equal(features.weight, affine["output_layer.4.weight"])
        assert torch.equal(features.bias, affine["output_layer.4.bias"])

    @pytest.mark.parametrize("name", ["iresnet34", "iresnet50", "iresnet100"])
    def test_depths(self, tmp_path: Path, name: str) -> None:
        depths = {"iresnet34": (3, 4, 6, 3), "iresnet50": (3, 4, 14, 3), "iresnet100": (3, 13, 30, 3)}[name]
        network = unlike_new(IR(depths, first=2, size=5))
        torch.save(prefixed(dict(network.state_dict()), "net."), tmp_path / "model.pt")
        checkpoint = read(tmp_path / "model.pt")
        assert checkpoint.header["backbone"] == name
        torch.testing.assert_close(output(loaded(checkpoint)), output(network), rtol=1e-5, atol=1e-5)

    def test_a_lightning_checkpoint_loses_its_class_centers(self, tmp_path: Path, ir_state: State) -> None:
        head = {"head.kernel": torch.ones(24, 500), "head.t": torch.zeros(1), "head.batch_mean": torch.ones(1)}
        torch.save({"state_dict": prefixed(ir_state, "model.") | head, "epoch": 3}, tmp_path / "adaface_ir18.ckpt")
        checkpoint = read(tmp_path / "adaface_ir18.ckpt")
        assert checkpoint.header["source"]["format"] == "AdaFace"
        assert not any("head" in key or "kernel" in key for key in checkpoint.tensors)
        loaded(checkpoint)

    def test_a_bgr_file_is_shown_bgr(self, tmp_path: Path, ir: nn.Module, ir_state: State) -> None:
        torch.save({"state_dict": prefixed(ir_state, "model.")}, tmp_path / "a.ckpt")
        checkpoint = read(tmp_path / "a.ckpt")
        recognizer = Recognizer(
            loaded(checkpoint), Preprocessing.from_header(checkpoint.header["preprocessing"]), embedding_size=24
        )
        expected = nn.functional.normalize(output(ir, IMAGES.flip(1)))
        torch.testing.assert_close(recognizer.embed(IMAGES / 2 + 0.5), expected, rtol=0, atol=1e-5)
        assert not torch.allclose(expected, nn.functional.normalize(output(ir)), atol=1e-2)

    @pytest.mark.parametrize(
        ("name", "text", "color"),
        [
            ("model.yaml", "input_size:\n- 3\n- 112\n- 112\ncolor_space: BGR\nname: ir18\noutput_dim: 512\n", "BGR"),
            ("model.yaml", 'color_space: "BGR"  # as opencv', "BGR"),
            ("model.yaml", "# color_space: BGR\nname: ir18\n", "RGB"),
            ("pretrained_model/model.yaml", "color_space: BGR\r\n", "BGR"),
            ("config.json", '{"conf": {"color_space": "BGR", "name": "ir18"}}', "BGR"),
            ("config.json", '{"my_color_space": "BGR"}', "RGB"),
            ("other.yaml", "color_space: BGR", "RGB"),
        ],
    )
    def test_color_beside_the_file(self, tmp_path: Path, ir_state: State, name: str, text: str, color: str) -> None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(text.encode())
        save_file(prefixed(ir_state, "model.net."), tmp_path / "model.safetensors", metadata={"format": "pt"})
        assert read(tmp_path / "model.safetensors").header["preprocessing"]["color"] == color

    @pytest.mark.parametrize("text", ["color_space: GRAY", "color_space: RGB\ncolor_space: BGR", "color_space: ''"])
    def test_a_color_that_is_none(self, tmp_path: Path, ir_state: State, text: str) -> None:
        (tmp_path / "model.yaml").write_text(text)
        torch.save(prefixed(ir_state, "net."), tmp_path / "model.pt")
        with pytest.raises(CheckpointError, match=r"expected color_space RGB or BGR in .*model.yaml', got"):
            read(tmp_path / "model.pt")

    def test_arcface_torch_in_cvlface(self, tmp_path: Path, arc_state: State) -> None:
        (tmp_path / "model.yaml").write_text("color_space: BGR")
        torch.save(prefixed(arc_state, "net."), tmp_path / "model.pt")
        checkpoint = read(tmp_path / "model.pt")
        assert checkpoint.header["source"]["format"] == "CVLFace"
        assert checkpoint.header["preprocessing"]["color"] == "BGR"
        assert equal(checkpoint.section("network"), arc_state)

    @pytest.mark.parametrize(
        ("change", "found"),
        [
            ({"body.0.res_layer.se_block.fc1.weight": torch.ones(1, 8, 1, 1)}, "squeeze-and-excitation (IR-SE)"),
            ({"body.0.res_layer.7.weight": torch.ones(8, 8, 1, 1)}, "bottleneck blocks (IR-152 or IR-200)"),
            ({"body.0.res_layer.3.weight": torch.ones(8, 8, 3, 3)}, "without a BatchNorm between"),
        ],
    )
    def test_other_blocks_are_refused(self, tmp_path: Path, ir_state: State, change: State, found: str) -> None:
        torch.save(ir_state | change, tmp_path / "model.pt")
        with pytest.raises(CheckpointError, match=rf"expected IR-18, 34, 50 or 101 in .*{re.escape(found)}"):
            read(tmp_path / "model.pt")


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return exec, (f"open({str(self.trace)!r}, 'w').close()",)


class System(Evil):
    def __reduce__(self) -> tuple[object, ...]:
        import os

        return os.system, (f"touch {self.trace}",)


def refused(path: Path, error: type[Exception] = CheckpointError) -> str:
    """The message, which is one short line that names the file."""
    with pytest.raises(error) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message
    assert "\033" not in message
    assert path.name in message
    assert len(message) < 400 + len(str(path))
    assert "weights_only" not in message
    return message


class TestHostile:
    @pytest.mark.parametrize("zipped", [True, False])
    @pytest.mark.parametrize(("kind", "name"), [(Evil, "'exec'"), (System, "'posix.system'")])
    def test_the_global_is_named_and_not_run(
        self, tmp_path: Path, arc_state: State, kind: type[Evil], name: str, zipped: bool
    ) -> None:
        evil = kind(tmp_path / "trace")
        torch.save({**arc_state, "fc.bias": evil}, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
        message = refused(tmp_path / "a.pth")
        assert f"asks for {name}, which is refused" in message
        assert not (tmp_path / "trace").exists()
        torch.load(tmp_path / "a.pth", weights_only=False)  # it would have run
        assert (tmp_path / "trace").exists()

    def test_the_environment_does_not_allow_pickles(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
        torch.save({"a": Evil(tmp_path / "trace")}, tmp_path / "a.pth")
        assert "asks for 'exec'" in refused(tmp_path / "a.pth")
        assert not (tmp_path / "trace").exists()

    def test_a_whole_pickled_module(self, tmp_path: Path, arc: nn.Module) -> None:
        torch.save(arc, tmp_path / "a.pth")
        message = refused(tmp_path / "a.pth")
        assert "asks for 'arcinvert.backbones.iresnet.IResNet'" in message
        assert "save its state_dict() or export it to ONNX" in message

    def test_torchscript(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
            for name in ("a/data.pkl", "a/constants.pkl", "a/code/__torch__/x.py", "a/version"):
                archive.writestr(name, b"")
        message = refused(tmp_path / "a.pt")
        assert "is a TorchScript archive" in message
        assert "ONNX" in message

    def test_tensors_larger_than_the_file(self, tmp_path: Path, arc_state: State) -> None:
        """Views that repeat one number would make the network take all memory there is."""
        endless = torch.zeros(1).expand(1_000_000_000_000, 8 * 49)
        torch.save({**arc_state, "fc.weight": endless}, tmp_path / "a.pth")
        assert "more bytes than the file" in refused(tmp_path / "a.pth")

    def test_compressed_entries(self, tmp_path: Path) -> None:
        torch.save({"conv1.weight": torch.zeros(1000)}, tmp_path / "a.pth")
        with (
            zipfile.ZipFile(tmp_path / "a.pth") as source,
            zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as target,
        ):
            for entry in source.infolist():
                target.writestr(entry.filename, source.read(entry))
        assert "is compressed inside" in refused(tmp_path / "b.pth")

    @pytest.mark.parametrize(
        "tensor",
        [
            torch.eye(3).to_sparse(),
            torch.zeros(3, dtype=torch.complex64),
            torch.zeros(3, device="meta"),
            torch.zeros(3, dtype=torch.bool),
        ],
        ids=["sparse", "complex", "meta", "bool"],
    )
    @pytest.mark.filterwarnings("ignore")
    def test_tensors_that_are_not_plain(self, tmp_path: Path, arc_state: State, tensor: Tensor) -> None:
        torch.save({**arc_state, "fc.bias": tensor}, tmp_path / "a.pth")
        assert "expected plain tensors in" in refused(tmp_path / "a.pth")

    def test_paddle(self, tmp_path: Path) -> None:
        path = tmp_path / "arcface.pdparams"
        path.write_bytes(pickle.dumps(Evil(tmp_path / "trace"), protocol=2))
        message = refused(path)
        assert "paddle2onnx" in message
        assert not (tmp_path / "trace").exists()


class TestWrongFiles:
    def test_missing_and_folder(self, tmp_path: Path) -> None:
        assert "found none at" in refused(tmp_path / "none.pth")
        (tmp_path / "folder.pth").mkdir()
        assert "found none at" in refused(tmp_path / "folder.pth")

    def test_a_file_that_may_not_be_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "a.pth").write_bytes(b"x")

        def fails(*_: object, **__: object) -> None:
            raise OSError(errno.EACCES, "Permission denied")

        monkeypatch.setattr("builtins.open", fails)
        with pytest.raises(EnvironmentProblem, match=r"cannot read .*a\.pth': Permission denied"):
            read(tmp_path / "a.pth")

    @pytest.mark.parametrize("content", [b"", b"\x08\x07\x12", b"<html>not a model</html>", b"PAR1" + bytes(40)])
    def test_no_torch_file(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a.pth").write_bytes(content)
        assert "is no torch or safetensors file" in refused(tmp_path / "a.pth")
        (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")  # a huge header
        assert "is damaged or truncated" in refused(tmp_path / "a.safetensors")

    @pytest.fixture(params=["zip", "pickle", "safetensors"])
    def whole(self, request: pytest.FixtureRequest, tmp_path: Path) -> bytes:
        """A small file of each form."""
        state = {"conv1.weight": torch.rand(2, 3), "layer1.0.prelu.weight": torch.rand(2)}
        if request.param == "safetensors":
            save_file(state, tmp_path / "whole")
        else:
            torch.save(state, tmp_path / "whole", _use_new_zipfile_serialization=request.param == "zip")
        return (tmp_path / "whole").read_bytes()

    def test_truncated(self, tmp_path: Path, whole: bytes) -> None:
        for keep in [*range(len(whole) - 60, len(whole)), *range(9, len(whole) - 60, 7)]:
            (tmp_path / "cut.pt").write_bytes(whole[:keep])
            message = refused(tmp_path / "cut.pt")
            # A pickle may be cut within the name of a global, which is then one that nobody allows.
            assert "is damaged or truncated" in message or (whole[:1] == b"\x80" and "asks for" in message)

    def test_a_flipped_byte_never_escapes(self, tmp_path: Path, whole: bytes) -> None:
        generator = torch.Generator().manual_seed(3)
        for _ in range(300):
            place, value = (int(torch.randint(high, (1,), generator=generator)) for high in (len(whole), 256))
            (tmp_path / "a.pt").write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
            refused(tmp_path / "a.pt")

    def test_an_optimizer(self, tmp_path: Path) -> None:
        optimizer = torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1)
        torch.save(optimizer.state_dict(), tmp_path / "a.pth")
        assert "holds the state of an optimizer, and no network" in refused(tmp_path / "a.pth")

    @pytest.mark.parametrize(
        ("stored", "found"),
        [
            (torch.ones(3), "got a Tensor"),
            (None, "got a NoneType"),
            (
                {"epoch": 3, "weights": {"conv1.weight": torch.ones(1)}},
                "a int under 'epoch' (beside 'epoch', 'weights')",
            ),
            ({"epoch": 3, "model": {"conv1.weight": torch.ones(1)}}, "got tensors of 'conv1'"),
            ({"model": {"a": torch.ones(1)}, "ema": {"a": torch.ones(1)}}, "got several, under 'model', 'ema'"),
            ({"conv1.\033[31m\nweight": torch.ones(1)}, r"a Tensor under 'conv1.\x1b[31m\nweight'"),
            ({"state_dict_backbone": 3}, "a int under 'state_dict_backbone'"),
            ({}, "got tensors of nothing"),
            ({"state_dict": {"head.kernel": torch.ones(2, 2)}}, "got tensors of nothing"),
            ({"weight": torch.ones(3, 4)}, "got tensors of 'weight'"),
        ],
    )
    def test_other_contents(self, tmp_path: Path, stored: object, found: str) -> None:
        torch.save(stored, tmp_path / "a.pth")
        assert found in refused(tmp_path / "a.pth")

    @pytest.mark.parametrize(
        ("keys", "found"),
        [
            (("net.patch_embed.proj.weight", "net.blocks.0.attn.qkv.weight"), "a transformer"),
            (("conv1.weight", "layer1.0.bn2.weight", "layer1.0.conv1.weight", "fc.weight"), "a ResNet without PReLU"),
            (("conv1.weight", "layer1.0.prelu.weight", "layer1.0.se.fc.0.weight"), "squeeze-and-excitation"),
            (("conv1.weight", "layer1.2.prelu.weight", "layer1.0.prelu.weight"), "blocks in"),
        ],
    )
    def test_other_networks(self, tmp_path: Path, keys: tuple[str, ...], found: str) -> None:
        torch.save({key: torch.ones(2, 2) for key in keys}, tmp_path / "a.pth")
        assert found in refused(tmp_path / "a.pth")

    def test_depths_that_nobody_has_are_named(self, tmp_path: Path, arc_state: State) -> None:
        more = {key.replace("layer2.1", "layer2.2"): value for key, value in arc_state.items() if "layer2.1" in key}
        torch.save(arc_state | more, tmp_path / "a.pth")
        assert refused(tmp_path / "a.pth").endswith("got 2-3-2-2")
        assert "3-13-30-3" in refused(tmp_path / "a.pth")

    def test_channels_that_no_width_gives(self, tmp_path: Path, arc_state: State) -> None:
        torch.save({**arc_state, "layer4.0.conv1.weight": torch.ones(80, 32, 3, 3)}, tmp_path / "a.pth")
        assert "got 8-16-32-80" in refused(tmp_path / "a.pth")

    def test_two_networks(self, tmp_path: Path, arc_state: State) -> None:
        second = {key: value.clone() for key, value in prefixed(arc_state, "net.").items()}
        torch.save(prefixed(arc_state, "model.") | second, tmp_path / "a.pth")
        assert "got several, under 'model.', 'net.'" in refused(tmp_path / "a.pth")

    def test_missing_extra_and_misshapen_are_listed_when_the_network_is_built(
        self, tmp_path: Path, arc_state: State
    ) -> None:
        state = {**arc_state, "fc.weight": torch.ones(24, 4), "head2.kernel": torch.ones(2)}
        del state["layer2.0.bn1.bias"]
        torch.save(prefixed(state, "module."), tmp_path / "a.pth")
        checkpoint = read(tmp_path / "a.pth")
        with pytest.raises(CheckpointError, match=r"\(3 mismatches\)") as caught:
            loaded(checkpoint)
        for wrong in ("layer2.0.bn1.bias is missing", "module.head2", "fc.weight is (24, 4), expected (24, 3136)"):
            assert wrong.replace("module.head2", "head2.kernel is not part") in str(caught.value)

    @pytest.mark.parametrize("layout", ["arcface_torch", "CVLFace", "mbf"])
    def test_any_subset_is_refused_in_one_line(
        self, tmp_path: Path, arc_state: State, ir_state: State, layout: str
    ) -> None:
        mobile = dict(build_backbone("mobilefacenet", width=0.1, embedding_size=4).state_dict())
        whole = {"arcface_torch": arc_state, "CVLFace": ir_state, "mbf": mobile}[layout]
        keys = sorted(whole)
        generator = torch.Generator().manual_seed(0)
        for trial in range(60):
            part = torch.rand(len(keys), generator=generator) < (0.02, 0.3, 0.7, 0.99)[trial % 4]
            state = {key: whole[key] for key, kept in zip(keys, part, strict=True) if kept}
            for key in list(state)[:: trial % 5 + 1] if trial % 2 else []:
                state[key] = torch.zeros((), dtype=state[key].dtype)
            save_file(state, tmp_path / "a.safetensors")
            with pytest.raises(CheckpointError, match=r"\A.*\Z"):
                loaded(read(tmp_path / "a.safetensors"))
