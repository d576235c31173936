"""A small face prior: a decoder of random weights, and what it draws as its synthetic faces."""

import io
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from arcinvert.faceprior.decoder import FaceDecoder
from arcinvert.faceprior.prior import ATTRIBUTES

DECODER: dict[str, Any] = {"latent": 24, "start": 8, "widths": [16, 12, 8, 8, 8, 8], "counts": [1, 1, 1, 1, 1]}
FACES = 64
HEADER = {"kind": "face prior", "decoder": DECODER}
CONTRAST = 6.0
"""How much stronger the decoder's pictures are than those of a new one, which are all nearly the same gray."""


def stored_prior(faces: int = FACES) -> dict[str, Tensor]:
    """The tensors of the file; its header is :data:`HEADER`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        decoder = FaceDecoder(DECODER["latent"], DECODER["start"], tuple(DECODER["widths"]), tuple(DECODER["counts"]))
        codes = (40 * torch.randn(faces, DECODER["latent"])).round().clamp(-127, 127).to(torch.int8)
        weight = torch.randn(len(ATTRIBUTES), DECODER["latent"]) * 0.03
    scale = torch.full((DECODER["latent"],), 1 / 40)
    with torch.no_grad():
        for stage in decoder.stages:
            stage.picture.weight *= CONTRAST
        decoder.stages[-1].picture.weight /= 40 * CONTRAST  # the large picture is the small one with a little detail
        decoder.stages[-1].picture.bias.zero_()
        drawn = decoder(codes * scale).clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1)
    files = [_webp(picture) for picture in drawn]
    ends = torch.tensor([0, *map(len, files)]).cumsum(0)
    return {
        **{f"network.{name}": value for name, value in decoder.state_dict().items()},
        "codes": codes,
        "code_scale": scale,
        "files": torch.frombuffer(bytearray(b"".join(files)), dtype=torch.uint8),
        "offsets": ends,
        "attributes.weight": weight,
        "attributes.bias": torch.tensor([0.0, 0.6, 0.88, 0.0, 0.45]),
        "attributes.spread": torch.full((len(ATTRIBUTES),), 0.1),
    }


def _webp(picture: Tensor) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture.numpy()).save(out, format="WEBP", quality=95)
    return out.getvalue()
