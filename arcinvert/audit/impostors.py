"""Scores of pairs of different people: the thresholds that they fix, and how sure these are.

The pairs of one person are not independent, so uncertainty comes from resampling people, never pairs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from arcinvert.errors import InputError
from arcinvert.evaluation.metrics import MIN_FALSE_MATCHES, SURE_FALSE_MATCHES, allowed_false_matches

TAIL = 0.05
"""Share of the pairs, those with the highest scores, that are kept: the others fix no threshold."""
LEAST_TAIL = 20
"""A tail model needs more pairs than this."""
DRAWS, SEED, LEVEL = 200, 0, 0.95
TAIL_MODEL = "normal tail fitted to the highest 5 % of the pairs"
LIMIT = "upper end of its 95 % interval over resampled people"
NORMAL = NormalDist()

Scores = NDArray[np.floating]


class FixedThreshold(NamedTuple):
    """A threshold for a false match rate.

    Attributes:
        value: scores from this one on are accepted.
        low, high: 95 % interval of it, over resampled people.
        effective_pairs: so many independent pairs would know the false match rate at ``value`` equally well.
        counted: whether the false matches that are allowed are enough to count, else it is :data:`TAIL_MODEL`'s.
        extrapolated: the pairs are too few even for that; ``value`` is then the upper end of its interval.
    """

    value: float
    low: float
    high: float
    effective_pairs: float
    counted: bool
    extrapolated: bool


@dataclass(frozen=True, eq=False)
class ImpostorScores:
    """The highest scores of the pairs of different people.

    Attributes:
        scores: (T,) descending.
        first, second: (T,) the two people of each pair, 0 to P - 1.
        images: (P,) images of each person.
    """

    scores: Scores
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    images: NDArray[np.int64]

    @classmethod
    def of(cls, embeddings: Scores, labels: NDArray[np.integer]) -> "ImpostorScores":
        """All pairs of different people among embeddings (N, D), unit norm, with the identity (N,) of each.

        Raises:
            InputError: there is only one person.
        """
        people, place = np.unique(labels, return_inverse=True)
        if len(people) < 2:
            raise InputError("expected faces of several people to fix thresholds on, got one person")
        row, column = np.triu_indices(len(embeddings), k=1)
        differ = place[row] != place[column]
        row, column = row[differ], column[differ]
        scores = (embeddings @ embeddings.T)[row, column]
        kept = min(len(scores), max(LEAST_TAIL + 1, int(np.ceil(TAIL * len(scores)))))
        top = np.argpartition(-scores, kept - 1)[:kept]
        top = top[np.argsort(-scores[top], kind="stable")]
        return cls(scores[top], place[row[top]], place[column[top]], np.bincount(place))

    @property
    def people(self) -> int:
        """P."""
        return len(self.images)

    @property
    def pairs(self) -> int:
        """Pairs of different people, those that are not kept included."""
        return int(self.images.sum() ** 2 - np.square(self.images).sum()) // 2

    def thresholds(self, fmrs: Sequence[float]) -> list[FixedThreshold | None]:
        """For each rate, the lowest threshold whose false match rate is at most that.

        Where fewer than :data:`~arcinvert.evaluation.metrics.SURE_FALSE_MATCHES` false matches are allowed,
        :data:`TAIL_MODEL` takes the place of counting: it errs less. Where fewer than
        :data:`~arcinvert.evaluation.metrics.MIN_FALSE_MATCHES` are, it extrapolates, and the upper end of its interval
        is taken. None where the pairs are too few for this too.
        """
        allowed = [allowed_false_matches(fmr, self.pairs) for fmr in fmrs]
        values = [float(np.nextafter(self.scores[min(n, len(self.scores) - 1)], np.inf)) for n in allowed]
        every = np.full(len(self.scores), 1 / self.pairs)
        for i, fmr in enumerate(fmrs):
            if allowed[i] < SURE_FALSE_MATCHES:
                values[i] = _normal_tail(self.scores, every, fmr)
        accepted = [self._accepted(value) for value in values]
        drawn, rates = np.empty((DRAWS, len(fmrs))), np.empty((DRAWS, len(fmrs)))
        for draw, (weights, total) in enumerate(self._resampled()):
            reached = np.cumsum(weights)
            for i, (fmr, count) in enumerate(zip(fmrs, allowed, strict=True)):
                rates[draw, i] = reached[accepted[i] - 1] / total if accepted[i] else 0.0
                if count < SURE_FALSE_MATCHES:
                    drawn[draw, i] = _normal_tail(self.scores, weights / total, fmr)
                    continue
                place = int(np.searchsorted(reached, fmr * total, side="right"))
                drawn[draw, i] = self.scores[min(place, len(self.scores) - 1)]
        found: list[FixedThreshold | None] = []
        for i, (fmr, count, value) in enumerate(zip(fmrs, allowed, values, strict=True)):
            low, high = (float(end) for end in np.quantile(drawn[:, i], [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
            sure = self._effective(fmr, rates[:, i])
            if count >= len(self.scores) or (count < SURE_FALSE_MATCHES and len(self.scores) <= LEAST_TAIL):
                found.append(None)
            elif count < MIN_FALSE_MATCHES:
                found.append(FixedThreshold(high, low, high, float(self.pairs), counted=False, extrapolated=True))
            else:
                counted = count >= SURE_FALSE_MATCHES
                found.append(FixedThreshold(value, min(low, value), max(high, value), sure, counted, False))
        return found

    def false_match_rate(self, threshold: float) -> tuple[float, float]:
        """The share of the pairs that a given threshold accepts, and the effective pairs that it is known from.

        A threshold below all scores that were kept counts as the lowest of them.
        """
        accepted = self._accepted(threshold)
        rates = np.array([weights[:accepted].sum() / total for weights, total in self._resampled()])
        return accepted / self.pairs, self._effective(accepted / self.pairs, rates)

    def _accepted(self, threshold: float) -> int:
        return int((self.scores >= threshold).sum())

    def _effective(self, fmr: float, rates: Scores) -> float:
        """Independent pairs that give a rate this variance; where it is 0, the pairs without a common person."""
        spread = float(rates.var(ddof=1))
        return float(min(self.pairs, fmr * (1 - fmr) / spread)) if spread > 0 else self.people / 2

    def _resampled(self) -> Iterator[tuple[Scores, float]]:
        """The weight (T,) of each pair, and that of all pairs, in samples of the people with replacement."""
        generator = np.random.default_rng(SEED)
        done = 0
        while done < DRAWS:
            times = generator.multinomial(self.people, np.full(self.people, 1 / self.people))
            images = times * self.images
            total = float(images.sum() ** 2 - np.square(images).sum()) / 2
            if total:  # else it is one person, drawn again and again
                done += 1
                yield (times[self.first] * times[self.second]).astype(np.float64), total


def _normal_tail(scores: Scores, share: Scores, fmr: float) -> float:
    """The score that a share ``fmr`` of all pairs exceeds.

    The scores (T,), descending, each a ``share`` of all pairs, are taken for the tail of a normal distribution above
    the lowest of them, whose scale is given by their mean excess over it.
    """
    start, above = float(scores[-1]), float(share.sum())
    if not fmr < above < 1:
        return start
    excess, begin = float((share * (scores - start)).sum() / above), NORMAL.inv_cdf(1 - above)
    scale = excess / (NORMAL.pdf(begin) / above - begin)
    return start + scale * (NORMAL.inv_cdf(1 - fmr) - begin)
