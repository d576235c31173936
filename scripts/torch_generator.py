"""The generator behind ``face_generator.py`` in PyTorch, so that it runs on a GPU and can be differentiated.

    pip install '.[faces]'
    python scripts/torch_generator.py --out generator.npz

writes the weights of the package ``random-face`` (Apache License 2.0) and the latent space: 256 whitened principal
axes of the styles, the latents of random people, and where in a picture the aligned face is expected, learned from
what the detector finds in the first pictures of ``make_pairs.py``. The same network goes, in 8 bits, to
arcinvert/data/generator.safetensors.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from arcinvert.checkpoint import quantized, save_checkpoint
from arcinvert.faceprior.generator import AXES, FaceGenerator
from arcinvert.formats.license import GENERATOR

CONVOLUTIONS = (
    (11, None, 21, 40, 41),
    (77, 87, 88, 107, 108), (110, 120, 121, 140, 141), (177, 187, 188, 207, 208), (210, 220, 221, 240, 241),
    (277, 287, 288, 307, 308), (310, 320, 321, 340, 341), (377, 387, 388, 407, 408), (410, 420, 421, 440, 441),
    (477, 487, 488, 507, 508), (510, 520, 521, 540, 541), (577, 587, 588, 607, 608), (610, 620, 621, 640, 641),
    (677, 687, 688, 707, 708), (710, 720, 721, 740, 741),
)  # fmt: skip
"""Numbers of the nodes of a layer: style, depthwise and pointwise convolution, noise, bias."""
SCALES = {11: 19, 77: 85, 110: 118, 177: 185, 210: 218, 277: 285, 310: 318, 377: 385, 410: 418, 477: 485, 510: 518,
          577: 585, 610: 618, 677: 685, 710: 718, 743: 751}  # fmt: skip
UPS = (52, 152, 252, 352, 452, 552, 652)
"""Nodes of the styles before the size doubles, in the order of the layers."""
LAST = (743, 753, 754)
"""Nodes of the style, the convolution and the bias that make the picture."""
SHARE = 224 / 256
"""Of the crops of ``make_pairs.py``, without their margin."""
RIDGE = 300.0
"""How much large weights cost in the regression from latents to the place of the face."""
LARGE = 2000
"""Arrays of more numbers are stored in half precision."""


def generator_of(stored: dict[str, np.ndarray]) -> FaceGenerator:
    """The generator of the arrays that :func:`extracted` and :func:`latent_space` give."""
    generator = FaceGenerator()

    def tensor(name: str) -> Tensor:
        return torch.from_numpy(np.array(stored[name], np.float32))

    mean, axes = tensor("space.mean"), tensor("space.decode")

    def set_style(linear: nn.Linear, node: int) -> None:
        weight, bias = tensor(f"gemm.{node}.w"), tensor(f"gemm.{node}.b")
        scale = float(stored[f"mul.{SCALES[node]}"][0]) if node in SCALES else 1.0
        linear.weight.data, linear.bias.data = weight @ axes.T * scale, (weight @ mean + bias) * scale

    rises = iter(UPS)
    generator.constant.data = tensor("const")[0]
    for layer, (style, depth, point, noise, bias) in zip(generator.layers, CONVOLUTIONS, strict=True):
        if layer.rise is not None:
            set_style(layer.rise, next(rises))
        set_style(layer.style, style)
        if depth is not None:
            layer.depth.data = tensor(f"conv.{depth}").reshape(layer.depth.shape)
        layer.point.data = tensor(f"conv.{point}").reshape(layer.point.shape)
        shift = tensor(f"noise.{noise}")[0, 0]
        edge = (len(shift) - layer.size) // 2
        layer.noise.data = shift[edge : edge + layer.size, edge : edge + layer.size].contiguous()
        layer.bias.data = tensor(f"bias.{bias}")
    set_style(generator.style, LAST[0])
    generator.last.weight.data = tensor(f"conv.{LAST[1]}")[:3, :, 0, 0].contiguous()
    generator.last.bias.data = tensor(f"bias.{LAST[2]}")[:3].contiguous()
    whole = torch.tensor([[SHARE], [SHARE], [1.0], [1.0]])
    generator.place.weight.data = tensor("space.align").T * whole
    generator.place.bias.data = tensor("space.align_bias") * whole[:, 0]
    return generator.eval().requires_grad_(False)


def save(generator: FaceGenerator, path: Path) -> None:
    """Write the generator in 8 bits, what is small or added to a map in 16; its early exit has a file of its own."""
    state = {name: value for name, value in generator.state_dict().items() if not name.startswith("early_exit.")}
    products = {name: value for name, value in state.items() if value.ndim > 1 and not name.endswith("noise")}
    tensors = quantized(products)
    tensors |= {f"network.{name}": value.half() for name, value in state.items() if name not in products}
    source = "the package random-face 2021.7.21.1, Sergei Belousov, Apache License 2.0; weights rounded to 8 bits"
    save_checkpoint(path, {"kind": "face generator", "source": source, "license": GENERATOR}, tensors)


def extracted(network: Any) -> dict[str, np.ndarray]:
    """The constants of the synthesis network that :class:`Generator` takes, read with openvino."""
    import openvino

    core = openvino.Core()

    def constant(node: Any) -> np.ndarray:
        model = openvino.Model([node.output(0)], [], "constant")
        return np.array(core.compile_model(model, "CPU")({})[0])

    found = {}
    nodes = {node.get_friendly_name(): node for node in network.get_ordered_ops()}
    found["const"] = constant(nodes["Expand_9"].input_value(0).get_node())
    for name, node in nodes.items():
        kind, number = node.get_type_name(), name.split("_")[1].split("/")[0] if "_" in name else ""
        inputs = [node.input_value(i).get_node() for i in range(node.get_input_size())]
        shapes = [str(node.input_value(i).get_partial_shape()) for i in range(len(inputs))]
        if name.startswith("Gemm_") and kind == "Add":
            found[f"gemm.{number}.w"] = constant(inputs[0].input_value(1).get_node())
            found[f"gemm.{number}.b"] = constant(inputs[1]).ravel()
        elif name.startswith("Mul_") and kind == "Multiply" and "[1,1,1,1]" in shapes:
            found[f"mul.{number}"] = constant(inputs[shapes.index("[1,1,1,1]")]).ravel()
        elif kind in ("Convolution", "GroupConvolution"):
            found[f"conv.{number}"] = constant(inputs[1])
        elif name.startswith("Add_") and kind == "Add":
            for value, shape in zip(inputs, shapes, strict=True):
                if shape.startswith("[1,1,"):
                    found[f"noise.{number}"] = constant(value)
                elif shape.endswith(",1,1]") and value.get_type_name() != "Multiply":
                    found[f"bias.{number}"] = constant(value).ravel()
    return found


def places(generator: Any, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Styles (3, 512), and where the aligned face lies (a, b, x, y), of the first pictures of ``make_pairs.py``.

    A point (u, v) of the crop is (a u - b v + x, b u + a v + y) of the picture; both go from -1 to 1.
    """
    from make_pairs import SIDE, TARGET, draw

    from arcinvert.errors import InputError
    from arcinvert.faces.alignment import RetinaFace, similarity

    detector = RetinaFace(views=(480,))
    for index in range(count):
        styles, _ = draw(generator, 7, index)
        early, middle, late = styles.astype(np.float32)
        picture = generator.picture(early, late, middle)
        found = detector.detect(picture)
        try:
            matrix = similarity(found[0].landmarks, TARGET)
        except (IndexError, InputError):  # no face
            continue
        back = np.linalg.inv(matrix[:, :2])
        side = len(picture)
        x, y = (back @ (np.full(2, (SIDE - 1) / 2) - matrix[:, 2]) + 0.5) * 2 / side - 1
        yield styles.astype(np.float32), np.array([*(back[:, 0] * SIDE / side), x, y])


