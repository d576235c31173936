"""Make arcinvert/data/auxiliary.safetensors from the weights of dlib's face recognition network.

    python scripts/make_auxiliary.py dlib_face_recognition_resnet_model_v1.dat

The file is in the PyPI package ``face_recognition_models`` (``models/``). Affine layers are folded into the
convolutions, whose weights are kept in 8 bits; the bias of the last layer removes the mean of the faces of the
face prior. If ``dlib`` can be imported, its own output is compared before the weights are rounded.
"""

import argparse
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from arcinvert.calibration.auxiliary import CHIP, PREPROCESSING, DlibResNet, load_auxiliary
from arcinvert.checkpoint import quantized, save_checkpoint
from arcinvert.faceprior.prior import FacePrior, default_face_prior
from arcinvert.formats.license import DLIB

OUT = Path(__file__).resolve().parents[1] / "arcinvert" / "data" / "auxiliary.safetensors"
LARGEST_DIFFERENCE = 1e-5


def parameters(data: bytes) -> list[Tensor]:
    """The parameters of each layer that has any, as dlib serializes them, from the image on."""
    found = []
    for match in re.finditer(rb"con_4|affine_|fc_2", data):
        # Integers are a byte that counts bytes, and these; a fully connected layer first says its two sizes.
        numbers, place = [], match.end()
        while len(numbers) < (7 if match.group() == b"fc_2" else 5):
            count = data[place] & 15
            numbers.append(int.from_bytes(data[place + 1 : place + 1 + count], "little"))
            place += 1 + count
        version, size = numbers[-5], int(np.prod(numbers[-4:]))
        if version != 2:
            raise SystemExit(f"expected a tensor of version 2, found {version}")
        found.append(torch.from_numpy(np.frombuffer(data, "<f4", size, place).copy()))
    return found


def network_of(data: bytes) -> DlibResNet:
    """The network, with no bias in its last layer yet."""
    *layers, last = parameters(data)
    network = DlibResNet().eval().requires_grad_(False)
    for convolution, weights, affine in zip(network.layers, layers[::2], layers[1::2], strict=True):
        assert isinstance(convolution, torch.nn.Conv2d)
        channels = convolution.out_channels
        gain, shift = affine[:channels], affine[channels:]
        kernel, bias = weights[:-channels].view(convolution.weight.shape), weights[-channels:]
        convolution.weight.copy_(kernel * gain.view(-1, 1, 1, 1))
        assert convolution.bias is not None
        convolution.bias.copy_(bias * gain + shift)
    network.fc.weight.copy_(last.view(network.fc.weight.shape[::-1]).T)
    network.fc.bias.zero_()
    return network


def compare(network: DlibResNet, source: Path, face: Tensor) -> None:
    """Whether dlib itself says the same of a chip."""
    try:
        import dlib
    except ImportError:
        print("dlib is not installed: not compared with it")
        return
    chip = interpolate(face[None].clamp(0, 1), size=(CHIP, CHIP), mode="bilinear")
    shown = (chip * 255).round().byte()
    ours = network.embed_chips(replace(PREPROCESSING, size=(CHIP, CHIP))(shown.float() / 255))
    model = dlib.face_recognition_model_v1(str(source))
    theirs = np.array(model.compute_face_descriptor(np.ascontiguousarray(shown[0].permute(1, 2, 0).numpy())))
    apart = float(np.abs(ours[0].numpy() - theirs).max())
    print(f"largest difference to dlib {dlib.__version__}: {apart:.1e}")
    if apart > LARGEST_DIFFERENCE:
        raise SystemExit("that is another network")


def faces_of(prior: FacePrior, rows: range) -> Tensor:
    """(N, 3, 112, 112) synthetic faces."""
    return prior.pictures(rows).permute(0, 3, 1, 2).float() / 255


def common(network: DlibResNet, prior: FacePrior, batch: int = 64) -> Tensor:
    """(128,) mean over the faces of the prior."""
    total = torch.zeros(network.fc.out_features)
    for start in range(0, len(prior), batch):
        total += network(PREPROCESSING(faces_of(prior, range(start, min(start + batch, len(prior)))))).sum(0)
    return total / len(prior)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("-o", "--out", type=Path, default=OUT)
    options = parser.parse_args()
    prior = default_face_prior()
    network = network_of(options.source.read_bytes())
    with torch.no_grad():
        compare(network, options.source, prior.mean)
        network.fc.bias.copy_(-common(network, prior))
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    kernels = {f"layers.{number}.weight": layer.weight for number, layer in enumerate(network.layers)}
    tensors |= quantized(kernels)
    source = "dlib_face_recognition_resnet_model_v1, Davis King, public domain (CC0)"
    save_checkpoint(options.out, {"kind": "auxiliary recognizer", "source": source, "license": DLIB}, tensors)
    faces = faces_of(prior, range(64))
    whole = normalize(network(PREPROCESSING(faces)))
    apart = 1 - (whole * load_auxiliary(options.out).embed(faces)).sum(1).min()
    print(
        f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB; rounding costs at most {float(apart):.4f} of cosine"
    )


if __name__ == "__main__":
    main()
