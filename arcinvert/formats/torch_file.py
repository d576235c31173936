"""Importer of torch weight files, as arcface_torch, CVLFace, AdaFace and others write them; and of ArcFace-Paddle's.

Only tensors are unpickled (``weights_only=True``). The names of the tensors determine the layout, their
shapes the depth and width. :func:`arcinvert.checkpoint.load_strictly` checks later that every tensor fits.
"""

import logging
import re
import struct
import warnings
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from arcinvert.backbones.iresnet import BLOCKS
from arcinvert.backbones.mobilefacenet import BLOCKS as MOBILE_BLOCKS
from arcinvert.checkpoint import Checkpoint, file_digest
from arcinvert.errors import CheckpointError, EnvironmentProblem
from arcinvert.formats.paddle_file import read_state
from arcinvert.formats.torch_names import gdconv_names
from arcinvert.preprocessing import CROPS

log = logging.getLogger(__name__)

REMEDY = "where it was made, save its state_dict() or export it to ONNX"

State = dict[str, Tensor]
_DAMAGED = (
    *(UnpicklingError, SafetensorError, zipfile.BadZipFile, struct.error, EOFError, OSError, MemoryError),
    *(RuntimeError, LookupError, ValueError, TypeError, AttributeError, AssertionError, ArithmeticError),
)
_NUMBERS = {torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32, torch.int64}
_PREFIX = re.compile(r"(?:(?:module|_orig_mod|model|net|network|backbone|encoder|features(?=\.module\.))\.)*")
_WRAPPERS = (
    *("state_dict_backbone", "state_dict", "model_state_dict", "net_state_dict", "model", "net", "network", "backbone"),
    *("ema", "model_ema", "state_dict_ema"),
)
"""Keys under which training scripts save a state dict."""
_HEAD = re.compile(r"(head|margin|classifier|loss|logits)\..*|kernel|weight")
"""Names of a margin head that is saved beside the network."""
_COLOR = re.compile(r"""(?:^|[{,])[ \t]*["']?color_space["']?[ \t]*:[ \t]*["']?(\w*)""", re.MULTILINE)
_IR = {"input_layer.0": "conv1", "input_layer.1": "bn1", "input_layer.2": "prelu"}
_IR |= {"output_layer.0": "bn2", "output_layer.3": "fc", "output_layer.4": "features"}
_IR_BLOCK = {f"res_layer.{i}": part for i, part in enumerate(("bn1", "conv1", "bn2", "prelu", "conv2", "bn3"))}
_IR_BLOCK |= {"shortcut_layer.0": "downsample.0", "shortcut_layer.1": "downsample.1"}


def read(path: Path) -> Checkpoint:
    """Read a torch weight file, zipped or not, or safetensors without our header.

    Raises:
        CheckpointError: another kind of file, damaged, holds more than tensors, or has another layout.
        EnvironmentProblem: the file cannot be read.
    """
    paddle = path.suffix.lower() == ".pdparams" and path.is_file()
    stored, source = (read_state(path), "") if paddle else _unwrapped(_stored(path), path)
    state, prefix = _without_prefix(_checked(stored, path), path)
    made_by, color, contract = "arcface_torch", "RGB", dict[str, Any]()
    if any(key.startswith(("input_layer.", "body.")) for key in state):
        backbone, settings, state = _ir(state, path)
        made_by = "AdaFace" if re.sub(r"(module|_orig_mod)\.", "", prefix) == "model." else "CVLFace"
    elif any(key.startswith("conv_sep.") for key in state):
        backbone, settings = _mobilefacenet(state, path)
    elif any(key.startswith("conv_6_sep.") for key in state):
        state = gdconv_names(state)
        backbone, settings = _mobilefacenet(state, path)
    elif any(key.startswith("conv2d_1a.") for key in state):
        names = r"last_linear\.weight|last_bn\.(weight|bias|running_mean|running_var)"
        backbone, settings = "inception_resnet_v1", {"embedding_size": _size(state, names, "embedding's size", path)}
        made_by, contract = "facenet-pytorch", {"size": [160, 160], "std": [128 / 255] * 3, "crop": [*CROPS["facenet"]]}
    else:
        backbone, settings = _iresnet(state, path)
        made_by = "CVLFace" if prefix.endswith("net.") else made_by
    if made_by in ("AdaFace", "CVLFace"):
        color = "BGR" if made_by == "AdaFace" else _color(path)
    for key in [key for key in state if key.endswith(".running_mean")]:
        state.setdefault(key.removesuffix("running_mean") + "num_batches_tracked", torch.tensor(0))
    made_by = "ArcFace-Paddle" if paddle else made_by
    header = {
        "backbone": backbone,
        "backbone_settings": settings,
        "embedding_size": settings["embedding_size"],
        "preprocessing": {"size": [112, 112], "color": color, "mean": [0.5] * 3, "std": [0.5] * 3} | contract,
        "source": {"format": made_by + source, "file": path.name},
    }
    return Checkpoint(header, {f"network.{key}": tensor for key, tensor in state.items()}, file_digest(path))


