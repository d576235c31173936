"""The black box of an audit: the system that made the templates, known by its embeddings of some pictures alone."""

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arcinvert.audit.black_box.mapped_store import MappedStore
from arcinvert.audit.black_box.pairs import Pairs, fit_pairs, read_pairs
from arcinvert.audit.black_box.scores import read_scores
from arcinvert.audit.impostors import ImpostorScores
from arcinvert.audit.rates import SECOND, SHUFFLED, References, attack_rates, cosines, rates_at_thresholds, with_bounds
from arcinvert.audit.report import BlackBoxSummary, JudgeResult
from arcinvert.audit.sample import Sample
from arcinvert.audit.stores import Store
from arcinvert.audit.thresholds import LEAST_PEOPLE, Basis, Threshold, fix, given
from arcinvert.checkpoint import file_digest
from arcinvert.mapping.fit import ENOUGH_PAIRS
from arcinvert.mapping.linear_map import LinearMap
from arcinvert.mapping.quality import MapQuality
from arcinvert.progress import Progress, silent
from arcinvert.recognizer import Recognizer

NAME = "the unknown system"


@dataclass(frozen=True)
class System:
    """The unknown system as a judge: only its thresholds are known."""

    name: str
    thresholds: tuple[Threshold, ...]


@dataclass(frozen=True, eq=False)
class BlackBox:
    """A system that nobody opened, and the map from its embeddings to an open recognizer's.

    Attributes:
        pairs: its embeddings of pictures.
        map: to the recognizer that is attacked in its place.
        quality: of the map, on people it had not seen.
        scores: file of the system's embeddings of the reconstructions; None before they are fed back.
    """

    pairs: Pairs
    map: LinearMap
    quality: MapQuality
    scores: str | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of pairs and pictures."""
        return hashlib.sha256(f"{self.map.header['pairs']} {self.map.header['pictures']}".encode()).hexdigest()

    @functools.cached_property
    def scores_digest(self) -> str:
        """SHA-256 of the file of scores, empty without one."""
        path = None if self.scores is None else Path(self.scores)
        return file_digest(path) if path is not None and path.is_file() else str(self.scores or "")

    def mapped(self, sample: Sample) -> Sample:
        """The sample as the open recognizer would have made it; templates that are not there stay NaN."""
        targets, seconds = (self._rows(rows) for rows in (sample.targets, sample.seconds))
        return replace(sample, targets=targets, seconds=seconds)

    def gallery(self, store: Store) -> MappedStore:
        """The whole store, mapped while it is read."""
        return MappedStore(store, self.map)

    def _rows(self, rows: Tensor) -> Tensor:
        return torch.from_numpy(self.map.apply(rows.numpy()))

    def read_scores(self, sample: Sample) -> tuple[Tensor, int] | None:
        """The system's embeddings of the reconstructions, and how many are missing; None without scores.

        Raises:
            InputError: scores that belong to none of the reconstructions, or of another size.
        """
        if self.scores is None:
            return None
        return read_scores(self.scores, sample.positions.tolist(), self.map.sizes[0])

    def judge(
        self,
        sample: Sample,
        others: Sequence[int],
        templates: tuple[NDArray[np.float32], NDArray[np.int64]] | None,
        own: float | None = None,
    ) -> JudgeResult | None:
        """The system's own decision on the reconstructions; None without scores.

        Its thresholds are fixed on the store's templates, which it made, or on the pairs if these name too few people.

        Args:
            sample: as the system made it.
            others: (N,) for each target the row of another person; empty where there is none.
            templates: of the store, and the person of each; None where it names nobody.
            own: the system's own threshold, a cosine, which is added.

        Raises:
            InputError: see :meth:`read_scores`.
        """
        found = self.read_scores(sample)
        if found is None:
            return None
        rows, missing = found
        basis: Basis = "synthetic faces"  # the pairs may show them, and no gate passes on these alone
        scores = ImpostorScores.of(self.pairs.rows, self.pairs.labels)
        source = f"its embeddings of {len(self.pairs.rows)} pictures of {scores.people} people (the pairs)"
        if templates is not None and len(np.unique(templates[1])) >= LEAST_PEOPLE:
            scores, basis = ImpostorScores.of(*templates), "templates"
            source = f"{len(templates[0])} templates of {scores.people} people of the store"
        thresholds = fix(scores, basis, source).thresholds
        if own is not None:
            thresholds += (given(own, scores, basis),)
        system = System(NAME, thresholds)
        references = References(sample.targets, sample.seconds)
        rates = attack_rates(system, references, rows)
        if others:
            rates += rates_at_thresholds(system, SHUFFLED, cosines(rows[list(others)], sample.targets))
        rates += rates_at_thresholds(system, SECOND, cosines(sample.seconds, sample.targets))
        note = "It made the templates and was never opened."
        if missing:
            note += f" It gave no embedding of {missing} reconstructions, which count as refused."
        return JudgeResult(NAME, "", False, thresholds, tuple(with_bounds(rates)), note, source)

    def summary(self) -> BlackBoxSummary:
        """For the report."""
        return BlackBoxSummary(self.quality, len(self.pairs.skipped), self.digest, self.scores is not None)

    def limitations(self) -> tuple[str, ...]:
        """What must not be concluded, because the system was never opened."""
        found = [
            "The recognizer that made the templates was never opened: a linear map took the templates to the attacked "
            f"one (cosine {self.quality.cosine:.2f} to its own embeddings on people that the map had not seen). "
            "Whoever has the recognizer itself may reach more.",
        ]
        if self.quality.pairs < ENOUGH_PAIRS:
            found.append(
                f"{self.quality.pairs} pairs fit a rough map: a low rate may come from the map, not from the store."
            )
        return tuple(found)


def open_black_box(
    pairs: str, pictures: Path, recognizer: Recognizer, *, scores: str | None = None, progress: Progress = silent
) -> BlackBox:
    """Fit the map from the system behind ``pairs`` to an open recognizer.

    Args:
        pairs, pictures: see :func:`~arcinvert.audit.black_box.pairs.read_pairs`.
        recognizer: is attacked in the system's place.
        scores: see :class:`BlackBox`.
        progress: called with (done, all, text).

    Raises:
        InputError: see :func:`~arcinvert.audit.black_box.pairs.read_pairs`; too few pairs.
    """
    mapping, quality, used = fit_pairs(read_pairs(pairs, pictures), recognizer, progress=progress)
    return BlackBox(used, mapping, quality, scores)
