"""What decides a training run."""

import math
from dataclasses import dataclass, field, fields
from typing import Any

from arcinvert.errors import UsageError
from arcinvert.training.data.faces import Augmentation
from arcinvert.training.margins import ALL_MARGINS, AdaFace, Margin, check_beyond

PREPROCESSING = {"size": [112, 112], "color": "RGB", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
PRECISIONS = ("none", "bf16", "fp16")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training run; it travels in the checkpoint's header.

    Attributes:
        backbone, width, embedding_size, dropout: the network (dropout in its head, if it has one).
        start: a checkpoint of such a network, to begin with its weights
            (:func:`~arcinvert.training.initialization.begin_from`); empty: random ones.
        margin: a name of :data:`~arcinvert.training.margins.ALL_MARGINS`, or (m1, m2, m3).
        scale: s of the margin loss.
        subcenters, beyond, exact, sampling: see :class:`~arcinvert.training.heads.MarginHead`.
        intra, inter, triplet, center: weights of further losses (:mod:`arcinvert.training.losses`).
        epochs: how often each picture is seen.
        batch_size: pictures of one step of the optimizer, over all ranks and passes.
        keep_last: an epoch's last batch may be smaller; otherwise it is left to the next epoch's shuffle.
        accumulate: in how many passes one after the other each rank takes its share of a batch. BatchNorm's statistics
            are those of a pass.
        lr, momentum, weight_decay: SGD; ``warmup`` is in epochs. After it the rate falls along half a cosine, or, if
            there are ``milestones`` (epochs), to a tenth at each of them.
        clip: largest gradient norm of the backbone.
        held_out: how many identities (the last in sorted order) are kept for validation.
        validate_every: epochs between two validations.
        bits: of a weight in the checkpoint: 16 (float16), or 2 to 8 with a unit for each output channel
            (:func:`~arcinvert.checkpoint.rounded`); training knows nothing of it.
        keep_head: store the class centers in the checkpoint.
        amp: ``bf16`` or ``fp16`` (on a GPU) for the backbone's forward pass; the head is float32 always.
        compile: use torch.compile; slow to start, about twice as fast after.
        sync_batchnorm: BatchNorm over the shares of all ranks, slower. Without it each rank normalizes by its own
            share, and the first one's running statistics are kept: as good, but not what other ranks would do.
        label_noise: this share of the labels is made wrong on purpose, see
            :func:`~arcinvert.training.data.clean_list.permute_labels`.
        teacher: a recognizer whose embeddings are followed as well, any file that ``Recognizer.load`` takes, or
            ``auxiliary`` for the shipped one (:mod:`arcinvert.calibration.auxiliary`); with ``distill_l2`` and
            ``distill_kl``, see :func:`~arcinvert.training.distillation.distillation_loss`. Embeddings of another
            size than the student's are compared with a linear function of the student's, which is learned along.
        adversarial: every training picture is moved by this much (of a range of 1) in the direction that raises its
            margin loss the most (fast gradient sign, Goodfellow et al. 2015); a step takes about twice as long.
        augmentation: see :class:`~arcinvert.training.data.faces.Augmentation`.
        late, late_from: an augmentation that takes over after ``late_from`` epochs (may be a
            fraction), when the network can bear a harder one.
    """

    backbone: str = "iresnet18"
    width: float = 0.5
    embedding_size: int = 512
    dropout: float = 0.0
    start: str = ""
    margin: str | tuple[float, float, float] = "arcface"
    scale: float = 64.0
    subcenters: int = 1
    beyond: str = "monotone"
    exact: bool = True
    sampling: float = 1.0
    intra: float = 0.0
    inter: float = 0.0
    triplet: float = 0.0
    center: float = 0.0
    epochs: int = 16
    batch_size: int = 64
    keep_last: bool = False
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
    bits: int = 16
    keep_head: bool = False
    amp: str = "none"
    compile: bool = False
    sync_batchnorm: bool = False
    label_noise: float = 0.0
    teacher: str = ""
    distill_l2: float = 1.0
    distill_kl: float = 0.1
    adversarial: float = 0.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    late: Augmentation | None = None
    late_from: float = 0.0

    @classmethod
    def from_mapping(cls, settings: dict[str, Any]) -> "TrainConfig":
        """From a parsed TOML or JSON document; ``augmentation`` is a table of its own.

        Raises:
            UsageError: a name that is not a setting, or a value that does not fit.
        """
        settings = dict(settings)
        try:
            augmentation = Augmentation(**settings.pop("augmentation", {}))
            late = settings.pop("late", None)
            late = None if late is None else Augmentation(**late)
            for name in ("margin", "milestones"):
                if isinstance(settings.get(name), list):
                    settings[name] = tuple(settings[name])
            config = cls(**settings, augmentation=augmentation, late=late)
            config.resolve_margin()
        except TypeError as error:
            raise UsageError(f"the training settings do not fit: {error}") from None
        for part in (config, augmentation, late):
            if part is not None:
                _check_values(part)
        if min(config.epochs, config.batch_size, config.validate_every) < 1 or config.batch_size < 2:
            raise UsageError("expected epochs and validate_every of at least 1, and batch_size of at least 2")
        check_beyond(config.beyond)
        if config.subcenters < 1:
            raise UsageError("expected subcenters of at least 1")
        if not 1 <= config.accumulate <= config.batch_size // 2:
            raise UsageError("expected accumulate of at least 1, and batch_size of at least twice as much")
        if not 0 < config.sampling <= 1 or config.label_noise > 1:
            raise UsageError("expected sampling above 0 and up to 1, and label_noise from 0 to 1")
        if config.bits != 16 and not 2 <= config.bits <= 8:
            raise UsageError(f"expected bits of 16, or from 2 to 8, got {config.bits}")
        if config.amp not in PRECISIONS:
            raise UsageError(f"expected amp out of {', '.join(PRECISIONS)}, got {config.amp!r}")
        return config

    def resolve_margin(self) -> Margin | AdaFace | None:
        """The margin that ``margin`` names; None is plain softmax."""
        if isinstance(self.margin, str):
            if self.margin not in ALL_MARGINS:
                raise UsageError(f"expected a margin out of {', '.join(ALL_MARGINS)}, got {self.margin!r}")
            return ALL_MARGINS[self.margin]
        return Margin(*self.margin)

    def backbone_settings(self) -> dict[str, Any]:
        """What :func:`~arcinvert.backbones.build_backbone` is given."""
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


def _check_values(settings: TrainConfig | Augmentation) -> None:
    """Refuses what is not of its default's type, and numbers that are negative or not finite."""
    for item in fields(settings):
        value, kind = getattr(settings, item.name), type(item.default)
        if item.name in ("margin", "augmentation", "late"):
            continue
        if kind is tuple:
            if not isinstance(value, tuple) or any(type(v) not in (int, float) or not v > 0 for v in value):
                raise UsageError(f"expected a list of numbers above 0 for {item.name}, got {value!r}")
            continue
        fits = type(value) is kind or (kind is float and type(value) is int)
        if not fits or (kind in (int, float) and not 0 <= value < math.inf):
            least = " of at least 0" if kind in (int, float) else ""
            raise UsageError(f"expected {kind.__name__}{least} for {item.name}, got {value!r}")
