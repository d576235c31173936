"""What is wrong with a store, seen in one streamed pass and without any inversion; and what sampling needs."""

import hashlib
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arcinvert.audit.checks.signs import mixture, quantization
from arcinvert.audit.stores.store import Finding, Index, Rows, Store
from arcinvert.progress import Progress, silent

UNIT = 1e-2
"""How far from 1 the norm of a unit vector may be."""
LOOKED_AT = 2048
"""Rows that are kept for a closer look, drawn from the whole store."""
REFUSED = {
    "null": ("warning", "rows hold no embedding"),
    "ragged": ("problem", "rows have another length than the others: another model's?"),
    "unreadable": ("problem", "rows hold something that is no embedding"),
    "pickle": ("problem", "rows hold pickles, which run code when they are opened; they were not read"),
}


@dataclass(frozen=True)
class Norms:
    """Norms of the usable rows of a store.

    Attributes:
        min, mean, max: over the rows.
        unit: how many rows are of unit norm.
    """

    min: float
    mean: float
    max: float
    unit: int


@dataclass(frozen=True, eq=False)
class Scan:
    """The result of one pass over a store, in 25 bytes a row.

    Attributes:
        count, size: N and D.
        good: (N,) whether a row is D finite numbers that are not all zero.
        identity: (N,) a number for each name, 0 for none; None where the store names nobody.
        identities: how many different names; 0 where there are none.
        content: (N,) equal for equal templates, within one process.
        norms: of the usable rows; None without any.
        digest: SHA-256 of the usable templates as float32, in order; the same in whatever kind of store.
        findings: those of opening first.
    """

    count: int
    size: int
    good: NDArray[np.bool_]
    identity: NDArray[np.uint64] | None
    identities: int
    content: Index
    norms: Norms | None
    digest: str
    findings: tuple[Finding, ...]

    @property
    def skipped_rows(self) -> int:
        """Rows that hold no usable template."""
        return self.count - int(self.good.sum())


def scan(store: Store, *, progress: Progress = silent) -> Scan:
    """Read a store once, in order, in bounded memory.

    Args:
        store: as opened.
        progress: told (done, all, text), in rows.

    Raises:
        InputError: it is damaged, or changes meanwhile.
    """
    usable = np.zeros(store.count, bool)
    content = np.zeros(store.count, np.int64)
    identity = np.zeros(store.count, np.uint64)
    named = False
    refused: Counter[str] = Counter()
    norms, digest, look = _NormSums(), hashlib.sha256(), _Look(store.size)
    for block in store.blocks():
        refused.update(block.refused)
        squares = np.einsum("nd,nd->n", block.templates, block.templates, dtype=np.float64)
        good = np.isfinite(squares) & (squares > 0)
        refused["not-finite"] += int((~np.isfinite(squares)).sum())
        refused["zero"] += int((squares == 0).sum())
        rows, positions = block.templates[good] if not good.all() else block.templates, block.positions[good]
        usable[positions] = True
        content[positions] = [hash(row.tobytes()) for row in rows]
        if block.identities is not None:
            named = True
            numbers = {name: _number(name) for name in set(block.identities)}
            identity[block.positions] = [numbers[name] for name in block.identities]
        norms.add(np.sqrt(squares[good]))
        digest.update(np.ascontiguousarray(rows, "<f4").data)
        look.add(rows)
        if len(block.positions):
            progress(int(block.positions[-1]) + 1, store.count, "reading the store")
    names = identity if named else None
    findings = [*store.notes, *_refused(refused, store.count), *norms.findings()]
    findings += _duplicates(content[usable], identity[usable] if named else None)
    findings += look.findings()
    return Scan(
        store.count,
        store.size,
        usable,
        names,
        len(np.unique(identity[identity != 0])),
        content,
        norms.summary(),
        digest.hexdigest(),
        tuple(findings),
    )


