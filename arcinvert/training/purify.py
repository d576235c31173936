"""Purification of noisy labels by sub-centers (Deng et al. 2020, *Sub-center ArcFace*, section 3.4).

After a training with K sub-centers per class, the dominant one is that which most pictures of the class lie closest to;
the others have gathered what does not belong there, and are dropped. A picture stays if its angle to
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

ANGLE = 75.0
"""Degrees; the paper's threshold (70 to 80 works there)."""
LOST = 0.1
"""The share of the right labels that may be lost, where the angles themselves give the threshold."""
BIN = 5
"""Degrees of a bar of the histograms."""
CATEGORIES = ("clean, dominant", "wrong, dominant", "clean, other", "wrong, other")
"""The paper's four kinds of pictures: label right or wrong, nearest to the dominant or to another sub-center."""

Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Purified:
    """What the sub-centers say of every picture.

    Attributes:
        labels: (N,) int64, the class each picture is said to be of.
        dominant: (C,) int64, the dominant sub-center of each class.
        nearest: (N,) int64, the sub-center of its class that each picture is nearest to.
        angles: (N,) float64, degrees to the dominant sub-center of its class.
        threshold: degrees; what lies beyond is dropped.
    """

    labels: NDArray[np.int64]
    dominant: NDArray[np.int64]
    nearest: NDArray[np.int64]
    angles: NDArray[np.float64]
    threshold: float

    @property
    def kept(self) -> Bools:
        """(N,): which pictures stay."""
        return self.angles <= self.threshold

    @property
    def on_dominant(self) -> Bools:
        """(N,): which pictures are nearest to the dominant sub-center of their class."""
        own: Bools = self.nearest == self.dominant[self.labels]
        return own


def purify(cosines: Tensor, labels: Tensor, classes: int, *, threshold: float | None = ANGLE) -> Purified:
    """Find the dominant sub-centers and the angles to them.

    Args:
        cosines: (N, K), of each picture to the sub-centers of its own class.
        labels: (N,), integers below ``classes``.
        classes: C.
        threshold: degrees in (0, 180]; None: that of :func:`flank`.

    Raises:
        UsageError: a threshold out of range.
    """
    if threshold is not None and not 0 < threshold <= 180:
        raise UsageError(f"expected an angle in (0, 180] degrees, got {threshold}")
    nearest = cosines.argmax(1)
    votes = torch.zeros(classes, cosines.shape[1], dtype=torch.float64)
    votes.index_put_((labels, nearest), votes.new_ones(len(labels)), accumulate=True)
    # Of two with as many pictures, the one that is closer to all of them; a sum of cosines is at most their number.
    sums = torch.zeros_like(votes).index_add_(0, labels, cosines.double())
    dominant = (votes + sums / (2 * len(labels) + 2)).argmax(1)
    own = cosines.double().gather(1, dominant[labels][:, None])[:, 0]
    angles = own.clamp(-1, 1).acos().rad2deg().numpy()
    limit = flank(angles) if threshold is None else threshold
    return Purified(labels.numpy(), dominant.numpy(), nearest.numpy(), angles, limit)


def flank(angles: NDArray[np.float64], lost: float = LOST) -> float:
    """The angle beyond which about the share ``lost`` of the right labels lies, by the angles alone.

    The commonest angle is that of right labels, and below it there are hardly others. If the right ones lie alike on
    both sides of it, what is below says how far they reach above. For networks that are small or shortly trained,
    all of whose angles are larger than the paper's. It needs more right labels than wrong ones.

    Args:
        angles: (N,) degrees to the dominant sub-centers.
        lost: in (0, 0.5).

    Raises:
        InputError: angles that are all about the same, or none.
    """
    if len(angles) == 0 or (spread := min(angles.std(), np.subtract(*np.quantile(angles, [0.75, 0.25])) / 1.34)) <= 0:
        raise InputError("expected pictures at different angles to choose a threshold by, they are all about the same")
    counts, edges = np.histogram(angles, np.arange(0, 180.25, 0.25))
    middle = (edges[1:] + edges[:-1]) / 2
    width = max(1.06 * float(spread) * len(angles) ** -0.2, 0.25)  # Silverman's rule
    density = np.exp(-(((middle[:, None] - middle) / width) ** 2) / 2) @ counts
    mode = middle[density.argmax()]
    return float(min(2 * mode - np.quantile(angles[angles <= mode], 2 * lost), 180.0))


def read_true_labels(path: Path, files: Sequence[str]) -> list[str]:
    """Who each of ``files`` shows in truth: lines ``identity/picture``, a tab, the true identity.

    Raises:
        InputError: not such a text, or a file that it does not name.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the true labels {str(path)!r}: {error}") from None
    truth: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        file, tab, name = line.rstrip("\r").rpartition("\t")
        if not tab or not file or not name or file in truth:
            raise InputError(f"expected identity/picture, a tab and an identity in line {number} of {str(path)!r}")
        truth[file] = name
    if missing := [file for file in files if file not in truth]:
        raise InputError(f"{str(path)!r} does not name {len(missing)} of the pictures, such as {missing[0]!r}")
    return [truth[file] for file in files]


def report(found: Purified, wrong: Sequence[bool] | None = None) -> dict[str, Any]:
    """Counts, shares and histograms of the angles, ready for JSON.

    Args:
        found: what :func:`purify` returned.
        wrong: (N,), which labels are wrong, if that is known: the four categories of the paper, the
            share of the wrong labels that is found, and of the right ones that is dropped.
    """
    kept, classes = found.kept, len(found.dominant)
    left = np.bincount(found.labels[kept], minlength=classes)
    said: dict[str, Any] = {
        "pictures": len(kept),
        "kept": int(kept.sum()),
        "dropped": int((~kept).sum()),
        "threshold_degrees": found.threshold,
        "identities": classes,
        "identities_left": int((left > 0).sum()),
        "on_dominant": int(found.on_dominant.sum()),
        "median_angle": float(np.median(found.angles)),
        "histogram": {"bin_degrees": BIN, "all": _bars(found.angles), "kept": _bars(found.angles[kept])},
    }
    if wrong is None:
        return said
    bad = np.array(wrong, bool)
    rows = [side & label for side in (found.on_dominant, ~found.on_dominant) for label in (~bad, bad)]
    said["categories"] = {
        name: {
            "pictures": int(row.sum()),
            "share": float(row.mean()),
            "dropped": int((row & ~kept).sum()),
            "histogram": _bars(found.angles[row]),
        }
        for name, row in zip(CATEGORIES, rows, strict=True)
    }
    said["wrong"] = int(bad.sum())
    said["wrong_found"] = float((~kept)[bad].mean()) if bad.any() else None
    said["right_dropped"] = float((~kept)[~bad].mean()) if (~bad).any() else None
    return said


def _bars(angles: NDArray[np.float64]) -> list[int]:
    """How many angles lie in each bin from 0 to 180 degrees."""
    counts: list[int] = np.histogram(angles, np.arange(0, 180 + BIN, BIN))[0].tolist()
    return counts
