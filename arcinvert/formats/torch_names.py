"""Names of other people's modules, as those of ours: the same network under another name for each part."""

from collections.abc import Mapping

from torch import Tensor

_GDCONV = {"conv1": "layers.0", "conv2_dw": "layers.1", "conv_23": "layers.2", "conv_3": "layers.3"}
_GDCONV |= {"conv_34": "layers.4", "conv_4": "layers.5", "conv_45": "layers.6", "conv_5": "layers.7"}
_GDCONV |= {"conv_6_sep": "conv_sep", "conv_6_dw": "features.layers.0"}
_GDCONV |= {"linear": "features.layers.2", "bn": "features.layers.3"}
_STEP = {"conv": "0", "bn": "1", "prelu": "2"}
_PART = {"conv": "0", "conv_dw": "1", "project": "2"}


def gdconv_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A MobileFaceNet with global depthwise convolution (``conv_6_dw``), as arcface_torch's ``mbf`` names it.

    The layout of face.evoLVe, cavaface and others, such as ``conv_3.model.0.project.conv.weight``.
    """
    return {_renamed(key): value for key, value in state.items()}


def _renamed(key: str) -> str:
    first, *rest = key.split(".")
    place = _GDCONV.get(first)
    if place is None:
        return key
    if rest[:1] == ["model"]:
        place, rest = f"{place}.layers.{rest[1]}" if len(rest) > 1 else place, rest[2:]
    if len(rest) == 3 and rest[0] in _PART:  # a part of a separable unit
        place, rest = f"{place}.layers.{_PART[rest[0]]}", rest[1:]
    if len(rest) == 2 and rest[0] in _STEP:
        return f"{place}.layers.{_STEP[rest[0]]}.{rest[1]}"
    return ".".join([place, *rest])
