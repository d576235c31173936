"""The generator behind ``make_faces.py``, and how a style is moved to the attributes that are asked for.

The generator is a MobileStyleGAN (Belousov 2021) in the package ``random-face``, run by OpenVINO. Attributes are read
off a picture; ridge regression from style to attributes gives a direction in style space for each.
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from arcinvert.errors import EnvironmentProblem, InputError
from arcinvert.faces.alignment import Detector, align, to_pil

ATTRIBUTES = ("yaw", "pitch", "smile", "side_light", "brightness")
TRUNCATION = 0.85
EARLY_LAYERS, LATE_LAYERS = 5, 12
"""How many of the first layers of the generator (up to 8x8) take ``style`` alone, and how many of the last ones (from
64x64) ``late``; those between take ``middle``."""
FAR = 3.0
"""Standard deviations beyond which a measured attribute is not believed."""


def networks() -> Path:
    """The folder with the files of both networks.

    Raises:
        EnvironmentProblem: the packages are missing, or do not hold the networks.
    """
    spec = importlib.util.find_spec("random_face")
    if spec is None or spec.origin is None or importlib.util.find_spec("openvino") is None:
        raise EnvironmentProblem("the generator is missing: pip install 'arcinvert[faces]' (openvino, random-face)")
    data = Path(spec.origin).parent / "data"
    if missing := [name for name in ("Mapping", "Synthesis") if not (data / f"{name}Network.xml").is_file()]:
        raise EnvironmentProblem(f"{str(data)!r} does not hold the {' and '.join(missing)} network of random-face")
    return data


class Generator:
    """The two networks of the package ``random-face``: a normal vector -> style (512) -> picture.

    Args:
        threads: 0 takes all cores.

    Raises:
        EnvironmentProblem: the packages are missing, or do not hold the networks.
    """

    def __init__(self, threads: int) -> None:
        data = networks()
        import openvino

        core = openvino.Core()
        settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
        self.mapping = core.compile_model(data / "MappingNetwork.xml", "CPU", settings)
        synthesis = core.read_model(data / "SynthesisNetwork.xml")
        _split_style(synthesis)
        self.synthesis = core.compile_model(synthesis, "CPU", settings)
        rng = np.random.default_rng(0)
        self.mean = np.mean([self.mapping(rng.standard_normal((1, 512), np.float32))[0][0] for _ in range(4096)], 0)

    def style(self, rng: np.random.Generator, truncation: float = TRUNCATION) -> np.ndarray:
        """(512,) of a random person."""
        style = self.mapping(rng.standard_normal((1, 512), np.float32))[0][0]
        return np.asarray(self.mean + truncation * (style - self.mean))

    def picture(
        self, style: np.ndarray, late: np.ndarray | None = None, middle: np.ndarray | None = None
    ) -> np.ndarray:
        """(512, 512, 3) uint8 RGB.

        Args:
            style: of all layers that are given no other one; the first ones decide pose and shape.
            late: of the last layers, which decide color and light.
            middle: of the layers between, which decide the features.
        """
        inputs = {
            "style": style,
            "middle": style if middle is None else middle,
            "late": style if late is None else late,
        }
        image = self.synthesis({name: value[None] for name, value in inputs.items()})[0][0]
        pixels = (np.clip((image.transpose(1, 2, 0) + 1) / 2, 0, 1) * 255 + 0.5).astype(np.uint8)
        return np.array(to_pil(pixels).reduce(2))


def _split_style(network: Any) -> None:
    """Give the middle and the last layers inputs of their own, named ``middle`` and ``late``."""
    import openvino

    opset = openvino.opset13
    style = network.input("style")
    users = [user for user in style.get_target_inputs() if user.get_node().get_type_name() != "ShapeOf"]
    users.sort(key=lambda user: int(user.get_node().get_friendly_name().split("_")[1].split("/")[0]))  # Gemm_NUMBER/...
    for name, layers in (("middle", users[EARLY_LAYERS:-LATE_LAYERS]), ("late", users[-LATE_LAYERS:])):
        added = opset.parameter([1, 512], np.float32, name=name)
        added.output(0).set_names({name})
        for user in layers:
            user.replace_source_output(added.output(0))
        network.add_parameters([added])


@dataclass(frozen=True, eq=False)
class Shot:
    """A picture, aligned.

    Attributes:
        crop: (112, 112, 3) uint8 RGB.
        attributes: (5,) what :func:`measure` found.
    """

    crop: np.ndarray
    attributes: np.ndarray


def shoot(picture: np.ndarray, detector: Detector) -> Shot | None:
    """Align the largest face; None without one."""
    faces = detector.detect(picture)
    if not faces:
        return None
    points = faces[0].landmarks
    crop = align(picture, points)
    return Shot(crop, measure(points, crop))


def measure(points: np.ndarray, crop: np.ndarray) -> np.ndarray:
    """(5,) the attributes, unstandardized, of (5, 2) points and the aligned crop."""
    left, right, nose, mouth_left, mouth_right = points
    across = right - left
    distance = float(np.linalg.norm(across))
    along, down = across / distance, np.array([-across[1], across[0]]) / distance
    middle, mouth = (left + right) / 2, (mouth_left + mouth_right) / 2
    center = (middle + mouth) / 2
    yaw = float((nose - center) @ along) / distance
    pitch = float((nose - middle) @ down) / float((mouth - middle) @ down)
    smile = float(np.linalg.norm(mouth_right - mouth_left)) / distance
    gray = crop[30:100, 20:92].mean(2)
    side = float(gray[:, 36:].mean() - gray[:, :36].mean())
    return np.array([yaw, pitch, smile, side, float(gray.mean())])


@dataclass(frozen=True, eq=False)
class Directions:
    """How a style moves when an attribute moves by one standard deviation.

    Attributes:
        weight: (512, 5), bias: (5,) of the regression style -> standardized attributes.
        direction: (5, 512).
    """

    weight: np.ndarray
    bias: np.ndarray
    direction: np.ndarray

    def of(self, style: np.ndarray) -> np.ndarray:
        """(5,) the predicted attributes, in standard deviations."""
        return np.asarray(style @ self.weight + self.bias)

    def moved(self, style: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """The style at which all five predicted attributes take the wanted values."""
        effect = self.direction @ self.weight
        return np.asarray(style + np.linalg.solve(effect.T, wanted - self.of(style)) @ self.direction)


def _standard(values: np.ndarray) -> np.ndarray:
    return np.asarray((values - values.mean(0)) / values.std(0))


def fit_directions(styles: np.ndarray, attributes: np.ndarray, ridge: float = 100.0) -> tuple[Directions, np.ndarray]:
    """Learn the directions, and how well they are known.

    Args:
        styles: (N, 512) of random people.
        attributes: (N, 5) measured on their pictures.
        ridge: how much large weights cost.

    Returns:
        The directions (the style covariance times the regression weights), and (5,) the correlation of prediction
        and measurement on the last fifth of the samples, of a fit to the others.

    Raises:
        InputError: fewer than 20 samples.
    """
    if len(styles) < 20:
        raise InputError(f"expected at least 20 samples with a face to learn directions from, got {len(styles)}")

    def fit(rows: slice) -> tuple[np.ndarray, np.ndarray]:
        x, y = styles[rows], standardized[rows]
        center = x.mean(0)
        scale = x.std(0).mean()
        z = (x - center) / scale
        weight = np.linalg.solve(z.T @ z + ridge * np.eye(z.shape[1]), z.T @ (y - y.mean(0))) / scale
        return weight, y.mean(0) - center @ weight

    standardized = _standard(_standard(attributes).clip(-FAR, FAR))  # beyond lie points that the detector got wrong
    cut = len(styles) * 4 // 5
    weight, bias = fit(slice(0, cut))
    unseen = styles[cut:] @ weight + bias
    quality = np.array([np.corrcoef(unseen[:, i], standardized[cut:, i])[0, 1] for i in range(len(ATTRIBUTES))])
    weight, bias = fit(slice(None))
    return Directions(weight, bias, (np.cov(styles.T) @ weight).T), quality
