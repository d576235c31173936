"""The settings of an audit."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from arcinvert.audit.defenses import parse_defense
from arcinvert.audit.defenses.sweep import labels_of, specs_for
from arcinvert.errors import UsageError
from arcinvert.inversion.presets import preset_of
from arcinvert.inversion.reconstruct import Settings, with_controls


@dataclass(frozen=True)
class AttackConfig:
    """How each template is inverted.

    Attributes:
        preset, steps, batch_size: see :class:`~arcinvert.inversion.reconstruct.Settings`.
        restarts: attempts a template; the report has the best by the attacker's own score, and the mean.
    """

    preset: str = "fast"
    steps: int | None = None
    restarts: int = 1
    batch_size: int = 8


@dataclass(frozen=True)
class AuditConfig:
    """What is attacked, and how.

    Attributes:
        sample: at most so many templates.
        seed: of the sample, the attack, the random faces.
        attack: how each template is inverted.
        defenses: see :func:`~arcinvert.audit.defenses.parse_defense`; each is applied to the sample and attacked.
        sweep: attack all defenses that fit the store, unless ``defenses`` names some.
        photos: folder of the enrolled photos, see :func:`~arcinvert.audit.photos.match_photos`.
        calibration_faces: folder of aligned crops of other people: with the photos they fix the thresholds, and an
            attacker on a defense learns from them if they are enough.
        thresholds: name of a judge -> the threshold, a cosine, that the system itself uses with it.
        authorization: who allowed the audit, for the report.
        show_faces: whether the reconstructions are kept.
        group: column of the store by whose values rates are reported, too.
    """

    sample: int = 200
    seed: int = 0
    attack: AttackConfig = field(default_factory=AttackConfig)
    defenses: tuple[str, ...] = ()
    sweep: bool = False
    photos: Path | None = None
    calibration_faces: Path | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    authorization: str | None = None
    show_faces: bool = False
    group: str | None = None

    def __post_init__(self) -> None:
        if self.sample < 1 or self.attack.restarts < 1:
            least = min(self.sample, self.attack.restarts)
            raise UsageError(f"expected a sample and restarts of at least 1, got {least}")
        if wrong := [value for value in self.thresholds.values() if not -1 <= value <= 1]:
            raise UsageError(f"expected a threshold that is a cosine, -1 to 1, got {wrong[0]:g}")
        self.settings()
        for spec in self.defenses:
            parse_defense(spec)
        if (self.defenses or self.sweep) and not preset_of(self.attack.preset).controlled:
            raise UsageError(f"only {with_controls()} attack through a defense, not {self.attack.preset!r}")

    def settings(self) -> Settings:
        """The settings of the inversion."""
        attack = self.attack
        return Settings(
            variations=attack.restarts,
            preset=attack.preset,
            steps=attack.steps,
            seed=self.seed,
            batch_size=attack.batch_size,
            vary=(),
            size=112,
        )

    def without_keys(self) -> "AuditConfig":
        """The settings as they are reported."""
        return replace(self, defenses=tuple(labels_of([parse_defense(spec) for spec in dict.fromkeys(self.defenses)])))

    def specs(self, size: int) -> list[str]:
        """The defenses to attack, each once, for a store of embeddings of ``size`` elements."""
        return list(dict.fromkeys(self.defenses)) or (specs_for(size) if self.sweep else [])

    def fingerprint(self, **known: object) -> str:
        """SHA-256 of the settings but the batch size, ``known`` and the folders' files: equal for equal audits."""
        secret = [parse_defense(spec).fingerprint for spec in self.defenses]
        same = asdict(replace(self, defenses=(), attack=replace(self.attack, batch_size=1))) | {"defenses": secret}
        folders = [_listing(folder) for folder in (self.photos, self.calibration_faces) if folder is not None]
        return hashlib.sha256(json.dumps([same, known, folders], sort_keys=True, default=str).encode()).hexdigest()


def parse_thresholds(texts: Sequence[str]) -> dict[str, float]:
    """``JUDGE=0.4`` each -> name of a judge -> its threshold.

    Raises:
        UsageError: another form, or one judge twice.
    """
    found: dict[str, float] = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not name or not math.isfinite(number) or name in found:
            raise UsageError(f"expected a threshold such as JUDGE=0.4, once for each judge, got {text!r}")
        found[name] = number
    return found


def _listing(folder: Path) -> list[str]:
    """Names and sizes of the files in a folder."""
    return [f"{path.relative_to(folder)} {path.stat().st_size}" for path in sorted(folder.rglob("*")) if path.is_file()]
