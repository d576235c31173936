"""Training: aligned faces -> backbone -> margin head -> checkpoint, resumable at any step.

SGD with linear warm-up and cosine decay. The order of the pictures and their augmentation are
drawn from (seed, epoch) and (seed, step) alone, so a run that was killed goes on as if nothing
had happened.
"""

import io
import json
import math
import time
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from arcinvert.backbones import build_backbone, memory_format
from arcinvert.checkpoint import atomic_write, save_checkpoint
from arcinvert.errors import CheckpointError, DivergedError, InputError, UsageError
from arcinvert.evaluation.metrics import auc, operating_point, score_pairs
from arcinvert.progress import Progress, silent
from arcinvert.training.data import Augmentation, Faces, open_faces, split_identities, to_float
from arcinvert.training.heads import MarginHead
from arcinvert.training.losses import LOSSES
from arcinvert.training.margins import ALL_MARGINS, AdaFace, Margin, check_beyond
from arcinvert.training.sources import open_pictures

FMRS = (1e-2, 1e-3)


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training run; it travels in the checkpoint's header.

    Attributes:
        backbone, width, embedding_size, dropout: the network (dropout in its head, if it has one).
        margin: a name of :data:`~arcinvert.training.margins.ALL_MARGINS`, or (m1, m2, m3).
        scale: s of the margin loss.
        subcentres, beyond, exact: see :class:`~arcinvert.training.heads.MarginHead`.
        intra, inter, triplet, centre: weights of further losses (:mod:`arcinvert.training.losses`).
        epochs, batch_size: a last batch that is not full is left to the next epoch's shuffle.
        lr, momentum, weight_decay: SGD; ``warmup`` is in epochs.
        clip: largest gradient norm of the backbone.
        held_out: how many identities (the last in sorted order) are kept for validation.
        validate_every: epochs between two validations.
        keep_head: store the class centres in the checkpoint.
        compile: use torch.compile; slow to start, about twice as fast after.
        augmentation: see :class:`~arcinvert.training.data.Augmentation`.
        late, late_from: an augmentation that takes over after ``late_from`` epochs (may be a
            fraction), when the network can bear a harder one.
    """

    backbone: str = "iresnet18"
    width: float = 0.5
    embedding_size: int = 512
    dropout: float = 0.0
    margin: str | tuple[float, float, float] = "arcface"
    scale: float = 64.0
    subcentres: int = 1
    beyond: str = "monotone"
    exact: bool = True
    intra: float = 0.0
    inter: float = 0.0
    triplet: float = 0.0
    centre: float = 0.0
    epochs: int = 16
    batch_size: int = 64
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 1.0
    clip: float = 5.0
    held_out: int = 60
    validate_every: int = 1
    seed: int = 0
    keep_head: bool = False
    compile: bool = False
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
            if isinstance(settings.get("margin"), list):
                settings["margin"] = tuple(settings["margin"])
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
        if config.subcentres < 1:
            raise UsageError("expected subcentres of at least 1")
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


PREPROCESSING = {"size": [112, 112], "colour": "RGB", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}


class Run:
    """A training run in progress: network, head, optimiser, and where it is."""

    def __init__(self, faces: Faces, config: TrainConfig, device: torch.device) -> None:
        torch.manual_seed(config.seed)
        self.config, self.faces, self.device = config, faces, device
        self.network = build_backbone(config.backbone, **config.backbone_settings())
        self.layout = memory_format(self.network)
        self.network.to(device, memory_format=self.layout)  # type: ignore[call-overload]
        self.head = MarginHead(
            config.embedding_size,
            len(faces.identities),
            margin=config.resolve_margin(),
            scale=config.scale,
            subcentres=config.subcentres,
            beyond=config.beyond,
            exact=config.exact,
            extras={name: getattr(config, name) for name in LOSSES},
        ).to(device)
        self.forward: nn.Module = torch.compile(self.network) if config.compile else self.network  # type: ignore[assignment]
        self.parameters = [p for p in [*self.network.parameters(), *self.head.parameters()] if p.requires_grad]
        self.optimiser = torch.optim.SGD(
            self.parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
        self.step = 0
        self.steps_per_epoch = max(1, len(faces) // config.batch_size)
        self.total_steps = self.steps_per_epoch * config.epochs
        self.history: list[dict[str, float | None]] = []

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """From the present step to the end: (B, 3, 112, 112) normalised images, (B,) labels."""
        while self.step < self.total_steps:
            epoch, position = divmod(self.step, self.steps_per_epoch)
            order = torch.randperm(len(self.faces), generator=_generator(self.config.seed, epoch, 0))
            rows = order[position * self.config.batch_size : (position + 1) * self.config.batch_size]
            images = to_float(self.faces.images[rows]).to(self.device)
            early, late = self.config.augmentation, self.config.late
            has_come = self.step >= round(self.config.late_from * self.steps_per_epoch)
            augmentation = late if late is not None and has_come else early
            images = augmentation(images, _generator(self.config.seed, self.step, 1))
            images = images.mul_(2).sub_(1).contiguous(memory_format=self.layout)
            yield images, self.faces.labels[rows].to(self.device)

    def learning_rate(self) -> float:
        """Linear warm-up, then half a cosine down to 0."""
        warmup = self.config.warmup * self.steps_per_epoch
        if self.step < warmup:
            return self.config.lr * min(1.0, (self.step + 1) / warmup)
        return self.config.lr * 0.5 * (1 + math.cos(math.pi * (self.step - warmup) / (self.total_steps - warmup)))

    def advance(self, images: Tensor, labels: Tensor) -> float:
        """One step of SGD; returns the mean loss of the batch."""
        self.network.train()
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate()
        loss = self.head(self.forward(images), labels).mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
        self.optimiser.step()
        self.step += 1
        return float(loss.detach())

    def save(self, path: Path) -> None:
        """Write the resumable state, whole or not at all."""
        state = {
            "config": json.dumps(asdict(self.config), sort_keys=True),
            "data": self.faces.digest,
            "step": self.step,
            "history": self.history,
            "network": self.network.state_dict(),
            "head": self.head.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "rng": torch.get_rng_state(),
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)  # into memory: writing to a full disk, torch raises what looks like a bug
        with atomic_write(path) as temporary:
            temporary.write_bytes(buffer.getbuffer())

    def resume(self, path: Path) -> None:
        """Take up the state in ``path``.

        Raises:
            CheckpointError: not a state of ours, or of another configuration or other data.
        """
        try:
            with zipfile.ZipFile(path) as archive:  # torch writes check sums, but does not read them
                torn = archive.testzip()
            if torn is not None:
                raise ValueError(f"{torn} is damaged")
            state = torch.load(path, weights_only=True, map_location=self.device)
        except Exception as error:  # torch raises many kinds for a damaged file
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise CheckpointError(f"cannot resume from {str(path)!r}: {reason}") from None
        if not isinstance(state, dict) or "config" not in state:
            raise CheckpointError(f"{str(path)!r} is not a training state")
        mine = json.loads(json.dumps(asdict(self.config)))
        before = json.loads(json.dumps(asdict(TrainConfig())))
        other = before | json.loads(state["config"])  # a setting that is newer than the state had its default
        for name in ("augmentation", "late"):
            other[name] = other[name] and asdict(Augmentation()) | other[name]
        changed = sorted(key for key in mine | other if mine.get(key) != other.get(key))
        if changed or state["data"] != self.faces.digest:
            what = ", ".join(changed) or "the data"
            raise CheckpointError(f"{str(path)!r} belongs to another run: {what} differs (--force starts anew)")
        try:
            self.network.load_state_dict(state["network"])
            self.head.load_state_dict(state["head"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step, self.history = state["step"], state["history"]
            torch.set_rng_state(state["rng"].cpu())
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(f"{str(path)!r} does not fit this run: {' '.join(str(error).split())}") from None


def train(
    data: Path,
    out: Path,
    *,
    config: TrainConfig,
    device: torch.device | str = "cpu",
    force: bool = False,
    save_every: float = 120.0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train on a folder of identities and write a checkpoint.

    The resumable state lies beside ``out`` as ``<out>.state``, is written after every epoch and
    every ``save_every`` seconds, and is taken up if it is there; it stays when the run has ended.

    Args:
        data: ``data/<identity>/<picture>``, 112x112 aligned; or a .rec file or tar shards of them.
        out: the checkpoint to write (safetensors, float16).
        config: all settings.
        device: where to train.
        force: start anew even if there is a state.
        save_every: seconds.
        progress: told (step, steps, text) after every step.

    Returns:
        The header of the checkpoint.

    Raises:
        InputError: pictures that are not 112x112, or too few identities.
        CheckpointError: the state belongs to another run.
        DivergedError: the loss is no longer finite.
    """
    if out.is_dir():
        raise UsageError(f"expected a file to write the checkpoint to, got the folder {str(out)!r}")
    pictures = open_pictures(data)
    names, held_out = split_identities(pictures.identities, config.held_out)
    faces = open_faces(pictures, names)
    validation = open_faces(pictures, held_out) if held_out else None
    if validation is not None and int(validation.labels.bincount().max()) < 2:
        raise InputError("expected a held-out identity with two pictures or more; each has one")
    if len(faces) < config.batch_size:
        raise UsageError(f"expected at least one batch of {config.batch_size} pictures, got {len(faces)}")
    run = Run(faces, config, torch.device(device))
    state = out.with_name(out.name + ".state")
    if state.is_file() and not force:
        run.resume(state)
    first_step, started, saved = run.step, time.monotonic(), time.monotonic()
    report = ""
    average = 0.0
    for images, labels in run.batches():
        loss = run.advance(images, labels)
        if not math.isfinite(loss):
            raise DivergedError(f"the loss is {loss} at step {run.step}; try a lower lr (the last state is kept)")
        average = loss if run.step == first_step + 1 else 0.98 * average + 0.02 * loss
        if run.step % run.steps_per_epoch == 0:
            epoch = run.step // run.steps_per_epoch
            if validation is not None and (epoch % config.validate_every == 0 or run.step == run.total_steps):
                figures = validate(run.network, validation, run.device)
                run.history.append({"epoch": epoch, "loss": average, **_summary(figures)})
                tar = _summary(figures)["tar"]
                report = f" | AUC {figures['auc']:.4f}" + ("" if tar is None else f" TAR@1e-3 {tar:.3f}")
            run.save(state)
            saved = time.monotonic()
        elif time.monotonic() - saved > save_every:
            run.save(state)
            saved = time.monotonic()
        rate = (run.step - first_step) * config.batch_size / max(time.monotonic() - started, 1e-9)
        epoch = (run.step - 1) // run.steps_per_epoch + 1
        progress(
            run.step,
            run.total_steps,
            f"epoch {epoch}/{config.epochs} loss {average:.3f} {rate:.1f} images/s{report}",
        )
    tensors = {f"network.{key}": _to_stored(value) for key, value in run.network.state_dict().items()}
    # Judged as stored: the half-precision weights are what everyone else will load.
    run.network.load_state_dict({key.removeprefix("network."): value for key, value in tensors.items()})
    figures = validate(run.network, validation, run.device) if validation is not None else {}
    header = {
        "backbone": config.backbone,
        "backbone_settings": {"width": config.width, "embedding_size": config.embedding_size},
        "embedding_size": config.embedding_size,
        "preprocessing": PREPROCESSING,
        "training": asdict(config),
        "history": run.history,
        "data": {
            "digest": faces.digest,
            "identities": len(names),
            "images": len(faces),
            "held_out": held_out,
        },
        "validation": figures,
    }
    if config.keep_head:
        tensors["head.centres"] = nn.functional.normalize(run.head.centres.detach(), dim=-1).half()
    save_checkpoint(out, header, tensors)
    return header


