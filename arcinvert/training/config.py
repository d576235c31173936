"""The configuration of a training run."""

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any

from arcinvert.errors import UsageError
from arcinvert.faces.augmentation import Augmentation
from arcinvert.training.margins import ALL_MARGINS, AdaFace, Margin, check_past_pi

log = logging.getLogger(__name__)

PREPROCESSING = {"size": [112, 112], "color": "RGB", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
PRECISIONS = ("none", "bf16", "fp16")

RENAMED = {
    "subcentres": "subcenters", "beyond": "past_pi", "start": "init_from", "bits": "weight_bits",
    "late": "second_stage", "late_from": "second_stage_from", "keep_last": "drop_last",
    "intra": "extra_losses.intra", "inter": "extra_losses.inter", "triplet": "extra_losses.triplet",
    "center": "extra_losses.center", "centre": "extra_losses.center",
    "teacher": "distillation.teacher", "distill_l2": "distillation.l2", "distill_kl": "distillation.kl",
}  # fmt: skip
"""Settings by their names in versions before 0.2, and where they are now; keep_last is the opposite."""


@dataclass(frozen=True)
class ExtraLosses:
    """Weights of the losses added to the margin loss (:mod:`arcinvert.training.losses`); 0 switches one off."""

    intra: float = 0.0
    inter: float = 0.0
    triplet: float = 0.0
    center: float = 0.0


@dataclass(frozen=True)
class DistillationConfig:
    """A teacher whose embeddings the network learns to predict (:mod:`arcinvert.training.distillation`).

    Attributes:
        teacher: any file that ``Recognizer.load`` takes, or ``auxiliary`` for the network that is shipped with the
            package; empty: no distillation. If its embeddings have another size than the student's, a projection
            head is learned that maps the student's to them.
        l2, kl: the weights of :func:`~arcinvert.training.distillation.distillation_loss`.
    """

    teacher: str = ""
    l2: float = 1.0
    kl: float = 0.1


@dataclass(frozen=True)
class TrainConfig:
    """All settings of a training run; they are stored in the checkpoint's header.

    Attributes:
        backbone, width, embedding_size, dropout: the network (dropout in its head, if it has one).
        init_from: a checkpoint of the same network whose weights the run starts with
            (:func:`~arcinvert.training.initialization.initialize_from`); empty: random weights.
        margin: a name of :data:`~arcinvert.training.margins.ALL_MARGINS`, or (m1, m2, m3).
        scale: s of the margin loss.
        subcenters, past_pi, sampling: see :class:`~arcinvert.training.heads.MarginHead`.
        extra_losses: further losses and their weights.
        epochs: how often each image is seen.
        batch_size: images of one step of the optimizer, over all processes and passes.
        drop_last: leave out an epoch's last batch if it is smaller than the others.
        accumulate: in how many successive passes each process computes its share of a batch. BatchNorm's statistics
            are those of a pass.
        lr, momentum, weight_decay: SGD; ``warmup`` is in epochs. After it the learning rate falls along half a cosine,
            or, if there are ``milestones`` (epochs), to a tenth at each of them.
        clip: largest gradient norm of the backbone.
        held_out: how many identities (the last in sorted order) are kept for validation.
        validate_every: epochs between two validations.
        weight_bits: bits of a weight in the checkpoint: 16 (float16), or 2 to 8 with a scale for each output channel.
            They do not change the training.
        keep_head: store the class centers in the checkpoint.
        amp: ``bf16`` or ``fp16`` (on a GPU) for the backbone's forward pass; the head is always float32.
        compile: use torch.compile; slow to start, about twice as fast after.
        sync_batchnorm: on several GPUs, normalize by the statistics of the whole batch
            (:class:`torch.nn.SyncBatchNorm`), slower. Without it each process normalizes by its own share, and the
            running statistics of the first process are kept; this trains as well, but the run depends on the number
            of processes.
        label_noise: share of the labels that are made wrong on purpose, see
            :func:`~arcinvert.training.data.clean_list.permute_labels`.
        adversarial: every training image is moved by this much (of a range of 1) in the direction that raises its
            margin loss the most (fast gradient sign, Goodfellow et al. 2015); a step takes about twice as long.
        distillation: a teacher.
        augmentation: random changes to the images.
        second_stage, second_stage_from: an augmentation that replaces ``augmentation`` after ``second_stage_from``
            epochs (may be a fraction), when the network can learn from harder images.
    """

    backbone: str = "iresnet18"
    width: float = 0.5
    embedding_size: int = 512
    dropout: float = 0.0
    init_from: str = ""
    margin: str | tuple[float, float, float] = "arcface"
    scale: float = 64.0
    subcenters: int = 1
    past_pi: str = "monotone"
    sampling: float = 1.0
    extra_losses: ExtraLosses = field(default_factory=ExtraLosses)
    epochs: int = 16
    batch_size: int = 64
    drop_last: bool = True
    accumulate: int = 1
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 1.0
    milestones: tuple[float, ...] = ()
    clip: float = 5.0
    held_out: int = 60
    validate_every: int = 1
    seed: int = 0
    weight_bits: int = 16
    keep_head: bool = False
    amp: str = "none"
    compile: bool = False
    sync_batchnorm: bool = False
    label_noise: float = 0.0
    adversarial: float = 0.0
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    augmentation: Augmentation = field(default_factory=Augmentation)
    second_stage: Augmentation | None = None
    second_stage_from: float = 0.0

    @classmethod
    def from_mapping(cls, settings: Mapping[str, Any]) -> "TrainConfig":
        """From a parsed TOML or JSON document; the nested dataclasses are tables of their own.

        Names of earlier versions are read, with a warning that says the new ones.

        Raises:
            UsageError: a name that is not a setting, or a value that does not fit.
        """
        try:
            settings, replaced = current_names(settings)
            for name, kind in NESTED.items():
                if name in settings and (name != "second_stage" or settings[name] is not None):
                    settings[name] = kind(**settings[name])
            for name in ("margin", "milestones"):
                if isinstance(settings.get(name), list):
                    settings[name] = tuple(settings[name])
            config = cls(**settings)
            config.resolve_margin()
        except TypeError as error:
            raise UsageError(f"the training settings do not fit: {error}") from None
        if replaced:
            log.warning("the training settings use old names: %s", "; ".join(replaced))
        _check_values(config)
        check_past_pi(config.past_pi)
        for name, fits, expected in (
            ("epochs", config.epochs >= 1, "at least 1"),
            ("validate_every", config.validate_every >= 1, "at least 1"),
            ("batch_size", config.batch_size >= 2, "at least 2"),
            ("subcenters", config.subcenters >= 1, "at least 1"),
            ("accumulate", 1 <= config.accumulate <= config.batch_size // 2, "1 to half of batch_size"),
            ("sampling", 0 < config.sampling <= 1, "a share above 0 and up to 1"),
            ("label_noise", config.label_noise <= 1, "a share from 0 to 1"),
            ("weight_bits", config.weight_bits in (16, *range(2, 9)), "16, or 2 to 8"),
            ("amp", config.amp in PRECISIONS, f"one of {', '.join(PRECISIONS)}"),
        ):
            if not fits:
                raise UsageError(f"expected {expected} as {name}, got {getattr(config, name)!r}")
        return config

    def resolve_margin(self) -> Margin | AdaFace | None:
        """The margin that ``margin`` names; None is plain softmax."""
        if isinstance(self.margin, str):
            if self.margin not in ALL_MARGINS:
                raise UsageError(f"expected a margin out of {', '.join(ALL_MARGINS)}, got {self.margin!r}")
            return ALL_MARGINS[self.margin]
        return Margin(*self.margin)

    def backbone_settings(self) -> dict[str, Any]:
        """The keyword arguments of :func:`~arcinvert.backbones.build_backbone`."""
        settings: dict[str, Any] = {"width": self.width, "embedding_size": self.embedding_size}
        return settings | ({"dropout": self.dropout} if self.dropout else {})

    def learning_rate(self, step: int, steps_per_epoch: int) -> float:
        """The rate of a step: linear warm-up, then half a cosine down to 0, or a tenth after each milestone."""
        warmup, total = self.warmup * steps_per_epoch, self.epochs * steps_per_epoch
        if step < warmup:
            return self.lr * min(1.0, (step + 1) / warmup)
        if self.milestones:
            return self.lr * 0.1 ** sum(step >= milestone * steps_per_epoch for milestone in self.milestones)
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


NESTED: dict[str, type] = {
    "extra_losses": ExtraLosses,
    "distillation": DistillationConfig,
    "augmentation": Augmentation,
    "second_stage": Augmentation,
}
"""The settings that are tables of their own."""


def current_names(settings: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Settings under the names of this version, and what was replaced ("old is now new").

    Raises:
        UsageError: a setting by its old and its new name, or a value that this version no longer has.
    """
    found, replaced = dict(settings), list[str]()
    for old in [name for name in RENAMED if name in found]:
        parent, _, new = RENAMED[old].rpartition(".")
        value = found.pop(old)
        if parent:
            found[parent] = dict(found.get(parent, {}))
        place = found[parent] if parent else found
        if new in place:
            raise UsageError(f"{old} is the old name of {RENAMED[old]}; expected one of them, got both")
        place[new] = not value if old == "keep_last" else value
        replaced.append(f"{old} is now {RENAMED[old]}" + (", its opposite" if old == "keep_last" else ""))
    for name in ("augmentation", "second_stage"):
        if isinstance(table := found.get(name), Mapping):
            spelling = {"grey": "gray", "colour": "color"}
            found[name] = {spelling.get(key, key): value for key, value in table.items()}
            replaced += [f"{name}.{key} is now {name}.{spelling[key]}" for key in spelling if key in table]
    if not found.pop("exact", True):
        raise UsageError("exact = false is no longer offered: the gradient of the margin is always that of its formula")
    return found, replaced


def differences(config: TrainConfig, stored: Mapping[str, Any]) -> list[str]:
    """Names of the settings in which a stored configuration differs; those that it does not name had their defaults."""
    mine, other = asdict(config), asdict(TrainConfig()) | current_names(stored)[0]
    for name, kind in NESTED.items():
        other[name] = other[name] and asdict(kind()) | other[name]
    other |= {name: tuple(other[name]) for name in ("margin", "milestones") if isinstance(other[name], list)}
    return sorted(key for key in mine | other if mine.get(key) != other.get(key))


def _check_values(settings: Any, prefix: str = "") -> None:
    """Refuse values that are not of their default's type, and numbers that are negative or not finite."""
    for item in fields(settings):
        value, kind, name = getattr(settings, item.name), type(item.default), prefix + item.name
        if is_dataclass(value):
            _check_values(value, f"{name}.")
        elif item.name == "margin" or value is None is item.default:
            continue
        elif kind is tuple:
            if not isinstance(value, tuple) or any(type(v) not in (int, float) or not v > 0 for v in value):
                raise UsageError(f"expected a list of numbers above 0 for {name}, got {value!r}")
        else:
            fits = type(value) is kind or (kind is float and type(value) is int)
            if not fits or (kind in (int, float) and not 0 <= value < math.inf):
                least = " of at least 0" if kind in (int, float) else ""
                raise UsageError(f"expected {kind.__name__}{least} for {name}, got {value!r}")
