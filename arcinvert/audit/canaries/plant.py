"""Drawing canaries that look like the templates of a store, and writing them as rows to be added to it."""

import csv
import json
import secrets
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from arcinvert.audit.canaries.key import CanaryKey, Rows, unit_rows
from arcinvert.audit.checks.hygiene import unit
from arcinvert.audit.stores import Store
from arcinvert.checkpoint import atomic_write
from arcinvert.errors import InputError, UsageError
from arcinvert.progress import Progress, silent

LEAST = 100
"""Templates that a store needs: fewer do not show how its templates vary."""
LARGEST_SIZE = 2048
MOST = 10_000
ENDINGS = (".npy", ".csv")


def plant(store: Store, digest: str, count: int, *, seed: int | None = None, progress: Progress = silent) -> CanaryKey:
    """Draw canaries from a Gaussian with mean and covariance of a store's templates, in one pass over it.

    Args:
        store: is only read.
        digest: of its usable templates.
        count: K.
        seed: for tests; None draws a secret one.
        progress: called with (done, all, text), in rows.

    Raises:
        UsageError: a count below 1 or above :data:`MOST`.
        InputError: a store of fewer than :data:`LEAST` usable templates, or of more than :data:`LARGEST_SIZE` numbers.
    """
    if not 1 <= count <= MOST:
        raise UsageError(f"expected 1 to {MOST} canaries, got {count}")
    if store.size > LARGEST_SIZE:
        raise InputError(f"expected templates of at most {LARGEST_SIZE} numbers, {store.name} has {store.size}")
    total, products, norms = np.zeros(store.size), np.zeros((store.size, store.size)), []
    for block in store.blocks():
        rows, good = unit(block.templates)
        norms.append(np.linalg.norm(block.templates[good].astype(np.float64), axis=1))
        total += rows.sum(0, dtype=np.float64)
        products += rows.T @ rows
        if len(block.positions):
            progress(int(block.positions[-1]) + 1, store.count, "reading the store")
    lengths = np.concatenate([*norms, np.empty(0)])
    if len(lengths) < LEAST:
        raise InputError(f"expected at least {LEAST} usable templates to imitate, {store.name} has {len(lengths)}")
    mean = total / len(lengths)
    values, vectors = np.linalg.eigh(products / len(lengths) - np.outer(mean, mean))
    factor = np.sqrt(values.clip(0))[:, None] * vectors.T
    secret = secrets.randbits(128) if seed is None else seed
    generator = np.random.default_rng([secret, 0])
    key = CanaryKey(
        np.empty((0, store.size), np.float32), mean.astype(np.float32), factor.astype(np.float32), secret, digest
    )
    templates = key.draw(count, generator) * generator.choice(lengths, (count, 1))
    return CanaryKey(templates.astype(np.float32), key.mean, key.factor, secret, digest)


def choose_names(store: Store, count: int, given: Sequence[str] | None = None) -> list[str]:
    """Names for canaries that no row of the store has: random ones, or the next numbers where people are numbers.

    Args:
        store: is only read.
        count: K.
        given: names to take instead.

    Raises:
        UsageError: another number of given names, or two alike, or one that the store has.
    """
    if given is not None and not len(given) == len(set(given)) == count:
        raise UsageError(f"expected {count} different names, got {len(given)}, {len(set(given))} different")
    wanted, largest = set(given or ()), -1
    numbered = True
    for block in store.blocks() if store.contents.identity or store.contents.label_file else ():
        for name in block.identities or ():
            if name in wanted:
                raise UsageError(f"expected names that nobody has, {name!r} is in {store.name}")
            numbered = numbered and (not name or (name.isdecimal() and name.isascii() and len(name) < 18))
            largest = max(largest, int(name)) if numbered and name else largest
    if given is not None:
        return list(given)
    if numbered and largest >= 0:
        return [str(largest + 1 + number) for number in range(count)]
    return [secrets.token_hex(4) for _ in range(count)]


def write_rows(out: Path, templates: Rows, names: Sequence[str], *, vector: str, identity: str) -> None:
    """Write canaries as rows: ``.npy`` (K, D), or ``.csv`` with a name and a list of numbers in a row.

    Args:
        out: by its ending.
        templates: (K, D).
        names: (K) under which they are to be enrolled.
        vector, identity: names of the columns.

    Raises:
        UsageError: another ending.
        EnvironmentProblem: the file cannot be written.
    """
    if out.suffix.lower() not in ENDINGS:
        raise UsageError(
            f"expected a file {' or '.join('NAME' + end for end in ENDINGS)} for the rows, got {str(out)!r}"
        )
    with atomic_write(out) as temporary:
        if out.suffix.lower() == ".npy":
            with open(temporary, "wb") as binary:
                np.save(binary, templates)
        else:
            with open(temporary, "w", newline="", encoding="utf-8") as text:
                writer = csv.writer(text)
                writer.writerow([identity, vector])
                for name, row in zip(names, templates, strict=True):
                    writer.writerow([name, json.dumps([float(f"{value:.9g}") for value in row.tolist()])])


def nearest(store: Store, templates: Rows) -> float:
    """The highest cosine of a canary (K, D) to a template of the store."""
    wanted, best = unit_rows(templates), -1.0
    for block in store.blocks():
        rows, _ = unit(block.templates)
        if len(rows):
            best = max(best, float((rows @ wanted.T).max()))
    return best
