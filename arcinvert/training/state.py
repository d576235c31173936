"""The resumable state of a run: one logical matrix of class centers, whatever the number of ranks.

A torch file of ``config`` (JSON), ``data`` (digest), ``step``, ``history``, ``average``, ``network``, ``head``,
``readout`` (of a teacher's lesson), ``optimizer`` (as :class:`torch.optim.SGD` over the parameters of network, readout
and head would write it), ``loss_scale``, and ``rng`` with a row for each rank.
"""

import json
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

import torch
from torch import Tensor

from arcinvert.checkpoint import atomic_write
from arcinvert.errors import CheckpointError, DivergedError
from arcinvert.training.collectives import all_max, collect
from arcinvert.training.config import TrainConfig
from arcinvert.training.data.faces import Augmentation

if TYPE_CHECKING:
    from arcinvert.training.run import Run


class Step(NamedTuple):
    """What a step tells: the mean loss of the batch, and the mean angle to the own class center in degrees."""

    loss: float
    angle: float


class _Patient:
    """A file that remembers the first error in writing, of which torch would make what looks like a bug."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return len(data) if self.error else self.file.write(data)
        except OSError as error:
            self.error = error
            return len(data)

    def flush(self) -> None:
        pass


def whole_head(run: "Run") -> dict[str, Tensor]:
    """The head's state with the rows of all ranks, on the CPU of the first rank; empty on the others."""
    rows = {key: value for key, value in run.head.state_dict().items() if key in run.head.SHARDED}
    joint = {key: collect(value, run.ranks) for key, value in rows.items()}
    rest = {key: value.cpu() for key, value in run.head.state_dict().items() if key not in rows}
    return {} if run.ranks.rank else {key: value for key, value in joint.items() if value is not None} | rest


def kept_centers(head: dict[str, Tensor], say: Callable[[str], None]) -> Tensor:
    """One center for each class, (N, D): of several the dominant one, if it is known; else all of them, (N, K, D).

    The dominant sub-center is that which most pictures of the class were nearest to in the last epoch. It is
    not known of a class of which no picture was seen then.
    """
    centers = head["centers"]
    if centers.ndim == 2:
        return centers
    unseen = int((head["hits"].sum(1) == 0).sum())
    if unseen:
        say(
            f"all {centers.shape[1]} sub-centers are kept, not the dominant one: "
            f"no picture of {unseen} identities was seen in the last epoch"
        )
        return centers
    return centers[torch.arange(len(centers)), head["hits"].argmax(1)]


def write_state(run: "Run", path: Path) -> None:
    """See :meth:`~arcinvert.training.run.Run.save`."""
    weights = [*run.parameters, *run.head.parameters()]
    bad = torch.stack([~value.detach().isfinite().all() for value in weights]).any()
    if bool(all_max(bad.float(), run.ranks)):
        raise DivergedError(f"a weight is no longer finite at step {run.step}")
    head, momenta = whole_head(run), [collect(value, run.ranks) for value in run.velocities.values()]
    draws = collect(torch.get_rng_state()[None], run.ranks)
    gpu = collect(torch.cuda.get_rng_state(run.device)[None], run.ranks) if run.device.type == "cuda" else None
    if run.ranks.rank:
        return
    optimizer = run.optimizer.state_dict()
    first = len(run.parameters)
    for number, momentum in enumerate(momenta):
        optimizer["state"][first + number] = {"momentum_buffer": momentum}
    optimizer["param_groups"][0]["params"] = list(range(first + len(momenta)))
    state = {
        "config": json.dumps(asdict(run.config), sort_keys=True),
        "data": run.faces.digest,
        "step": run.step,
        "history": run.history,
        "average": None if run.average is None else list(run.average),
        "network": run.network.state_dict(),
        "head": head,
        "optimizer": optimizer,
        "readout": {} if run.readout is None else run.readout.state_dict(),
        "loss_scale": [run.loss_scale, run.good_steps],
        "rng": draws,
        "rng_cuda": gpu,
    }
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        patient = _Patient(file)
        torch.save(state, cast(IO[bytes], patient))
        if patient.error is not None:
            raise patient.error


def read_state(run: "Run", path: Path) -> None:
    """See :meth:`~arcinvert.training.run.Run.resume`."""
    try:
        with zipfile.ZipFile(path) as archive:  # torch writes check sums, but does not read them
            torn = archive.testzip()
        if torn is not None:
            raise ValueError(f"{torn} is damaged")
        state = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"cannot resume from {str(path)!r}: {reason}") from None
    if not isinstance(state, dict) or "config" not in state:
        raise CheckpointError(f"{str(path)!r} is not a training state")
    changed = differences(run.config, state["config"])
    if changed or state["data"] != run.faces.digest:
        what = ", ".join(changed) or "the data"
        raise CheckpointError(f"{str(path)!r} belongs to another run: {what} differs (--force starts anew)")
    try:
        _fill(run, state)
    except (KeyError, RuntimeError, ValueError, IndexError) as error:
        raise CheckpointError(f"{str(path)!r} does not fit this run: {' '.join(str(error).split())}") from None


def differences(config: TrainConfig, stored: str) -> list[str]:
    """Names of the settings in which a stored configuration is another one; what it does not know had its default."""
    mine = json.loads(json.dumps(asdict(config)))
    other = json.loads(json.dumps(asdict(TrainConfig()))) | json.loads(stored)
    for name in ("augmentation", "late"):
        other[name] = other[name] and asdict(Augmentation()) | other[name]
    return sorted(key for key in mine | other if mine.get(key) != other.get(key))


def _fill(run: "Run", state: dict[str, Any]) -> None:
    part, head = run.head.part, dict(state["head"])

    def own(rows: Tensor) -> Tensor:
        """Of a matrix with a row for each class, this rank's."""
        if len(rows) != run.head.classes:
            raise ValueError(f"it has {len(rows)} classes, expected {run.head.classes}")
        return rows[part.start : part.stop].clone()

    run.network.load_state_dict(state["network"])
    run.head.load_state_dict(
        {name: torch.zeros_like(value) for name, value in run.head.state_dict().items() if name == "hits"}
        | {name: own(value) if name in run.head.SHARDED else value for name, value in head.items()}
    )
    if run.readout is not None:
        run.readout.load_state_dict(state["readout"])
    stored, first = state["optimizer"], len(run.parameters)
    groups = [dict(group, params=list(range(first))) for group in stored["param_groups"]]
    network = {number: value for number, value in stored["state"].items() if number < first}
    run.optimizer.load_state_dict({"state": network, "param_groups": groups})
    for number, velocity in enumerate(run.velocities.values(), first):
        known = stored["state"].get(number)
        if known is not None:
            velocity.copy_(own(known["momentum_buffer"]))
    run.step, run.history = state["step"], state["history"]
    if state.get("average") is not None:
        run.average = Step(*state["average"])
    run.loss_scale, run.good_steps = state.get("loss_scale", (run.loss_scale, run.good_steps))
    draws = state["rng"].reshape(-1, state["rng"].shape[-1])  # a state from before there were ranks has one row
    if run.ranks.rank < len(draws):
        torch.set_rng_state(draws[run.ranks.rank].clone())
        if run.device.type == "cuda" and state.get("rng_cuda") is not None:
            torch.cuda.set_rng_state(state["rng_cuda"][run.ranks.rank].clone(), run.device)
