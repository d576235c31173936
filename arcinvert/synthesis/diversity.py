"""Diversity of the variations of a target: LPIPS where its weights are, else a distance of the attacked network's maps.

LPIPS (Zhang et al. 2018) needs AlexNet as torchvision publishes it. Nothing is downloaded: the file
must be in torch's cache already, or be named by ``ARCINVERT_LPIPS_BACKBONE``.
"""

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from arcinvert.errors import CheckpointError, EnvironmentProblem
from arcinvert.inversion.priors import stored_statistics
from arcinvert.inverter import Inverter

BACKBONE = "alexnet-owt-7be5be79.pth"
VARIABLE = "ARCINVERT_LPIPS_BACKBONE"
CHUNK = 32


@dataclass(frozen=True, eq=False)
class Distance:
    """A distance between images.

    Attributes:
        name: ``lpips`` or ``feature_distance``.
        note: why it is this one.
        mean: (V, 112, 112, 3) uint8 -> the mean over all pairs; None where there is no pair.
    """

    name: str
    note: str
    mean: Callable[[Tensor], float | None]


def open_distance(inverter: Inverter) -> Distance:
    """LPIPS if its backbone is on this machine, else :func:`feature_distance`.

    Raises:
        EnvironmentProblem: ``ARCINVERT_LPIPS_BACKBONE`` names no file, or the ``lpips`` package is missing.
        CheckpointError: the file is no AlexNet.
    """
    named = os.environ.get(VARIABLE)
    path = Path(named) if named else Path(torch.hub.get_dir()) / "checkpoints" / BACKBONE
    if named and not path.is_file():
        raise EnvironmentProblem(f"expected AlexNet's weights at {named!r} ({VARIABLE}), found no file")
    if path.is_file():
        return Distance("lpips", "LPIPS 0.1 with AlexNet", _lpips(path))
    return Distance(
        "feature_distance",
        f"LPIPS was not measured: AlexNet's weights ({BACKBONE}) are not in torch's cache and {VARIABLE} names none. "
        "feature_distance is 1 - cosine of the attacked network's standardized early activations, position by position",
        lambda images: feature_distance(inverter, images),
    )


@torch.no_grad()
def feature_distance(inverter: Inverter, images: Tensor) -> float | None:
    """Mean over pairs, early layers and positions of 1 - cosine between the channels of two images.

    The layers are those of 56 to 28 pixels; each channel is first put in units of the statistics
    that the network (or its calibration) stores of it. 0 for equal images, about 1 for unrelated ones.
    As in LPIPS, activations are compared at the same position only.

    Args:
        inverter: whose layers and statistics.
        images: (V, 112, 112, 3) uint8.

    Returns:
        None for fewer than two images, or a network without such layers.
    """
    recognizer = inverter.recognizer
    known = stored_statistics(recognizer, inverter.calibration, largest=56)
    layers = {name: known[name] for name in known if recognizer.layer_sizes[name][1] >= 28}
    count = len(images)
    if count < 2 or not layers:
        return None
    sums: dict[str, Tensor] = {}
    for chunk in torch.split(images, CHUNK):
        shown = chunk.to(recognizer.device).permute(0, 3, 1, 2).float() / 255
        trace = recognizer.trace(shown, taps=tuple(layers))
        for name, stored in layers.items():
            mean, var = stored.mean[stored.usable], stored.var[stored.usable]
            values = trace.activations[name].float()[:, stored.usable]
            unit = normalize((values - mean.view(-1, 1, 1)) / var.sqrt().view(-1, 1, 1))
            sums[name] = sums.get(name, torch.zeros_like(unit[0])) + unit.sum(0)
    # Of V unit vectors the mean cosine over pairs is (|sum|^2 - V) / (V (V - 1)).
    cosines = [((total.square().sum(0) - count) / (count * (count - 1))).mean() for total in sums.values()]
    return float(1 - torch.stack(cosines).mean())


def _lpips(path: Path) -> Callable[[Tensor], float | None]:
    try:
        import lpips
    except ImportError as error:
        raise EnvironmentProblem(f"cannot load the package lpips: {error}") from None
    # It warns of torchvision's old names, and initializes random weights that are replaced below.
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    _load_alexnet(network.net, path)
    network.requires_grad_(False)

    @torch.no_grad()
    def mean(images: Tensor) -> float | None:
        if len(images) < 2:
            return None
        shown = images.permute(0, 3, 1, 2).float() / 255
        pairs = torch.combinations(torch.arange(len(images)))
        found = [network(shown[p[:, 0]], shown[p[:, 1]], normalize=True).flatten() for p in torch.split(pairs, CHUNK)]
        return float(torch.cat(found).mean())

    return mean


def _load_alexnet(network: nn.Module, path: Path) -> None:
    """Fill LPIPS's slices of AlexNet, whose layers keep their number of torchvision's ``features``."""
    names = {key: f"features.{key.split('.', 1)[1]}" for key in network.state_dict()}
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict({key: stored[name] for key, name in names.items()})
    except (UnpicklingError, OSError, EOFError, RuntimeError, LookupError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise CheckpointError(
            f"{str(path)!r} is no AlexNet of torchvision's: {type(error).__name__} {reason}"
        ) from None