@torch.no_grad()
def validate(network: nn.Module, faces: Faces, device: torch.device) -> dict[str, Any]:
    """Verification over all pairs of ``faces``: AUC, and an operating point at each of 1e-2 and 1e-3."""
    network.eval()
    parts = []
    for start in range(0, len(faces), 64):
        images = to_float(faces.images[start : start + 64]).to(device).mul_(2).sub_(1)
        parts.append(nn.functional.normalize(network(images.contiguous(memory_format=torch.channels_last))).cpu())
    scored = score_pairs(torch.cat(parts).numpy(), np.asarray(faces.labels))
    points = [operating_point(fmr, genuine=scored.genuine, impostor=scored.impostor) for fmr in FMRS]
    return {
        "auc": auc(genuine=scored.genuine, impostor=scored.impostor),
        "thresholds": [asdict(point) for point in points],
        "identities": len(faces.identities),
        "images": len(faces),
    }


def _summary(figures: dict[str, Any]) -> dict[str, float | None]:
    return {"auc": figures["auc"], "tar": figures["thresholds"][-1]["tar"]}


def _check_values(settings: "TrainConfig | Augmentation") -> None:
    """Refuses what is not of its default's type, and numbers that are negative or not finite."""
    for item in fields(settings):
        value, kind = getattr(settings, item.name), type(item.default)
        if item.name in ("margin", "augmentation", "late"):
            continue
        fits = type(value) is kind or (kind is float and type(value) is int)
        if not fits or (kind in (int, float) and not 0 <= value < math.inf):
            least = " of at least 0" if kind in (int, float) else ""
            raise UsageError(f"expected {kind.__name__}{least} for {item.name}, got {value!r}")


def _generator(seed: int, number: int, purpose: int) -> torch.Generator:
    """A generator for one purpose at one step or epoch, independent of all others."""
    mixed = np.random.SeedSequence([seed, number, purpose]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(mixed) & (2**63 - 1))


def _to_stored(value: Tensor) -> Tensor:
    return value.half() if value.is_floating_point() else value
