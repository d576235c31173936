import errno
import hashlib
import json
import os
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from arcinvert.backbones import build_backbone
from arcinvert.checkpoint import (
    Checkpoint,
    atomic_write,
    load_checkpoint,
    load_strictly,
    quantized,
    save_checkpoint,
)
from arcinvert.errors import CheckpointError, EnvironmentProblem
from arcinvert.quantize import dequantize, quantize


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A good checkpoint."""
    path = tmp_path / "good.safetensors"
    tensors = {"network.weight": torch.arange(6.0).reshape(2, 3), "network.count": torch.tensor(3)}
    save_checkpoint(path, {"backbone": "x"}, tensors)
    return path


class TestRoundTrip:
    def test_header_tensors_and_digest_come_back(self, tmp_path: Path) -> None:
        path = tmp_path / "a.safetensors"
        header = {"backbone": "iresnet18", "fmr": [0.01, None], "name": "Ünï", "nested": {"a": True}}
        tensors = {
            "network.half": torch.randn(3, 4).half(),
            "network.single": torch.randn(5),
            "network.count": torch.tensor(7),
            "calibration.mean": torch.randn(2, 2).double(),
        }
        digest = save_checkpoint(path, header, tensors)
        checkpoint = load_checkpoint(path)
        assert checkpoint.header == {"format": 2, "license": "not stated", **header}
        assert digest == checkpoint.digest == hashlib.sha256(path.read_bytes()).hexdigest()
        assert set(checkpoint.tensors) == set(tensors)
        for key, value in tensors.items():
            assert checkpoint.tensors[key].dtype == value.dtype
            assert torch.equal(checkpoint.tensors[key], value)

    def test_same_content_same_digest(self, tmp_path: Path) -> None:
        first = save_checkpoint(tmp_path / "a", {"x": 1, "y": 2}, {"network.a": torch.ones(2)})
        second = save_checkpoint(tmp_path / "b", {"y": 2, "x": 1}, {"network.a": torch.ones(2)})
        other = save_checkpoint(tmp_path / "c", {"x": 1, "y": 2}, {"network.a": torch.zeros(2)})
        assert first == second != other

    def test_sections(self, tmp_path: Path) -> None:
        tensors = {"network.fc.weight": torch.ones(1), "networks.b": torch.ones(2), "head.centers": torch.ones(3)}
        save_checkpoint(tmp_path / "a", {}, tensors)
        checkpoint = load_checkpoint(tmp_path / "a")
        assert set(checkpoint.section("network")) == {"fc.weight"}
        assert set(checkpoint.section("head")) == {"centers"}
        assert checkpoint.section("calibration") == {}

    def test_memory_layout_and_gradient_do_not_matter(self, tmp_path: Path) -> None:
        weight = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
        parameter = nn.Parameter(torch.randn(3, 5).T)
        save_checkpoint(tmp_path / "a", {}, {"network.a": weight, "network.b": parameter})
        section = load_checkpoint(tmp_path / "a").section("network")
        assert torch.equal(section["a"], weight)
        assert torch.equal(section["b"], parameter)
        assert not section["b"].requires_grad

    def test_a_whole_network_through_float16(self, tmp_path: Path) -> None:
        torch.manual_seed(0)
        network = build_backbone("iresnet18", width=0.05, embedding_size=8)
        network(torch.randn(4, 3, 112, 112))  # moves the running statistics
        stored = {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}
        save_checkpoint(tmp_path / "a", {}, {f"network.{key}": value for key, value in stored.items()})
        other = build_backbone("iresnet18", width=0.05, embedding_size=8)
        load_strictly(other, load_checkpoint(tmp_path / "a").section("network"), "a")
        for key, value in other.state_dict().items():
            assert value.dtype == network.state_dict()[key].dtype
            torch.testing.assert_close(value, network.state_dict()[key], atol=1e-6, rtol=1e-3)
        assert other.bn1.num_batches_tracked == 1
        image = torch.randn(1, 3, 112, 112)
        with torch.no_grad():
            torch.testing.assert_close(other.eval()(image), network.eval()(image), atol=0.05, rtol=0.01)

    def test_weights_in_few_bits(self, tmp_path: Path) -> None:
        weight = torch.randn(5, 3, 3, 3, generator=torch.Generator().manual_seed(0))
        tensors = quantized({"a.weight": weight}, bits=6)
        assert int(tensors["network.a.weight"].abs().max()) == 31
        save_checkpoint(tmp_path / "a", {}, tensors | {"network.bias": torch.ones(3).half()})
        stored = load_checkpoint(tmp_path / "a")
        assert stored.tensors["network.a.weight"].dtype == torch.int8
        found = stored.network()
        torch.testing.assert_close(found["a.weight"], dequantize(*quantize(weight, 6)))
        torch.testing.assert_close(found["bias"], torch.ones(3).half())

    @pytest.mark.parametrize("units", [{}, {"unit.a": torch.ones(3)}], ids=str)
    def test_int8_weights_without_their_scale(self, units: dict[str, torch.Tensor]) -> None:
        stored = Checkpoint({}, {"network.a": torch.ones(4, 2, dtype=torch.int8), **units}, "")
        with pytest.raises(CheckpointError, match="int8 weights a"):
            stored.network()

    def test_folders_are_made_and_others_may_read(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "deep" / "a.safetensors"
        save_checkpoint(path, {}, {})
        assert path.stat().st_mode & 0o777 == 0o644
        assert names(path.parent) == ["a.safetensors"]

    def test_the_repr_does_not_spill_weights(self, written: Path) -> None:
        assert "tensor" not in repr(load_checkpoint(written))


class TestAtomicWrite:
    def test_replaces_when_the_block_ends(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_text("old")
        with atomic_write(path) as temporary:
            assert temporary.parent == tmp_path
            temporary.write_text("new")
            assert path.read_text() == "old"
        assert path.read_text() == "new"
        assert names(tmp_path) == ["file"]

    @pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt, CheckpointError])
    def test_an_exception_leaves_the_old_file_and_no_other(self, tmp_path: Path, kind: type[BaseException]) -> None:
        path = tmp_path / "file"
        path.write_text("old")
        with pytest.raises(kind, match="on the way"), atomic_write(path) as temporary:  # noqa: PT012
            temporary.write_text("half of the n")
            raise kind("on the way")
        assert path.read_text() == "old"
        assert names(tmp_path) == ["file"]

    def test_a_folder_or_a_file_in_the_way(self, tmp_path: Path) -> None:
        (tmp_path / "folder").mkdir()
        (tmp_path / "file").write_text("x")
        for path in (tmp_path / "folder", tmp_path / "file" / "a"):
            with pytest.raises(EnvironmentProblem, match="cannot write"), atomic_write(path):
                pass
        assert names(tmp_path) == ["file", "folder"]

    @pytest.mark.parametrize(
        ("function", "number"),
        [
            ("arcinvert.checkpoint.temporary_file", errno.EACCES),
            ("os.fsync", errno.ENOSPC),
            ("os.replace", errno.EROFS),
        ],
    )
    def test_a_fault_of_the_disk_at_each_step(
        self, tmp_path: Path, written: Path, monkeypatch: pytest.MonkeyPatch, function: str, number: int
    ) -> None:
        before = written.read_bytes()

        def fails(*_: object, **__: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(function, fails)
        with pytest.raises(EnvironmentProblem) as caught:
            save_checkpoint(written, {"backbone": "y"}, {"network.weight": torch.zeros(9)})
        monkeypatch.undo()
        assert str(caught.value) == f"cannot write {str(written)!r}: {os.strerror(number)}"
        assert caught.value.exit_code == 5
        assert written.read_bytes() == before
        assert names(tmp_path) == [written.name]

    def test_a_disk_that_fills_up_while_writing(self, tmp_path: Path, written: Path) -> None:
        """A real limit of the kernel, not a patch: the weights are larger than a file may be."""
        resource = pytest.importorskip("resource")
        before = written.read_bytes()
        old = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, old[1]))
        try:
            with pytest.raises(EnvironmentProblem, match=r"cannot write .*: File too large"):
                save_checkpoint(written, {}, {"network.weight": torch.zeros(100_000)})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)
        assert written.read_bytes() == before
        assert names(tmp_path) == [written.name]


def raw_safetensors(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


class TestRefusals:
    def test_missing_file_and_folder(self, tmp_path: Path) -> None:
        for path in (tmp_path / "none.safetensors", tmp_path):
            with pytest.raises(CheckpointError, match="expected a checkpoint file, found none"):
                load_checkpoint(path)

    def test_truncated_at_every_length(self, tmp_path: Path, written: Path) -> None:
        content, path = written.read_bytes(), tmp_path / "cut"
        for keep in range(len(content)):
            path.write_bytes(content[:keep])
            with pytest.raises(CheckpointError, match="not a whole safetensors file"):
                load_checkpoint(path)

    @pytest.mark.parametrize(
        "content",
        [
            b"not a checkpoint at all",
            b"PK\x03\x04" + bytes(100),
            struct.pack("<Q", 2**62) + b"{}",
            raw_safetensors(b"{"),
            raw_safetensors(b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4]}}', bytes(4)),
            raw_safetensors(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4000]}}', bytes(4)),
        ],
        ids=["text", "zip", "endless header", "torn header", "shape that lies", "offset that lies"],
    )
    def test_what_is_not_safetensors(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(CheckpointError, match="not a whole safetensors file"):
            load_checkpoint(tmp_path / "a")

    def test_somebody_elses_safetensors(self, tmp_path: Path) -> None:
        save_file({"weight": torch.ones(2)}, tmp_path / "none")
        save_file({"weight": torch.ones(2)}, tmp_path / "other", metadata={"format": "pt"})
        for name in ("none", "other"):
            with pytest.raises(CheckpointError, match="carries no arcinvert header"):
                load_checkpoint(tmp_path / name)

    @pytest.mark.parametrize("text", ["", "{", "not json", "[" * 100_000], ids=["empty", "open", "text", "deep"])
    def test_header_that_is_not_json(self, tmp_path: Path, text: str) -> None:
        save_file({"weight": torch.ones(2)}, tmp_path / "a", metadata={"arcinvert": text})
        with pytest.raises(CheckpointError, match="is not JSON"):
            load_checkpoint(tmp_path / "a")

    @pytest.mark.parametrize(
        ("header", "found"), [({"format": 3}, "3"), ({"format": "1"}, "'1'"), ({}, "None"), ([1], r"\[1\]"), (7, "7")]
    )
    def test_another_format(self, tmp_path: Path, header: object, found: str) -> None:
        save_file({"weight": torch.ones(2)}, tmp_path / "a", metadata={"arcinvert": json.dumps(header)})
        with pytest.raises(CheckpointError, match=f"has header format {found}, this version reads 1"):
            load_checkpoint(tmp_path / "a")


def test_names_of_format_1_are_read_as_those_of_today(tmp_path: Path) -> None:
    header = {"format": 1, "preprocessing": {"colour": "BGR"}, "licence": "MIT"}
    save_file({"head.centres": torch.ones(2)}, tmp_path / "a", metadata={"arcinvert": json.dumps(header)})
    found = load_checkpoint(tmp_path / "a")
    assert found.header == {"format": 1, "preprocessing": {"color": "BGR"}, "license": "MIT"}
    assert set(found.tensors) == {"head.centers"}


class TestStrictLoading:
    @staticmethod
    def network() -> nn.Module:
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))

    def test_missing_extra_and_misshapen_are_all_named(self) -> None:
        network = self.network()
        before = {key: value.clone() for key, value in network.state_dict().items()}
        tensors = {key: value + 1 for key, value in before.items()}
        del tensors["0.bias"], tensors["1.running_var"]
        tensors["2.weight"] = torch.ones(1)
        tensors["0.weight"] = torch.ones(4, 5)
        with pytest.raises(CheckpointError) as caught:
            load_strictly(network, tensors, "'a.safetensors'")
        message = str(caught.value)
        assert message.startswith("'a.safetensors' does not fit its network (4 mismatches): ")
        assert message.split(": ", 1)[1].split("; ") == [
            "0.bias is missing",
            "1.running_var is missing",
            "2.weight is not part of the network",
            "0.weight is (4, 5), expected (4, 3)",
        ]
        for key, value in network.state_dict().items():
            assert torch.equal(value, before[key])

    def test_at_most_five_are_listed_and_all_are_counted(self) -> None:
        with pytest.raises(CheckpointError, match=r"\(7 mismatches\)") as caught:
            load_strictly(self.network(), {}, "x")
        assert str(caught.value).count("is missing") == 5

    def test_float16_is_widened_and_integers_stay(self) -> None:
        network = self.network()
        tensors = {k: torch.full_like(v, 3) for k, v in network.state_dict().items()}
        load_strictly(network, {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}, "x")
        for key, value in network.state_dict().items():
            assert value.dtype == tensors[key].dtype
            assert torch.equal(value, tensors[key])

    def test_buffers_that_are_not_stored_are_not_asked_for(self) -> None:
        network = self.network()
        network.register_buffer("scratch", torch.ones(3), persistent=False)
        load_strictly(network, self.network().state_dict(), "x")
        with pytest.raises(CheckpointError, match="scratch is not part of the network"):
            load_strictly(network, {**self.network().state_dict(), "scratch": torch.ones(3)}, "x")
