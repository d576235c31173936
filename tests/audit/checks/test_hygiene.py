import hashlib
from collections.abc import Iterator

import numpy as np
import pytest

from arcinvert.audit.checks.hygiene import KEPT_ROWS, Scan, scan, unit
from arcinvert.audit.stores.store import Block, Contents, Store
from arcinvert.errors import InputError

ROWS = np.random.default_rng(0).normal(size=(200, 16)).astype(np.float32)
ROWS /= np.linalg.norm(ROWS, axis=1, keepdims=True)


class Memory(Store):
    """A store in memory; ``missing`` are skipped."""

    kind, name = "memory", "memory"

    def __init__(self, rows: np.ndarray, names: list[str] | None = None, missing: dict[int, str] | None = None) -> None:
        self.rows, self.names, self.missing = rows.astype(np.float32), names, missing or {}
        self.count, self.size = rows.shape
        self.contents = Contents(tables=("note",))

    def blocks(self, rows: int = 64) -> Iterator[Block]:
        for start in range(0, self.count, min(rows, 64)):
            inside = np.arange(start, min(start + min(rows, 64), self.count))
            kept = np.array([n for n in inside if n not in self.missing], np.int64)
            reasons = [self.missing[n] for n in inside if n in self.missing]
            names = None if self.names is None else [self.names[n] for n in kept]
            yield Block(kept, self.rows[kept], names, {reason: reasons.count(reason) for reason in set(reasons)})


def counts(found: Scan) -> dict[str, int]:
    return {finding.code: finding.count for finding in found.findings}


def test_a_clean_store() -> None:
    told: list[int] = []
    found = scan(Memory(ROWS), progress=lambda done, total, text: told.append(done))
    assert counts(found) == {"tables": 1}
    assert (found.count, found.size, found.skipped_rows, found.identities) == (200, 16, 0, 0)
    assert found.identity is None
    assert found.digest == hashlib.sha256(ROWS.tobytes()).hexdigest()
    assert found.norms is not None
    assert found.norms.unit == 200
    assert told == [64, 128, 192, 200]


def test_everything_that_is_wrong_is_counted() -> None:
    rows, names = ROWS.copy(), [f"p{n}" for n in range(200)]
    rows[3, 2], rows[4, 0], rows[5] = np.nan, -np.inf, 0
    rows[10], rows[11] = rows[9], rows[9]
    names[10] = "p9"
    names[20], names[21] = "", "p22"
    rows[30:40] *= 12
    missing = {50: "null", 51: "ragged", 52: "ragged", 53: "unreadable", 54: "pickle"}
    found = scan(Memory(rows, names, missing))
    assert counts(found) == {
        "tables": 1, "null": 1, "ragged": 2, "unreadable": 1, "pickle": 1, "not-finite": 2, "zero": 1,
        "unnormalized": 10, "mixed-norms": 10, "duplicates": 2,
    }  # fmt: skip
    texts = {finding.code: finding.text for finding in found.findings}
    assert "1 of them under another identity" in texts["duplicates"]
    assert "norms from 1 to 12" in texts["unnormalized"]
    assert np.flatnonzero(~found.good).tolist() == [3, 4, 5, 50, 51, 52, 53, 54]
    assert found.skipped_rows == 8
    assert found.identity is not None
    assert found.identity[9] == found.identity[10] != found.identity[11]
    assert found.identity[20] == 0
    assert found.identities == 200 - 5 - 3  # those of skipped rows, "", and two names that others have


def test_raw_embeddings_are_said_to_be_raw() -> None:
    found = scan(Memory(ROWS * np.linspace(10, 30, 200)[:, None]))
    assert counts(found) == {"tables": 1, "unnormalized": 200}
    assert found.norms.min == pytest.approx(10, rel=1e-5)
    assert found.norms.max == pytest.approx(30, rel=1e-5)
    assert found.norms.mean == pytest.approx(20, rel=1e-5)


def test_copies_under_one_name() -> None:
    found = scan(Memory(np.repeat(ROWS, 2, 0), [str(n // 2) for n in range(400)]))
    assert counts(found)["duplicates"] == 200
    assert "all under the same identity" in next(f.text for f in found.findings if f.code == "duplicates")


def test_quantization_is_seen_far_from_the_start() -> None:
    rows = np.random.default_rng(1).normal(size=(3 * KEPT_ROWS, 16)).astype(np.float16)
    assert "quantized" in counts(scan(Memory(rows)))
    rows = rows.astype(np.float32)
    rows[2 * KEPT_ROWS :] += 1e-4
    assert "quantized" not in counts(scan(Memory(rows)))


def test_a_store_of_nothing_usable() -> None:
    found = scan(Memory(np.zeros((5, 4)), ["a"] * 5))
    assert found.skipped_rows == 5
    assert found.norms is None


def test_unit_leaves_out_what_has_no_direction() -> None:
    rows, good = unit(np.array([[3, 4], [0, 0], [np.nan, 1], [0, -2]], np.float32))
    assert np.allclose(rows, [[0.6, 0.8], [0, -1]])
    assert good.tolist() == [True, False, False, True]


def test_a_name_that_is_no_unicode_is_a_name() -> None:
    assert scan(Memory(ROWS[:3], ["\ud800", "<b>", "=1+1"])).identities == 3
    with pytest.raises(InputError, match="ascending positions"):
        Memory(ROWS).take(np.array([2, 1]))


@pytest.mark.parametrize("scale", [1e-42, 1e-36, 1e38])
def test_rows_of_any_length_have_a_direction(scale: float) -> None:
    rows = np.concatenate([ROWS[:3] * np.float32(scale), ROWS[3:5]])
    found, good = unit(rows)
    assert good.all()
    assert (found * ROWS[:5]).sum(1) == pytest.approx(1, abs=1e-2 if scale < 1e-40 else 1e-5)
