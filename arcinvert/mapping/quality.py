"""How good a map is, measured on the pairs of people that it had not seen."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from arcinvert.errors import InputError
from arcinvert.evaluation.intervals import wilson_interval
from arcinvert.evaluation.metrics import eer, operating_points
from arcinvert.mapping.linear_map import Rows

FMRS = (1e-2, 1e-3)
MOST_PICTURES = 4000
"""Pictures, spread evenly, whose pairs are compared; their sixteen million cosines fit into memory."""


@dataclass(frozen=True)
class Verification:
    """How well a comparison tells people apart, over all pairs of two different pictures.

    Attributes:
        name: what is compared with what.
        eer: equal error rate.
        fmr: the false match rates of ``tar``.
        tar: true accept rate at each; None where too few impostor pairs fix a threshold.
        genuine_pairs, impostor_pairs: number of pairs.
    """

    name: str
    eer: float
    fmr: tuple[float, ...]
    tar: tuple[float | None, ...]
    genuine_pairs: int
    impostor_pairs: int


@dataclass(frozen=True)
class MapQuality:
    """What remains of the embeddings behind a map, on people that it had not seen.

    Attributes:
        pairs, identities: that it was fitted to.
        ridge: weight of the squared norm, chosen by cross-validation over identities.
        cosine: mean between predicted and native embedding of a picture.
        cosine_low: the cosine that 95 % of the pictures reach.
        own_first, searched: how many of so many pictures find their own native embedding first among all of them; a
            tie counts against it.
        own_low, own_high: 95 % interval of that share.
        verification: predicted against native embeddings, and native ones among themselves; empty where no person has
            two pictures.
    """

    pairs: int
    identities: int
    ridge: float
    cosine: float
    cosine_low: float
    own_first: int
    searched: int
    own_low: float
    own_high: float
    verification: tuple[Verification, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> "MapQuality":
        """See :meth:`to_json`.

        Raises:
            InputError: another value.
        """
        try:
            found: MapQuality = TypeAdapter(cls).validate_python(value)
            if any(len(one.fmr) != len(one.tar) for one in found.verification):
                raise ValueError("not a rate for each false match rate")
        except ValueError:
            raise InputError("the map does not say how good it is; it is damaged, or of another version") from None
        return found

    def lines(self) -> list[str]:
        """For a person to read."""
        found = [
            f"{self.pairs} pairs of {self.identities} people; ridge {self.ridge:g}; people that the map had not seen: "
            f"cosine to the native embedding {self.cosine:.3f} on average, {self.cosine_low:.3f} or more for 95 %; own "
            f"record first {self.own_first} of {self.searched} "
            f"(95 % interval {self.own_low:.1%} to {self.own_high:.1%})"
        ]
        for one in self.verification:
            rates = ", ".join(
                f"TAR {'unknown' if tar is None else f'{tar:.3f}'} at FMR {fmr:g}"
                for fmr, tar in zip(one.fmr, one.tar, strict=True)
            )
            found.append(
                f"{one.name}: EER {one.eer:.4f}, {rates} ({one.genuine_pairs} genuine, {one.impostor_pairs} impostor)"
            )
        return found


def measure(
    predicted: Rows,
    native: Rows,
    labels: NDArray[np.int64],
    *,
    ridge: float,
    source: Rows | None = None,
) -> MapQuality:
    """Measure a map.

    Args:
        predicted: (N, K) unit norm, of people that the map had not seen.
        native: (N, K) unit norm, the recognizer's own embeddings of the same pictures.
        labels: (N,) the person of each.
        ridge: of the map.
        source: (N, D) unit norm, what was mapped; adds the line of the store as it was.

    Raises:
        InputError: other shapes.
    """
    if predicted.shape != native.shape or len(labels) != len(native):
        raise InputError(f"expected predictions like {native.shape}, got {predicted.shape} of {len(labels)} people")
    cosine = np.einsum("nd,nd->n", predicted.astype(np.float64), native)
    rows = np.unique(np.linspace(0, len(native) - 1, min(len(native), MOST_PICTURES)).round().astype(np.int64))
    scores = predicted[rows] @ native[rows].T
    own = np.diagonal(scores).copy()
    first = int(((scores >= own[:, None]).sum(1) == 1).sum())
    people = labels[rows]
    compared = [("mapped against native", scores), ("native against native", native[rows] @ native[rows].T)]
    if source is not None:
        compared.append(("before, the old embeddings among themselves", source[rows] @ source[rows].T))
    low, high = wilson_interval(first, len(rows))
    return MapQuality(
        pairs=len(native),
        identities=len(np.unique(labels)),
        ridge=ridge,
        cosine=round(float(cosine.mean()), 4),
        cosine_low=round(float(np.quantile(cosine, 0.05)), 4),
        own_first=first,
        searched=len(rows),
        own_low=round(low, 6),
        own_high=round(high, 6),
        verification=_verification(compared, people),
    )


def _verification(compared: Sequence[tuple[str, Rows]], people: NDArray[np.int64]) -> tuple[Verification, ...]:
    same = people[:, None] == people[None]
    other = ~same
    np.fill_diagonal(same, False)
    if not same.any() or not other.any():
        return ()
    found = []
    for name, scores in compared:
        genuine, impostor = scores[same], scores[other]
        points = operating_points(FMRS, genuine=genuine, impostor=impostor)
        rates = tuple(None if point.tar is None else round(point.tar, 6) for point in points)
        error = round(eer(genuine=genuine, impostor=impostor)[0], 6)
        found.append(Verification(name, error, FMRS, rates, len(genuine), len(impostor)))
    return tuple(found)
