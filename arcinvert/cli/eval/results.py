"""What ``--json`` of the ``eval`` commands prints, as types; and the base of all such types."""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from arcinvert.evaluation.generation.distances import SetDistance
from arcinvert.evaluation.metrics import FoldAccuracy
from arcinvert.evaluation.protocols.angles import AngleStatistics
from arcinvert.evaluation.protocols.identification import Identification
from arcinvert.evaluation.protocols.megaface import MegaFace
from arcinvert.evaluation.protocols.retrieval import Retrieval
from arcinvert.evaluation.protocols.templates import TemplateIdentification, TemplateVerification

Sources = list[dict[str, Any]]


class Result(BaseModel):
    """A result with exactly these keys."""

    model_config = ConfigDict(extra="forbid")


class Skipped(Result):
    """A file that is left out, and why."""

    file: str
    reason: str


class Verification(Result):
    """``eval verification``."""

    protocol: str
    sources: Sources
    auc: float
    auc_error: float
    eer: float
    eer_threshold: float
    accuracy: FoldAccuracy | None
    embeddings: int
    identities: int | None
    genuine_pairs: int
    impostor_pairs: int
    tar: list[dict[str, Any]]


class IdentificationResult(Result):
    """``eval identification``."""

    protocol: str
    sources: Sources
    identification: Identification
    megaface: MegaFace | None


class TemplatesResult(Result):
    """``eval templates``."""

    protocol: str
    sources: Sources
    verification: TemplateVerification
    identification: TemplateIdentification | None


class RetrievalResult(Result):
    """``eval retrieval``."""

    protocol: str
    sources: Sources
    retrieval: Retrieval


class AnglesResult(Result):
    """``eval angles``, in degrees."""

    protocol: str
    sources: Sources
    angles: AngleStatistics


@dataclass(frozen=True)
class Distance(SetDistance):
    """``eval distance``."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    network_sha256: str
    sets: Sources
    skipped: list[Skipped]
