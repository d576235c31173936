"""A value keeps the form of the one it replaces, and the reader of stores reads it back."""

import base64
import io

import numpy as np
import pytest

from arcinvert.audit.stores.vectors import Reader
from arcinvert.migration.encoding import encode

OLD = np.random.default_rng(0).normal(size=24).astype(np.float32)
NEW = np.random.default_rng(1).normal(size=10).astype(np.float32)


def npy(row: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, row)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("old", "tolerance", "looks"),
    [
        (OLD.tobytes(), 0, NEW.tobytes()),
        (OLD.astype("<f8").tobytes(), 0, NEW.astype("<f8").tobytes()),
        (OLD.astype("<f2").tobytes(), 1e-3, NEW.astype("<f2").tobytes()),
        (OLD.astype(">f4").tobytes(), 0, NEW.astype(">f4").tobytes()),
        (OLD.view("<u4").__rshift__(16).astype("<u2").tobytes(), 1e-2, None),
        (npy(OLD.astype(np.float64)[None]), 0, b"\x93NUMPY"),
        (str(OLD.tolist()), 0, "["),
        (str(OLD.tolist()).encode(), 0, b"["),
        ("{" + ",".join(map(str, OLD.tolist())) + "}", 0, "{"),
        (f'{{"model": "old", "embedding": {OLD.tolist()}}}', 0, '{"model": "old", "embedding": ['),
        (OLD.tobytes().hex(), 0, NEW.tobytes().hex()),
        ("\\x" + OLD.tobytes().hex(), 0, "\\x" + NEW.tobytes().hex()),
        (base64.b64encode(OLD.tobytes()).decode(), 0, base64.b64encode(NEW.tobytes()).decode()),
        (f"array({OLD.tolist()}, dtype=float32)", 0, "["),
    ],
)
def test_the_form_stays(old: str | bytes, tolerance: float, looks: str | bytes | None) -> None:
    reader = Reader.for_values([old] * 5, "the store")
    made = encode(old, NEW, reader)
    assert type(made) is type(old)
    if looks is not None:
        assert made[: len(looks)] == looks
    np.testing.assert_allclose(reader(made), NEW, rtol=tolerance, atol=1e-7)


def test_whole_numbers_become_fractions() -> None:
    old = np.arange(-12, 12, dtype=np.int8).tobytes()
    assert encode(old, NEW, Reader("|i1")) == NEW.tobytes()
    kept = np.load(io.BytesIO(encode(npy(np.arange(24)), NEW, Reader())), allow_pickle=False)  # type: ignore[arg-type]
    np.testing.assert_array_equal(kept, NEW)


def test_bfloat16_is_rounded_to_the_nearest() -> None:
    row = np.array([1 + 2**-8 + 2**-12, -3.0], np.float32)
    back = (np.frombuffer(encode(b"", row, Reader("bf2")), "<u2").astype("<u4") << 16).view("<f4")  # type: ignore[arg-type]
    np.testing.assert_array_equal(back, [1 + 2**-7, -3.0])