def latent_space(generator: Any, people: int, basis: int, pictures: int) -> dict[str, np.ndarray]:
    """The arrays ``space.*``, and the latents of the first ``people`` of ``basis`` random people."""
    rng = np.random.default_rng(123)
    styles = np.array([generator.style(rng, 1.0) for _ in range(basis)], np.float32) - generator.mean
    size, axes = np.linalg.eigh(np.cov(styles.T))
    size, axes = np.sqrt(size[: -AXES - 1 : -1]), axes[:, : -AXES - 1 : -1]
    encode = (axes / size).astype(np.float32)
    latents = styles[:people] @ encode
    unit = np.abs(latents).max(0) / 127

    pairs = list(places(generator, pictures))
    known = np.array([((own - generator.mean) @ encode)[:2].ravel() for own, _ in pairs])  # late layers move nothing
    known = np.c_[known, np.ones(len(known))]
    ridge = RIDGE * np.eye(known.shape[1])
    ridge[-1, -1] = 0
    weight = np.linalg.solve(known.T @ known + ridge, known.T @ np.array([place for _, place in pairs]))
    return {
        "space.mean": generator.mean.astype(np.float32),
        "space.encode": encode,
        "space.decode": (axes * size).T.astype(np.float32),
        "space.align": weight[:-1].astype(np.float32),
        "space.align_bias": weight[-1].astype(np.float32),
        "people": np.round(latents / unit).astype(np.int8),
        "people_scale": unit.astype(np.float32),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shipped", type=Path, default=Path("arcinvert/data/generator.safetensors"))
    parser.add_argument("--people", type=int, default=20_000, help="random people whose latents are stored")
    parser.add_argument("--basis", type=int, default=60_000, help="random people behind the principal axes")
    parser.add_argument("--pictures", type=int, default=1050, help="pictures in which the detector looks for the face")
    parser.add_argument("--threads", type=int, default=0, help="0: all")
    options = parser.parse_args()
    if options.pictures < 1 or options.basis <= AXES or not 0 < options.people <= options.basis:
        parser.error(f"expected a picture, more than {AXES} people for the axes, and as many or fewer to store")
    import face_generator
    import openvino

    from arcinvert.errors import ArcInvertError

    try:
        generator = face_generator.Generator(options.threads)
        synthesis = openvino.Core().read_model(face_generator.networks() / "SynthesisNetwork.xml")
        arrays = extracted(synthesis) | latent_space(generator, options.people, options.basis, options.pictures)
    except ArcInvertError as error:
        raise SystemExit(f"torch_generator: {error}") from None
    with open(options.out, "wb") as file:
        np.savez(file, **{k: v.astype(np.float16) if _large(k, v) else v for k, v in arrays.items()})
    save(generator_of(dict(np.load(options.out))), options.shipped)
    for path in (options.out, options.shipped):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def _large(name: str, value: np.ndarray) -> bool:
    return name.startswith(("const", "gemm.", "conv.", "noise.", "bias.")) and value.size > LARGE


if __name__ == "__main__":
    main()
