"""Canaries: drawn like a store's templates, found in changed dumps, and seldom where they are not."""

import csv
import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from arcinvert.audit.canaries import CanaryKey, choose_names, find, plant, write_rows
from arcinvert.audit.canaries.find import chance_of
from arcinvert.audit.checks import scan
from arcinvert.audit.stores import Store, open_store
from arcinvert.cli import run
from arcinvert.errors import InputError, UsageError

pytestmark = pytest.mark.usefixtures("as_found")
SIZE = 64


def faces(count: int, seed: int, size: int = SIZE) -> np.ndarray:
    """Templates with a common mean and few main directions, of norms around 20."""
    generator = np.random.default_rng(seed)
    spread = np.random.default_rng(99).normal(size=(size, size)) * np.linspace(1, 0.1, size)[:, None]
    rows = 2 + generator.normal(size=(count, size)) @ spread
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True) * generator.uniform(15, 25, (count, 1))).astype("f4")


def stored(folder: Path, rows: np.ndarray, name: str = "store") -> Store:
    np.save(folder / f"{name}.npy", rows)
    return open_store(str(folder / f"{name}.npy"))


@pytest.fixture
def key(tmp_path: Path) -> CanaryKey:
    return plant(stored(tmp_path, faces(400, 1)), "d", 5, seed=7)


def test_the_chance_is_that_of_a_random_order() -> None:
    # Two canaries (0, 1) and three decoys in every order: how often do 1 or 2 canaries lead?
    orders = list(permutations(range(5)))
    for found in (0, 1, 2):
        leading = sum(all(x < 2 for x in order[:found]) for order in orders) / len(orders)
        assert chance_of(found, 2, 3) == pytest.approx(leading)


def test_canaries_look_like_the_store(key: CanaryKey, tmp_path: Path) -> None:
    real, many = faces(4000, 1), key.draw(4000, np.random.default_rng(0))
    unit = real / np.linalg.norm(real, axis=1, keepdims=True)
    assert np.abs(unit.mean(0) - many.mean(0)).max() < 0.03
    assert 15 <= np.linalg.norm(key.templates, axis=1).min() <= np.linalg.norm(key.templates, axis=1).max() <= 25
    planted = stored(tmp_path, np.concatenate([faces(400, 1), key.templates]), "planted")
    assert [f.code for f in scan(planted).findings] == [f.code for f in scan(stored(tmp_path, faces(400, 1))).findings]


@pytest.mark.parametrize("change", ["none", "half", "int8", "normalized", "noise"])
def test_they_are_found_in_a_changed_and_shuffled_dump(key: CanaryKey, change: str, tmp_path: Path) -> None:
    rows = np.concatenate([faces(400, 1), key.templates[:3]])
    order = np.random.default_rng(3).permutation(len(rows))
    rows = rows[order]
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    noise = np.random.default_rng(4).normal(size=rows.shape) * 0.02
    changed = {
        "none": rows,
        "half": rows.astype("f2"),
        "int8": np.round(unit * 127).astype("i1"),
        "normalized": unit,
        "noise": (unit + noise).astype("f4"),
    }[change]
    found = find(stored(tmp_path, changed), key)
    assert [match.found for match in found.matches] == [True] * 3 + [False] * 2
    where = [int(np.flatnonzero(order == 400 + n)[0]) for n in range(3)]
    assert [match.position for match in found.matches[:3]] == where
    assert found.chance == pytest.approx(chance_of(3, 5, 10_000))
    assert found.chance < 1e-10


def test_they_are_seldom_found_where_they_are_not(tmp_path: Path) -> None:
    store = stored(tmp_path, faces(300, 1, 16))
    dump = stored(tmp_path, faces(300, 2, 16), "dump")  # the same people's system, another day
    chances = [find(dump, plant(store, "", 3, seed=seed), decoys=57).chance for seed in range(400)]
    for level in (0.05, 0.003):
        expected = level * len(chances)
        assert sum(chance <= level for chance in chances) <= expected + 3 * expected**0.5


