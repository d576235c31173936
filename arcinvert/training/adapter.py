"""Training of an adapter: a perceptron of three layers and a margin head, on labeled embeddings."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from arcinvert.adapter import KIND, Adapter, Perceptron
from arcinvert.errors import DivergedError, InputError, UsageError
from arcinvert.evaluation.protocols.labeled_sets import retrieve_folder
from arcinvert.progress import Progress, silent
from arcinvert.training.heads import MarginHead
from arcinvert.training.margins import Margin


@dataclass(frozen=True)
class AdapterConfig:
    """Settings of a training; those of the defaults were chosen on held-out development identities.

    Attributes:
        hidden: width of both hidden layers.
        embedding_size: D of the result; 0 is that of the input.
        epochs, batch_size: of the training.
        lr, momentum, weight_decay: SGD; the rate falls to 0 along half a cosine.
        margin: additive angle, radians (ArcFace); 0 is norm-softmax.
        scale: factor on the cosines.
        noise: standard deviation of the noise on each component, in units of 1 / sqrt(D): augmentation.
        held_out: so many identities, the last by name, are measured and not trained on.
        seed: of everything random.
    """

    hidden: int = 512
    embedding_size: int = 0
    epochs: int = 20
    batch_size: int = 256
    lr: float = 0.003
    momentum: float = 0.9
    weight_decay: float = 5e-4
    margin: float = 0.3
    scale: float = 32.0
    noise: float = 0.3
    held_out: int = 0
    seed: int = 0

    @classmethod
    def from_mapping(cls, settings: Mapping[str, Any]) -> "AdapterConfig":
        """The settings of a TOML document.

        Raises:
            UsageError: an unknown name, or a value that does not fit.
        """
        known = {entry.name: type(entry.default) for entry in fields(cls)}
        for name, value in settings.items():
            if name not in known:
                raise UsageError(f"expected settings of an adapter out of {', '.join(known)}, got {name!r}")
            if isinstance(value, bool) or not isinstance(value, (int, float) if known[name] is float else int):
                raise UsageError(f"expected a number of type {known[name].__name__} for {name}, got {value!r}")
        found = cls(**settings)
        ranges: tuple[tuple[str, bool, str], ...] = (
            ("hidden", 1 <= found.hidden <= 1 << 14, "1 to 16384"),
            ("embedding_size", 0 <= found.embedding_size <= 1 << 14, "0 to 16384"),
            ("epochs", found.epochs >= 1, "1 or more"),
            ("batch_size", found.batch_size >= 2, "2 or more"),
            ("lr", 0 < found.lr < math.inf, "above 0"),
            ("momentum", 0 <= found.momentum < 1, "0 to below 1"),
            ("weight_decay", 0 <= found.weight_decay < math.inf, "0 or more"),
            ("margin", 0 <= found.margin < math.pi, "0 to below pi radians"),
            ("scale", 0 < found.scale < math.inf, "above 0"),
            ("noise", 0 <= found.noise < math.inf, "0 or more"),
            ("held_out", found.held_out >= 0, "0 or more"),
            ("seed", found.seed >= 0, "0 or more"),
        )
        for name, fits, expected in ranges:
            if not fits:
                raise UsageError(f"expected {name} of {expected}, got {getattr(found, name)}")
        return found


def train_adapter(
    rows: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    config: AdapterConfig,
    progress: Progress = silent,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Train an adapter; header and tensors of its file.

    Args:
        rows: (N, D), unit norm.
        labels: (N,) 0, 1, ...; the last ``config.held_out`` are measured before and after, and not trained on.
        config: all settings.
        progress: called with (step, steps, text).

    Raises:
        InputError: fewer than two identities, or fewer rows than a batch, are left to train on.
        DivergedError: the loss is no longer finite.
    """
    classes = int(labels.max(initial=-1)) + 1 - config.held_out
    trained = labels < classes
    if classes < 2 or int(trained.sum()) < config.batch_size:
        raise InputError(
            f"expected at least 2 identities and {config.batch_size} embeddings (batch_size) to train on, "
            f"got {max(classes, 0)} and {int(trained.sum())}"
        )
    size = rows.shape[1]
    generator = torch.Generator().manual_seed(config.seed)
    with torch.random.fork_rng([]):
        torch.manual_seed(config.seed)
        network = Perceptron(size, config.hidden, config.embedding_size or size)
        margin = Margin(m2=config.margin)
        head = MarginHead(config.embedding_size or size, classes, margin=margin, scale=config.scale)
    x, y = torch.from_numpy(rows[trained]), torch.from_numpy(labels[trained])
    parameters = [*network.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(
        parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, nesterov=True
    )
    per_epoch = len(x) // config.batch_size
    total = per_epoch * config.epochs
    loss = math.nan
    for epoch in range(config.epochs):
        order = torch.randperm(len(x), generator=generator)
        for number in range(per_epoch):
            step = epoch * per_epoch + number
            for group in optimizer.param_groups:
                group["lr"] = config.lr * 0.5 * (1 + math.cos(math.pi * step / total))
            chosen = order[number * config.batch_size : (number + 1) * config.batch_size]
            noise = torch.randn(len(chosen), size, generator=generator) * (config.noise / size**0.5)
            found = head(network(nn.functional.normalize(x[chosen] + noise)), y[chosen]).loss.mean()
            loss = float(found.detach())
            if not math.isfinite(loss):
                raise DivergedError(f"the loss of step {step} is {loss}; try a lower lr (it was {config.lr:g})")
            optimizer.zero_grad(set_to_none=True)
            found.backward()
            optimizer.step()
            progress(step + 1, total, f"loss {loss:.3f}")
    network.eval().requires_grad_(False)
    header = {
        "kind": KIND,
        "size": size,
        "hidden": config.hidden,
        "embedding_size": config.embedding_size or size,
        "training": asdict(config),
        "data": {"identities": classes, "embeddings": len(x)},
        "loss": loss,
        "validation": _measured(network, rows[~trained], labels[~trained] - classes) if config.held_out else {},
    }
    return header, {f"network.{key}": value for key, value in network.state_dict().items()}


def _measured(network: Perceptron, rows: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, Any]:
    """MAP@100 of held-out identities, by the embeddings as they are and by the adapted ones."""
    adapted = Adapter(network, rows.shape[1], 0, {}, "")(rows)
    before, after = (retrieve_folder(part, labels).map for part in (rows, adapted))
    return {"identities": int(labels.max()) + 1, "embeddings": len(rows), "map_before": before, "map_after": after}
