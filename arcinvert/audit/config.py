"""What an audit can be told."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from arcinvert.audit.defenses import parse_defense
from arcinvert.audit.defenses.sweep import specs_for
from arcinvert.errors import UsageError
from arcinvert.inversion.presets import CONTROLLED
from arcinvert.synthesis.reconstruct import SynthConfig

CAP = 200
"""Templates that are attacked unless more are asked for."""


@dataclass(frozen=True)
class AuditConfig:
    """How much is attacked, and how.

    Attributes:
        sample: at most so many templates.
        seed: of the sample, the attack, the random faces.
        restarts: attempts a template; the best by the attacker's own score, and the mean, are reported.
        preset, steps, batch_size: see :class:`~arcinvert.synthesis.reconstruct.SynthConfig`.
        defenses: see :func:`~arcinvert.audit.defenses.parse_defense`; each is applied to the sample and attacked.
        sweep: all defenses that fit the store, unless some are named.
        photos: folder of the enrolled photos, see :func:`~arcinvert.audit.photos.match_photos`.
        calibration_faces: folder of aligned crops that fix the thresholds, and that an attacker on a defense learns
            from if they are enough; None takes the face prior's own faces.
        authorization: text for the report: who allowed this.
        show_faces: whether the reconstructions are kept.
    """

    sample: int = CAP
    seed: int = 0
    restarts: int = 1
    preset: str = "fast"
    steps: int | None = None
    batch_size: int = 8
    defenses: tuple[str, ...] = ()
    sweep: bool = False
    photos: Path | None = None
    calibration_faces: Path | None = None
    authorization: str | None = None
    show_faces: bool = False

    def __post_init__(self) -> None:
        if self.sample < 1 or self.restarts < 1:
            raise UsageError(f"expected a sample and restarts of at least 1, got {min(self.sample, self.restarts)}")
        self.synthesis()
        for spec in self.defenses:
            parse_defense(spec)
        if (self.defenses or self.sweep) and self.preset not in CONTROLLED:
            raise UsageError(f"only {' and '.join(CONTROLLED)} attack through a defense, not {self.preset!r}")

    def synthesis(self) -> SynthConfig:
        """How each template is inverted."""
        return SynthConfig(
            variations=self.restarts,
            preset=self.preset,
            steps=self.steps,
            seed=self.seed,
            batch_size=self.batch_size,
            report=False,
        )

    def specs(self, size: int) -> list[str]:
        """The defenses to attack, for a store of embeddings of ``size`` elements; each once."""
        return list(dict.fromkeys(self.defenses)) or (specs_for(size) if self.sweep else [])

    def to_json(self) -> dict[str, Any]:
        """As ``report.json`` has it: paths as text."""
        plain = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(self).items()}
        return plain | {"defenses": list(self.defenses)}

    def digest(self, **known: object) -> str:
        """What makes two audits the same: all but the batch size, what is ``known``, and the files in the folders."""
        same = {key: value for key, value in self.to_json().items() if key != "batch_size"}
        folders = [_listing(folder) for folder in (self.photos, self.calibration_faces) if folder is not None]
        return hashlib.sha256(json.dumps([same, known, folders], sort_keys=True).encode()).hexdigest()


def _listing(folder: Path) -> list[str]:
    """Names and sizes of the files in a folder."""
    return [f"{path.relative_to(folder)} {path.stat().st_size}" for path in sorted(folder.rglob("*")) if path.is_file()]