def _stored(path: Path) -> object:
    """The content of the file, read as safetensors or by torch's restricted unpickler."""
    if not path.is_file():
        raise CheckpointError(f"expected a weight file, found none at {str(path)!r}")
    try:
        with open(path, "rb") as file:
            start = file.read(9)
    except OSError as error:
        raise EnvironmentProblem(f"cannot read {str(path)!r}: {error.strerror or error}") from None
    is_zip = start.startswith(b"PK\x03\x04")
    try:
        if start[8:] == b"{":
            return load_file(path)
        if is_zip:
            _check_archive(path)
        elif start[:1] != b"\x80":
            raise CheckpointError(f"{str(path)!r} is no torch or safetensors file: it starts with {start!r}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except _DAMAGED as error:
        text = " ".join(str(error).split())
        refused = re.search(r"GLOBAL (\w[\w.]{0,99})", text)
        if refused is not None:
            found = f"holds more than tensors: it asks for {refused[1]!r}, which is refused; {REMEDY}"
        else:  # leaves out torch's advice to load everything
            reason = re.search(r"WeightsUnpickler error: (.{1,200}?)(?: Check the documentation.*)?$", text)
            reason = reason or re.match(r"(?!Weights only)(.{1,200})", text)
            found = f"is damaged or truncated: {reason[1] if reason else _kind(error)}"
        raise CheckpointError(f"{str(path)!r} {found}") from None


def _check_archive(path: Path) -> None:
    """Check that a zip file is as ``torch.save`` writes it: tensors, no program, nothing compressed."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    names = [entry.filename for entry in entries]
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise CheckpointError(f"{str(path)!r} is a TorchScript archive, a program with its weights; {REMEDY}")
    if not any(name.endswith("/data.pkl") for name in names):
        raise CheckpointError(f"expected a zip archive of torch.save in {str(path)!r}, got one of {_some(names)}")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise CheckpointError(f"{str(path)!r} is compressed inside, which no file of torch.save is")


def _unwrapped(stored: object, path: Path) -> tuple[object, str]:
    """The state dict that a training script saved under a key, and what to call its source."""
    source = ""
    while isinstance(stored, Mapping):
        found = [key for key in _WRAPPERS if isinstance(stored.get(key), Mapping)]
        if not found:
            break
        if len(found) > 1:
            raise CheckpointError(f"expected one network in {str(path)!r}, got several, under {_some(found)}; {REMEDY}")
        source = " training state" if found[0] == "state_dict_backbone" else source
        stored = stored[found[0]]
    return stored, source


def _checked(stored: object, path: Path) -> State:
    """The tensors by name, without a margin head; checks that they are tensors and fit in the file."""
    if isinstance(stored, Mapping) and set(stored) == {"state", "param_groups"}:
        raise CheckpointError(f"{str(path)!r} holds the state of an optimizer, and no network")
    if not isinstance(stored, Mapping):
        raise CheckpointError(f"expected a state dict in {str(path)!r}, got a {_kind(stored)}; {REMEDY}")
    for key, value in stored.items():
        if not isinstance(key, str) or not key.isprintable() or not isinstance(value, Tensor):
            found = f"a {_kind(value)} under {str(key)[:60]!r} (beside {_some(list(stored))})"
            raise CheckpointError(f"expected a plain state dict in {str(path)!r}, got {found}; {REMEDY}")
        if value.layout != torch.strided or value.dtype not in _NUMBERS or value.device.type != "cpu":
            found = f"{value.layout}, {value.dtype}, on {value.device.type} under {key[:60]!r}"
            raise CheckpointError(f"expected plain tensors in {str(path)!r}, got {found}")
    heads = [key for key in stored if _HEAD.fullmatch(_PREFIX.sub("", key, count=1))]
    heads = heads if len(heads) < len(stored) or any("." in key for key in heads) else []
    if heads:
        log.info("%s: the margin head beside the network is left out: %s", path.name, _some(heads))
    state = {key: value.detach() for key, value in stored.items() if key not in heads}
    if sum(value.numel() * value.element_size() for value in state.values()) > path.stat().st_size:
        raise CheckpointError(f"expected tensors that fit in {str(path)!r}, got more bytes than the file has")
    return state


def _without_prefix(state: State, path: Path) -> tuple[State, str]:
    """The tensors by the names in the network itself, and the prefix that wrappers added."""
    cut = {key: match.end() for key in state if (match := _PREFIX.match(key))}
    anchors = ("input_layer.", "body.", "conv1.", "layer1.", "conv_sep.", "conv_6_sep.", "conv2d_1a.")
    prefixes = sorted({key[:end] for key, end in cut.items() if key[end:].startswith(anchors)})
    if len(prefixes) > 1:
        raise CheckpointError(f"expected one network in {str(path)!r}, got several, under {_some(prefixes)}")
    prefix = prefixes[0] if prefixes else ""
    return {key.removeprefix(prefix): value for key, value in state.items()}, prefix


def _iresnet(state: State, path: Path) -> tuple[str, dict[str, Any]]:
    """Name and settings of an IResNet in arcface_torch's layout."""
    depths = [_count(state, rf"layer{stage}\.") for stage in range(1, 5)]
    found = ""
    if any(".se." in key or ".se_block." in key for key in state):
        found = "blocks with squeeze-and-excitation"
    elif any("patch_embed" in key or ".attn." in key for key in state):
        found = "a transformer"
    elif not any(depths):
        found = f"tensors of {_some(list(dict.fromkeys(key.split('.')[0] for key in state)))}"
    elif not any(".prelu." in key for key in state):
        found = "a ResNet without PReLU"
    if found:
        raise CheckpointError(f"expected an IResNet or MobileFaceNet in {str(path)!r}, got {found}; try it as ONNX")
    backbone = _depth(depths, path)
    part = r"[0-9]+\.(conv[12]|prelu|bn[23])\.weight"
    channels = [_size(state, rf"layer{s}\.{part}", f"channels of layer{s}", path) for s in range(1, 5)]
    return backbone, {"width": _width(channels, path), "embedding_size": _embedding(state, path)}


def _ir(state: State, path: Path) -> tuple[str, dict[str, Any], State]:
    """Name, settings and renamed tensors of an IResNet in the layout of CVLFace and AdaFace."""
    found = ""
    if any("se_block" in key or ".fc1." in key for key in state):
        found = "blocks with squeeze-and-excitation (IR-SE)"
    elif any(".res_layer.7." in key for key in state):
        found = "bottleneck blocks (IR-152 or IR-200)"
    elif any(".res_layer.3." in key and value.ndim == 4 for key, value in state.items()):
        found = "blocks without a BatchNorm between their convolutions (face.evoLVe)"
    if found:
        raise CheckpointError(f"expected IR-18, 34, 50 or 101 in {str(path)!r}, got {found}; try it as ONNX")
    blocks = range(_count(state, r"body\."))
    channels = [_size(state, rf"body\.{i}\.res_layer\.[345]\.weight", f"channels of body.{i}", path) for i in blocks]
    depths = [len(list(stage)) for _, stage in groupby(channels)]
    backbone = _depth(depths, path)
    width = _width([count for count, _ in groupby(channels)], path)
    names = dict(_IR)
    places = [f"layer{stage}.{i}" for stage, depth in enumerate(depths, start=1) for i in range(depth)]
    for block, place in zip(blocks, places, strict=True):
        names |= {f"body.{block}.{theirs}": f"{place}.{ours}" for theirs, ours in _IR_BLOCK.items()}
    renamed: State = {}
    for key, value in state.items():
        part, _, kind = key.rpartition(".")
        renamed[f"{names.get(part, part)}.{kind}"] = value
    embedding = _embedding(renamed, path)
    renamed.setdefault("features.weight", torch.ones(embedding))
    renamed.setdefault("features.bias", torch.zeros(embedding))
    return backbone, {"width": width, "embedding_size": embedding, "shortcut": "pool"}, renamed


def _mobilefacenet(state: State, path: Path) -> tuple[str, dict[str, Any]]:
    """Name and settings of arcface_torch's ``mbf`` and ``mbf_large``."""
    blocks = [_count(state, rf"layers\.{place}\.layers\.", r"\.layers\.") for place in (1, 3, 5, 7)]
    blocks[0] = blocks[0] or 1
    if not all(blocks):
        raise CheckpointError(f"expected a whole MobileFaceNet in {str(path)!r}, got blocks {_dashed(blocks)}")
    small = _size(state, r"layers\.0\.layers\.[012]\.weight", "channels", path)
    settings: dict[str, Any] = {"width": small / 64, "embedding_size": _embedding(state, path)}
    return "mobilefacenet", settings | ({} if tuple(blocks) == MOBILE_BLOCKS else {"blocks": blocks})


def _depth(depths: Sequence[int], path: Path) -> str:
    for depth, blocks in BLOCKS.items():
        if tuple(depths) == blocks:
            return f"iresnet{depth}"
    known = ", ".join(_dashed(blocks) for blocks in BLOCKS.values())
    raise CheckpointError(f"expected stages of {known} blocks in {str(path)!r}, got {_dashed(depths)}")


def _width(channels: Sequence[int], path: Path) -> float:
    """The factor on 64, 128, 256 and 512 that results in these channels."""
    bases = (64, 128, 256, 512)
    low = max((count - 0.5) / base for count, base in zip(channels, bases, strict=True))
    high = min((count + 0.5) / base for count, base in zip(channels, bases, strict=True))
    for width in (channels[3] / 512, (low + high) / 2):
        if width > 0 and [max(1, round(width * base)) for base in bases] == list(channels):
            return width
    raise CheckpointError(f"expected channels in the ratio 1-2-4-8 in {str(path)!r}, got {_dashed(channels)}")


def _embedding(state: State, path: Path) -> int:
    names = r"fc\.(weight|bias)|features\.(layers\.[23]\.)?(weight|bias|running_mean|running_var)"
    return _size(state, names, "embedding's size", path)


def _count(state: State, before: str, after: str = r"\.") -> int:
    """How many consecutive numbers, from 0, occur between ``before`` and ``after`` in the names."""
    pattern = re.compile(rf"{before}([0-9]{{1,4}}){after}")
    numbers = {int(match[1]) for match in map(pattern.match, state) if match}
    return next(i for i in range(len(numbers) + 1) if i not in numbers)


def _size(state: State, names: str, what: str, path: Path) -> int:
    """The first size of the first tensor whose name matches."""
    for key, value in state.items():
        if re.fullmatch(names, key) and value.ndim and len(value):
            return len(value)
    raise CheckpointError(f"expected a whole network in {str(path)!r}, but no tensor determines the {what}")


def _color(path: Path) -> str:
    """The color order in CVLFace's description beside a weight file; RGB if there is none."""
    beside = (path.with_suffix(".yaml"), path.parent / "pretrained_model" / "model.yaml", path.parent / "config.json")
    for place in beside:
        try:
            with open(place, encoding="utf-8", errors="replace") as file:
                found = sorted(set(_COLOR.findall(file.read(1 << 16))))
        except OSError:
            continue
        if found not in ([], ["RGB"], ["BGR"]):
            raise CheckpointError(f"expected color_space RGB or BGR in {str(place)!r}, got {_some(found)}")
        if found:
            return str(found[0])
    return "RGB"


def _dashed(numbers: Iterable[int]) -> str:
    return "-".join(map(str, numbers))


def _some(names: Sequence[object]) -> str:
    shown = ", ".join(repr(str(name)[:40]) for name in names[:5]) or "nothing"
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _kind(value: object) -> str:
    return type(value).__name__