def test_a_key_that_is_none_is_refused(key: CanaryKey, tmp_path: Path) -> None:
    key.save(tmp_path / "a.key")
    assert (tmp_path / "a.key").stat().st_mode & 0o777 == 0o600
    again = CanaryKey.load(tmp_path / "a.key")
    assert np.array_equal(again.templates, key.templates)
    assert (again.seed, again.store) == (key.seed, key.store)
    (tmp_path / "b.key").write_bytes((tmp_path / "a.key").read_bytes()[:-10])
    for name, expected in (("b.key", "is none, or damaged"), ("c.key", "No such file")):
        with pytest.raises(InputError, match=expected):
            CanaryKey.load(tmp_path / name)


def test_what_does_not_fit_is_refused(key: CanaryKey, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has 99"):
        plant(stored(tmp_path, faces(99, 1)), "", 5)
    with pytest.raises(UsageError, match="got 0"):
        plant(stored(tmp_path, faces(400, 1)), "", 0)
    with pytest.raises(InputError, match="has 16"):
        find(stored(tmp_path, faces(9, 1, 16)), key)
    with pytest.raises(UsageError, match="got 1, 1 different"):
        choose_names(stored(tmp_path, faces(9, 1)), 5, ["a"])
    with pytest.raises(UsageError, match=r"x\.bin"):
        write_rows(tmp_path / "x.bin", key.templates, list("abcde"), vector="v", identity="i")


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    real = faces(300, 1)
    np.save(tmp_path / "store.npy", real)
    rows, key = str(tmp_path / "rows.csv"), str(tmp_path / "c.key")
    assert run(["-q", "audit", "canary", "plant", str(tmp_path / "store.npy"), "-o", rows, "--key", key]) == 0
    capsys.readouterr()
    with open(rows, newline="") as file:
        table = list(csv.DictReader(file))
    added = np.array([json.loads(row["embedding"]) for row in table], np.float32)
    assert np.array_equal(added, CanaryKey.load(Path(key)).templates)
    np.save(tmp_path / "dump.npy", np.concatenate([real, added]))
    assert run(["-q", "audit", "canary", "find", str(tmp_path / "dump.npy"), "--key", key]) == 0
    assert "5 of 5 canaries found in 305 rows" in capsys.readouterr().out
    assert run(["-q", "audit", "canary", "find", str(tmp_path / "store.npy"), "--key", key, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["found"] == 0
    assert "canary find" in told["run"]["command"]
    assert run(["-q", "audit", "canary", "plant", str(tmp_path / "store.npy"), "-o", rows, "--key", key]) == 2
    assert np.array_equal(np.load(tmp_path / "store.npy"), real)
    known = CanaryKey.load(Path(key))
    for kept in (known.templates, known.mean[None], known.factor):
        assert not (kept[:, None] == real[None]).all(2).any()


def test_names_are_new_and_numbers_where_the_people_are_numbers(tmp_path: Path) -> None:
    for people, expected in ((["7", "9", "8"], ["10", "11"]), (["7", "b", "8"], None)):
        np.savez(tmp_path / "store.npz", embeddings=faces(3, 1), labels=np.array(people))
        store = open_store(str(tmp_path / "store.npz"))
        names = choose_names(store, 2)
        assert names == expected or (expected is None and len({*names, *people}) == 5)
        with pytest.raises(UsageError, match="'8' is in"):
            choose_names(store, 2, ["a", "8"])


def test_a_copy_of_a_store_has_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    real = faces(300, 1)
    people, ages = np.array([f"p{n}" for n in range(300)]), np.arange(300)
    np.savez(tmp_path / "store.npz", embeddings=real, labels=people, age=ages, model=np.array("net"))
    before = (tmp_path / "store.npz").read_bytes()
    words = ["-q", "audit", "canary", "plant", str(tmp_path / "store.npz"), "--key", str(tmp_path / "c.key")]
    assert run(words) == 2
    assert "--copy" in capsys.readouterr().err
    assert run([*words, "--copy", str(tmp_path / "store.npz")]) == 2  # never in place
    assert run([*words, "--copy", str(tmp_path / "new.npz")]) == 0
    assert "hold nothing in age" in capsys.readouterr().out
    assert run(["-q", "audit", "canary", "find", str(tmp_path / "new.npz"), "--key", str(tmp_path / "c.key")]) == 0
    assert "5 of 5 canaries found in 305 rows" in capsys.readouterr().out
    assert (tmp_path / "store.npz").read_bytes() == before
