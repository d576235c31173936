"""The file of a training state, with which a killed run resumes in any number of processes.

A torch file of the dictionary that :meth:`~arcinvert.training.run.Run.state_dict` describes, with the configuration as
JSON. Files of earlier versions are read under the names of this one.
"""

import json
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any, BinaryIO, cast

import torch

from arcinvert.checkpoint import atomic_write
from arcinvert.errors import CheckpointError

RENAMED = {"optimiser": "optimizer", "readout": "projection_head"}
"""Keys of a state by their names in earlier versions."""


class _FirstErrorFile:
    """A file that keeps the first error in writing, which torch would replace with one that looks like a bug."""

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


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a state, completely or not at all."""
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        output = _FirstErrorFile(file)
        torch.save(state | {"config": json.dumps(state["config"], sort_keys=True)}, cast(IO[bytes], output))
        if output.error is not None:
            raise output.error


def load_state(path: Path) -> dict[str, Any]:
    """Read a state; no code in the file is run.

    Raises:
        CheckpointError: not a training state, or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch writes check sums, but does not read them
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise CheckpointError(f"expected no compression in the training state {str(path)!r}, got some")
            if torn := archive.testzip():
                raise CheckpointError(f"cannot read the training state {str(path)!r}: {torn} is damaged")
        state = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    except UnpicklingError:  # torch's own message advises to load it without the check
        raise CheckpointError(
            f"cannot read the training state {str(path)!r}: it is damaged, or holds more than tensors"
        ) from None
    except (RuntimeError, zipfile.BadZipFile, OSError, EOFError, ValueError, LookupError, TypeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"cannot read the training state {str(path)!r}: {reason}") from None
    try:
        state = {RENAMED.get(key, key): value for key, value in state.items()}
        state["config"] = dict(json.loads(state["config"]))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(f"{str(path)!r} is not a training state: {error!r}") from None
    if isinstance(head := state.get("head"), dict):
        state["head"] = {key.replace("centres", "centers"): value for key, value in head.items()}
    return state
