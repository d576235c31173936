"""The Inception network on which FID and KID are defined, as the package ``torch-fidelity`` builds it.

The package has no weights and would download them. Nothing is downloaded here: the user names the file, or it is in
torch's cache already.
"""

import hashlib
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from arcinvert.errors import EnvironmentProblem, InputError
from arcinvert.evaluation.readers.crops import read_crop
from arcinvert.progress import Progress, silent

WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"
"""The published file; the end of its name is the start of its SHA-256."""
_DAMAGED = (UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, OSError)


@dataclass(frozen=True, eq=False)
class Inception:
    """The frozen network.

    Attributes:
        network: (B, 3, H, W) uint8 RGB -> a tuple of (B, 2048) float32.
        digest: SHA-256 of its weight file.
        published: whether the weights are those of :data:`WEIGHTS`; only then is a distance in its space an FID.
    """

    network: Any
    digest: str
    published: bool

    @property
    def space(self) -> str:
        """Name of its feature space."""
        return "Inception" if self.published else f"Inception with the weights {self.digest[:12]}"

    def features(
        self, files: Sequence[Path], *, batch_size: int = 32, progress: Progress = silent
    ) -> NDArray[np.float32]:
        """(N, 2048) features of the aligned crops in ``files``.

        Raises:
            InputError: an image that cannot be read or is not 112x112.
        """
        device = next(self.network.parameters()).device
        parts = [np.empty((0, 2048), np.float32)]
        for start in range(0, len(files), batch_size):
            crops = np.stack([read_crop(path) for path in files[start : start + batch_size]])
            with torch.inference_mode():
                parts.append(self.network(torch.from_numpy(crops).permute(0, 3, 1, 2).to(device))[0].cpu().numpy())
            progress(start + len(crops), len(files), "Inception")
        return np.concatenate(parts)


def cached_weights() -> Path:
    """Path of the published weights in torch's cache; the file may be missing."""
    return Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS


def open_inception(weights: Path | None = None, *, device: torch.device | str = "cpu") -> Inception:
    """Load the network.

    Args:
        weights: the file; default: :func:`cached_weights`.
        device: where it runs.

    Raises:
        EnvironmentProblem: ``torch-fidelity`` is not installed, or the weights are missing.
        InputError: the file has other content.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError:
        raise EnvironmentProblem(
            "Inception needs the package torch-fidelity: pip install 'arcinvert[metrics]'"
        ) from None
    path = cached_weights() if weights is None else weights
    if not path.is_file():
        raise EnvironmentProblem(
            f"the weights of Inception are missing: expected {WEIGHTS} (of torch-fidelity's release v0.2.0) "
            f"at {str(path)!r}; nothing is downloaded, name the file with --weights or take --features recognizer"
        )
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            # The package unpickles its file without restrictions, so it gets a copy that holds tensors only.
            copy = io.BytesIO()
            torch.save({str(key): value for key, value in dict(state).items() if torch.is_tensor(value)}, copy)
            copy.seek(0)
            network = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=copy)
    except _DAMAGED as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{str(path)!r} is not the weight file of Inception: {reason}") from None
    return Inception(network.to(device), digest, digest.startswith(WEIGHTS[-12:-4]))
