"""Purification of noisy labels by sub-centers (Deng et al. 2020, *Sub-center ArcFace*, section 3.4).

After a training with K sub-centers per class, the dominant one is the one that most images of the class are nearest to;
the others attract images with wrong labels, and are dropped. An image is kept if its angle to
the dominant sub-center is small. Angles are in degrees here, as in the paper.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arcinvert.errors import InputError, UsageError
from arcinvert.training.data.clean_list import numbered_lines

ANGLE = 75.0
"""Degrees; the paper's threshold (70 to 80 works there)."""
LOST = 0.1
"""The share of the right labels that may be dropped when :func:`flank_threshold` chooses the threshold."""
BIN = 5
"""Width of a histogram's bins in degrees."""
CATEGORIES = ("clean, dominant", "wrong, dominant", "clean, other", "wrong, other")
"""The paper's four kinds of images: label right or wrong, nearest to the dominant or to another sub-center."""

Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Purified:
    """The angles of all images to the sub-centers, and the threshold.

    Attributes:
        labels: (N,) int64, the class of each image by its label.
        dominant: (C,) int64, the dominant sub-center of each class.
        nearest: (N,) int64, the sub-center of its class that each image is nearest to.
        angles: (N,) float64, degrees to the dominant sub-center of its class.
        threshold: degrees; images at larger angles are dropped.
    """

    labels: NDArray[np.int64]
    dominant: NDArray[np.int64]
    nearest: NDArray[np.int64]
    angles: NDArray[np.float64]
    threshold: float

    @property
    def kept(self) -> Bools:
        """(N,) True for the images that are kept."""
        return self.angles <= self.threshold

    @property
    def on_dominant(self) -> Bools:
        """(N,) True for the images that are nearest to the dominant sub-center of their class."""
        own: Bools = self.nearest == self.dominant[self.labels]
        return own


def purify(cosines: Tensor, labels: Tensor, classes: int, *, threshold: float | None = ANGLE) -> Purified:
    """Find the dominant sub-centers and the angles to them.

    Args:
        cosines: (N, K), of each image to the sub-centers of its own class.
        labels: (N,), integers below ``classes``.
        classes: C.
        threshold: degrees in (0, 180]; None: that of :func:`flank_threshold`.

    Raises:
        UsageError: a threshold out of range.
    """
    if threshold is not None and not 0 < threshold <= 180:
        raise UsageError(f"expected an angle in (0, 180] degrees, got {threshold}")
    nearest = cosines.argmax(1)
    votes = torch.zeros(classes, cosines.shape[1], dtype=torch.float64)
    votes.index_put_((labels, nearest), votes.new_ones(len(labels)), accumulate=True)
    # Ties in the votes go to the larger sum of cosines, which is at most the number of images.
    sums = torch.zeros_like(votes).index_add_(0, labels, cosines.double())
    dominant = (votes + sums / (2 * len(labels) + 2)).argmax(1)
    own = cosines.double().gather(1, dominant[labels][:, None])[:, 0]
    angles = own.clamp(-1, 1).acos().rad2deg().numpy()
    limit = flank_threshold(angles) if threshold is None else threshold
    return Purified(labels.numpy(), dominant.numpy(), nearest.numpy(), angles, limit)


def flank_threshold(angles: NDArray[np.float64], lost: float = LOST) -> float:
    """The angle above which about the share ``lost`` of the right labels lies, estimated from the angles alone.

    The mode of the angles is taken for that of the right labels, and nearly all images below it for right ones. If the
    right labels are distributed symmetrically around it, the distribution below predicts the one above. This is for
    networks that are small or shortly trained, all of whose angles are larger than the paper's, and for data with more
    right labels than wrong ones.

    Args:
        angles: (N,) degrees to the dominant sub-centers.
        lost: in (0, 0.5).

    Raises:
        InputError: angles that are nearly equal, or none.
    """
    if len(angles) == 0 or (spread := min(angles.std(), np.subtract(*np.quantile(angles, [0.75, 0.25])) / 1.34)) <= 0:
        raise InputError("expected images at different angles to choose a threshold, got angles that are nearly equal")
    counts, edges = np.histogram(angles, np.arange(0, 180.25, 0.25))
    middle = (edges[1:] + edges[:-1]) / 2
    width = max(1.06 * float(spread) * len(angles) ** -0.2, 0.25)  # Silverman's rule
    density = np.exp(-(((middle[:, None] - middle) / width) ** 2) / 2) @ counts
    mode = middle[density.argmax()]
    return float(min(2 * mode - np.quantile(angles[angles <= mode], 2 * lost), 180.0))


def read_true_labels(path: Path, files: Sequence[str]) -> list[str]:
    """The true identities of ``files``: lines ``identity/image``, a tab, the true identity.

    Raises:
        InputError: not such a file, or it does not name one of ``files``.
    """
    truth: dict[str, str] = {}
    for number, line in numbered_lines(path, "true labels"):
        file, tab, name = line.rpartition("\t")
        if not tab or not file or not name or file in truth:
            raise InputError(f"expected identity/image, a tab and an identity in line {number} of {str(path)!r}")
        truth[file] = name
    if missing := [file for file in files if file not in truth]:
        raise InputError(f"{str(path)!r} does not name {len(missing)} of the images, such as {missing[0]!r}")
    return [truth[file] for file in files]


def report(found: Purified, wrong: Sequence[bool] | None = None) -> dict[str, Any]:
    """Counts, shares and histograms of the angles, ready for JSON.

    Args:
        found: what :func:`purify` returned.
        wrong: (N,), True for the wrong labels, if they are known. The report then has the four categories of the
            paper, the share of the wrong labels that is found, and of the right ones that is dropped.
    """
    kept, classes = found.kept, len(found.dominant)
    left = np.bincount(found.labels[kept], minlength=classes)
    result: dict[str, Any] = {
        "images": len(kept),
        "kept": int(kept.sum()),
        "dropped": int((~kept).sum()),
        "threshold_degrees": found.threshold,
        "identities": classes,
        "identities_left": int((left > 0).sum()),
        "on_dominant": int(found.on_dominant.sum()),
        "median_angle": float(np.median(found.angles)),
        "histogram": {"bin_degrees": BIN, "all": _histogram(found.angles), "kept": _histogram(found.angles[kept])},
    }
    if wrong is None:
        return result
    bad = np.array(wrong, bool)
    rows = [side & label for side in (found.on_dominant, ~found.on_dominant) for label in (~bad, bad)]
    result["categories"] = {
        name: {
            "images": int(row.sum()),
            "share": float(row.mean()),
            "dropped": int((row & ~kept).sum()),
            "histogram": _histogram(found.angles[row]),
        }
        for name, row in zip(CATEGORIES, rows, strict=True)
    }
    result["wrong"] = int(bad.sum())
    result["wrong_found"] = float((~kept)[bad].mean()) if bad.any() else None
    result["right_dropped"] = float((~kept)[~bad].mean()) if (~bad).any() else None
    return result


def _histogram(angles: NDArray[np.float64]) -> list[int]:
    """The number of angles in each bin from 0 to 180 degrees."""
    counts: list[int] = np.histogram(angles, np.arange(0, 180 + BIN, BIN))[0].tolist()
    return counts
