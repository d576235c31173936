"""The typed report of an audit: ``report.json``, its JSON schema, the pages and the summary are views of it.

All of it is plain frozen dataclasses. Pydantic is used in this module alone, to turn them into JSON and back and to
write the schema.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import TypeAdapter

from arcinvert.audit.checks.finding import Finding
from arcinvert.audit.checks.hygiene import Norms
from arcinvert.audit.checks.mismatch import Mismatch
from arcinvert.audit.config import AuditConfig
from arcinvert.audit.defenses.sweep import DefenseResult
from arcinvert.audit.groups import Groups
from arcinvert.audit.photos import PhotoMatches
from arcinvert.audit.rates import Rate
from arcinvert.audit.thresholds import Threshold
from arcinvert.audit.types import Cosine, Count, Digest, Share
from arcinvert.errors import UsageError
from arcinvert.file_bytes import read_bytes
from arcinvert.mapping.quality import MapQuality

VERSION: Final = 3
Word = Literal[
    "leaks",
    "leaks in part",
    "no leak shown by this attack",
    "no conclusion",
    "mismatch suspected",
    "not judged independently",
    "not judged",
]


@dataclass(frozen=True)
class Verdict:
    """The answer in a word, and in some sentences.

    Attributes:
        word, text: the answer.
        operating_fmr: the false match rate of the headline, chosen by the thresholds alone.
        warnings: what makes the answer doubtful, in sentences; they are in the text too.
    """

    word: Word
    text: str
    operating_fmr: Share = 1e-3
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class StoreSummary:
    """The audited store; ``skipped_rows`` hold no usable template, ``digest`` is that of the usable templates."""

    kind: str
    name: str
    count: Count
    size: Count
    digest: Digest
    identities: Count
    norms: Norms | None
    skipped_rows: Count


@dataclass(frozen=True)
class SampleSummary:
    """The attacked templates; ``identities`` is None where the store names nobody."""

    count: Count
    identities: Count | None
    second_templates: Count
    digest: Digest


@dataclass(frozen=True)
class AttackSummary:
    """The attack on the bare templates; ``cosine`` is the mean of the best attempts, None if all failed."""

    recognizer: str
    digest: Digest
    cosine: Cosine | None
    failed: Count
    attempts: Count
    steps: Count


@dataclass(frozen=True)
class JudgeResult:
    """One judge with its thresholds and rates; a ``note`` says why there are no rates.

    ``thresholds_on`` says on what its thresholds were fixed; ``synthetic_thresholds`` are those that synthetic faces
    would give, for comparison.
    """

    name: str
    digest: Digest
    attacked: bool
    thresholds: tuple[Threshold, ...]
    rates: tuple[Rate, ...]
    note: str | None
    thresholds_on: str = ""
    synthetic_thresholds: tuple[Threshold, ...] = ()


@dataclass(frozen=True)
class Reidentification:
    """How many reconstructions find their own identity first among all rows of the store, the ``gallery``.

    The attacked network searches; a failed attempt counts as tried. With a 95 % Wilson interval.
    """

    accepted: Count
    tried: Count
    rate: Share
    low: Share
    high: Share
    gallery: Count


@dataclass(frozen=True)
class RestartResult:
    """A figure for the best restart of each target, and its mean over all restarts; None where it is unknown."""

    name: str
    best: float | None
    mean: float | None


@dataclass(frozen=True)
class Restarts:
    """The effect of ``count`` attempts at each template."""

    count: Count
    chosen_by: str
    results: tuple[RestartResult, ...]


@dataclass(frozen=True)
class BlackBoxSummary:
    """The system that made the templates, which nobody opened.

    Attributes:
        map: how good the map from its embeddings to the attacked recognizer's is, on people it had not seen.
        skipped: pictures and rows of the pairs that were left out.
        digest: of pairs and pictures.
        fed_back: whether the system's own decision on the reconstructions is among the judges.
    """

    map: MapQuality
    skipped: Count
    digest: Digest
    fed_back: bool


@dataclass(frozen=True)
class Run:
    """The circumstances of an audit; two audits with equal ``fingerprint`` are the same.

    Attributes:
        fingerprint: of settings, store and networks.
        thresholds_on, thresholds_digest, face_prior: what fixed the thresholds, in words; SHA-256 of it, and of the
            face prior.
        device, processes, seconds: of the computation.
        date: when the report was written, UTC, ``2026-01-31T13:45:00Z``.
        version: of arcinvert.
        command: the command line without passwords and keys; None if the audit was called from Python.
        licenses: of all weights that had a part in the result, by network.
    """

    fingerprint: Digest
    thresholds_on: str
    thresholds_digest: Digest
    face_prior: Digest
    device: str
    processes: Count
    seconds: float
    date: str
    version: str
    command: str | None
    licenses: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class LeakageReport:
    """What a store leaks, as far as one attack shows.

    Attributes:
        version: of this format.
        verdict: the answer.
        store, sample, attack: what was audited, and by what attack.
        judges: each with thresholds, rates, controls.
        reidentification: of the reconstructions in the whole store.
        restarts: best and mean of several attempts.
        groups: rates of parts of the sample; None without ``--group``.
        hygiene: findings that need no attack.
        mismatch: whether the store belongs to the attacked network.
        defenses: accuracy kept and rates left, with and without the key.
        accuracy_on: the faces on which the accuracy of defenses was measured; None without defenses.
        attacker_faces: how many faces the attacker on a defense learned from; None without defenses.
        photos: how the enrolled photos were matched; None without ``--photos``.
        black_box: the system that made the templates, if it is known by pairs alone; None if the attacked recognizer
            made them.
        config: the settings.
        run: the circumstances.
        limitations: what must not be concluded from the report.
        files: that were written beside it.
    """

    version: Literal[3]
    verdict: Verdict
    store: StoreSummary
    sample: SampleSummary
    attack: AttackSummary
    judges: tuple[JudgeResult, ...]
    reidentification: Reidentification
    restarts: Restarts
    groups: Groups | None
    hygiene: tuple[Finding, ...]
    mismatch: Mismatch
    defenses: tuple[DefenseResult, ...]
    accuracy_on: str | None
    attacker_faces: Count | None
    photos: PhotoMatches | None
    black_box: BlackBoxSummary | None
    config: AuditConfig
    run: Run
    limitations: tuple[str, ...]
    files: tuple[str, ...]

    @property
    def skipped_rows(self) -> int:
        """Rows of the store that hold no usable template."""
        return self.store.skipped_rows

    def to_json(self) -> dict[str, Any]:
        """As ``report.json`` has it."""
        found: dict[str, Any] = _ADAPTER.dump_python(self, mode="json")
        return found

    @classmethod
    def read(cls, path: Path) -> "LeakageReport":
        """Read ``report.json``.

        Raises:
            UsageError: it is of another version, or no report.
        """
        try:
            found: Any = json.loads(read_bytes(path, MAX_BYTES))
            version = found["version"]
            if version != VERSION:
                raise UsageError(
                    f"expected a report of version {VERSION}, {str(path)!r} has version {version!r}: audit again into"
                    " another folder, or with --force"
                )
            return _ADAPTER.validate_python(found)
        except (ValueError, KeyError, TypeError, RecursionError):
            raise UsageError(f"{str(path)!r} is not a report of an audit; choose another folder, or --force") from None


_ADAPTER = TypeAdapter(LeakageReport)
MAX_BYTES = 1 << 28
"""Largest size of a report that is read."""


def utc_now() -> str:
    """The date and time of now as reports have it: ``2026-01-31T13:45:00Z``."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def report_schema() -> dict[str, Any]:
    """The JSON schema of ``report.json``, generated from the types."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | _ADAPTER.json_schema()
