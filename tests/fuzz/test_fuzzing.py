"""A short run of every target: seeds are read, a few mutated files raise errors of arcinvert alone.

``scripts/fuzz`` is the long run, guided by coverage.
"""

from pathlib import Path

import numpy as np
import pytest
from fuzz_target import Target
from fuzz_targets import TARGETS

from arcinvert.errors import ArcInvertError

RUNS = 40
IN_PROCESS = [target for target in TARGETS.values() if not target.native]


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """The content with some bytes replaced, a part left out or doubled, or cut off."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        start, length = int(rng.integers(len(data) + 1)), int(rng.integers(1, 9))
        match rng.integers(5):
            case 0:
                data[start : start + length] = rng.bytes(len(data[start : start + length]))
            case 1:
                data[start : start + length] = b"\xff" * len(data[start : start + length])
            case 2:
                del data[start : start + length * int(rng.integers(1, 20))]
            case 3:
                data[start:start] = data[start : start + length * 8]
            case 4:
                del data[max(start, len(data) // 2) :]
    return bytes(data)


@pytest.mark.parametrize("target", IN_PROCESS, ids=[target.name for target in IN_PROCESS])
def test_mutated_files_are_read_or_refused(target: Target, tmp_path: Path) -> None:
    for module in target.missing():
        pytest.skip(f"needs {module}")
    place, seeds = target.place(tmp_path)
    rng, read = np.random.default_rng(0), 0
    for content in seeds:
        place.write_bytes(content)
        try:
            target.read(place)
        except ArcInvertError:
            continue
        read += 1
    assert read or target.name == "onnx detector"  # its seed is another network
    for _ in range(RUNS):
        place.write_bytes(mutated(seeds[int(rng.integers(len(seeds)))], rng))
        try:
            target.read(place)
        except ArcInvertError:
            continue