def unit(templates: Rows) -> tuple[Rows, NDArray[np.bool_]]:
    """Templates (n, D) that have a direction, unit norm, and (n,) which those are."""
    squares = np.einsum("nd,nd->n", templates, templates, dtype=np.float64)
    good = np.isfinite(squares) & (squares > 0)
    if good.all():
        return templates / np.sqrt(squares)[:, None].astype(np.float32), good
    return templates[good] / np.sqrt(squares[good])[:, None].astype(np.float32), good


def _number(name: str) -> int:
    """64 bits of a name, 0 for none."""
    if not name:
        return 0
    return int.from_bytes(hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=8).digest(), "little") or 1


class _NormSums:
    def __init__(self) -> None:
        self.count = self.unit = 0
        self.total, self.min, self.max = 0.0, np.inf, 0.0

    def add(self, norms: NDArray[np.float64]) -> None:
        if len(norms):
            self.count += len(norms)
            self.unit += int((np.abs(norms - 1) <= UNIT).sum())
            self.total += float(norms.sum())
            self.min, self.max = min(self.min, float(norms.min())), max(self.max, float(norms.max()))

    def summary(self) -> Norms | None:
        return Norms(self.min, self.total / self.count, self.max, self.unit) if self.count else None

    def findings(self) -> list[Finding]:
        other = self.count - self.unit
        if not other:
            return []
        spread = f"norms from {self.min:.3g} to {self.max:.3g}"
        found = [Finding("unnormalized", "info", f"{other} embeddings are not of unit norm: {spread}", other)]
        if self.unit and min(self.unit, other) > 0.001 * self.count:
            text = f"{self.unit} embeddings are of unit norm and {other} are not: stored in two ways, or of two models"
            found.append(Finding("mixed-norms", "warning", text, min(self.unit, other)))
        return found


class _Look:
    """Rows drawn from all alike, in bounded memory."""

    def __init__(self, size: int) -> None:
        self.generator = np.random.default_rng(0)
        self.rows = np.empty((0, size), np.float32)
        self.lot = np.empty(0)

    def add(self, rows: Rows) -> None:
        lot = self.generator.random(len(rows))
        chosen = np.flatnonzero(lot <= (np.inf if len(self.lot) < LOOKED_AT else self.lot.max()))
        lot = np.concatenate([self.lot, lot[chosen]])
        best = np.argsort(lot, kind="stable")[:LOOKED_AT]
        kept, new = best[best < len(self.lot)], best[best >= len(self.lot)] - len(self.lot)
        self.rows = np.concatenate([self.rows[kept], rows[chosen[new]]])
        self.lot = lot[best]

    def findings(self) -> list[Finding]:
        found = []
        reason = quantization(self.rows)
        if reason is not None:
            found.append(Finding("quantized", "info", f"lossy quantization: {reason}", len(self.rows)))
        share = mixture(unit(self.rows)[0])
        if share is not None:
            text = f"they fall into two groups that share no geometry, as of two models (the smaller one {share:.0%})"
            found.append(Finding("mixed-models", "warning", text, round(share * len(self.rows))))
        return found


def _refused(refused: Counter[str], count: int) -> list[Finding]:
    texts = {
        **REFUSED,
        "not-finite": ("problem", "rows hold NaN or infinity"),
        "zero": ("problem", "rows are all zeros"),
    }
    found = []
    for reason, number in refused.items():
        if number:
            severity, text = texts[reason]
            found.append(Finding(reason, severity, f"{number} of {count} {text}; they are skipped", number))  # type: ignore[arg-type]
    return found


def _duplicates(content: Index, identity: NDArray[np.uint64] | None) -> list[Finding]:
    order = np.argsort(content, kind="stable")
    same = content[order[1:]] == content[order[:-1]]
    number = int(same.sum())
    if not number:
        return []
    text = f"{number} embeddings are copies of another"
    if identity is not None:
        other = int((same & (identity[order[1:]] != identity[order[:-1]])).sum())
        text += f", {other} of them under another identity" if other else ", all under the same identity"
    return [Finding("duplicates", "warning", text, number)]
