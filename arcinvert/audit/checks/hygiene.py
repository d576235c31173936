"""Problems of a store that one streamed pass reveals without any inversion; and the data that sampling needs."""

import hashlib
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arcinvert.audit.checks.contents import contents_findings
from arcinvert.audit.checks.finding import Finding, Severity
from arcinvert.audit.checks.signs import mixture, quantization
from arcinvert.audit.stores.store import Index, Rows, Store
from arcinvert.progress import Progress, silent

UNIT = 1e-2
"""How far from 1 the norm of a unit vector may be."""
KEPT_ROWS = 2048
"""Rows that are kept for the tests of quantization and of mixed models, drawn from the whole store."""
SKIPPED: dict[str, tuple[Severity, str]] = {
    "null": ("warning", "rows hold no embedding"),
    "ragged": ("problem", "rows have another length than the others: another model's?"),
    "unreadable": ("problem", "rows hold something that is no embedding"),
    "pickle": ("problem", "rows hold pickles, which run code when they are opened; they were not read"),
    "not-finite": ("problem", "rows hold NaN or infinity"),
    "zero": ("problem", "rows are all zeros"),
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
    """The result of one pass over a store, in 33 bytes a row.

    Attributes:
        count, size: N and D.
        good: (N,) whether a row is D finite numbers that are not all zero.
        identity: (N,) a number for each name, 0 for none; None where the store names nobody.
        identities: how many different names; 0 where there are none.
        content: (N,) equal for equal templates, within one process.
        norms: of the usable rows; None without any.
        digest: SHA-256 of the usable templates as float32, in order; the same in whatever kind of store.
        findings: of the contents first, then of the rows.
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
        progress: called with (done, all, text), in rows.

    Raises:
        InputError: the store is damaged, or changes meanwhile.
    """
    usable = np.zeros(store.count, bool)
    content = np.zeros(store.count, np.int64)
    identity = np.zeros(store.count, np.uint64)
    named = False
    skipped: Counter[str] = Counter()
    squared, digest, reservoir = np.zeros(store.count), hashlib.sha256(), _Reservoir(store.size)
    for block in store.blocks():
        skipped.update(block.skipped)
        squares = np.einsum("nd,nd->n", block.templates, block.templates, dtype=np.float64)
        good = np.isfinite(squares) & (squares > 0)
        skipped["not-finite"] += int((~np.isfinite(squares)).sum())
        skipped["zero"] += int((squares == 0).sum())
        rows, positions = block.templates[good] if not good.all() else block.templates, block.positions[good]
        usable[positions] = True
        content[positions] = [hash(row.tobytes()) for row in rows]
        if block.identities is not None:
            named = True
            numbers = {name: _number(name) for name in set(block.identities)}
            identity[block.positions] = [numbers[name] for name in block.identities]
        squared[positions] = squares[good]
        digest.update(np.ascontiguousarray(rows, "<f4").data)
        reservoir.add(rows)
        if len(block.positions):
            progress(int(block.positions[-1]) + 1, store.count, "rows of the store read")
    norms, norm_findings = _norms(np.sqrt(squared[usable]))
    findings = [*contents_findings(store), *_skipped(skipped, store.count), *norm_findings]
    findings += _duplicates(content[usable], identity[usable] if named else None)
    findings += reservoir.findings()
    names = len(np.unique(identity[identity != 0]))
    return Scan(
        *(store.count, store.size, usable, identity if named else None, names, content, norms),
        *(digest.hexdigest(), tuple(findings)),
    )


def unit(templates: Rows) -> tuple[Rows, NDArray[np.bool_]]:
    """Templates (n, D) that have a direction, unit norm, and (n,) which those are."""
    squares = np.einsum("nd,nd->n", templates, templates, dtype=np.float64)
    good = np.isfinite(squares) & (squares > 0)
    rows, lengths = (templates, np.sqrt(squares)) if good.all() else (templates[good], np.sqrt(squares[good]))
    odd = (lengths < 1e-30) | (lengths > 1e38)  # lengths that float32 does not hold well
    if odd.any():
        rows = np.where(odd[:, None], rows / np.abs(rows).max(1, keepdims=True), rows)
        lengths[odd] = np.linalg.norm(rows[odd], axis=1)
    return rows / lengths[:, None].astype(np.float32), good


def _number(name: str) -> int:
    """64 bits of a name, 0 for none."""
    if not name:
        return 0
    return int.from_bytes(hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=8).digest(), "little") or 1


def _norms(norms: NDArray[np.float64]) -> tuple[Norms | None, list[Finding]]:
    """Their summary and findings."""
    if not len(norms):
        return None, []
    unit = int((np.abs(norms - 1) <= UNIT).sum())
    found, other = Norms(float(norms.min()), float(norms.mean()), float(norms.max()), unit), len(norms) - unit
    findings = []
    if other:
        text = f"{other} embeddings are not of unit norm: norms from {found.min:.3g} to {found.max:.3g}"
        findings.append(Finding("unnormalized", "info", text, other))
    if min(unit, other) > 0.001 * len(norms):
        text = f"{unit} embeddings are of unit norm and {other} are not: two ways of storing them, or two models"
        findings.append(Finding("mixed-norms", "warning", text, min(unit, other)))
    return found, findings


class _Reservoir:
    """A uniform random sample of the rows, in bounded memory."""

    def __init__(self, size: int) -> None:
        self.generator = np.random.default_rng(0)
        self.rows = np.empty((0, size), np.float32)
        self.lot = np.empty(0)

    def add(self, rows: Rows) -> None:
        lot = self.generator.random(len(rows))
        chosen = np.flatnonzero(lot <= (np.inf if len(self.lot) < KEPT_ROWS else self.lot.max()))
        lot = np.concatenate([self.lot, lot[chosen]])
        best = np.argsort(lot, kind="stable")[:KEPT_ROWS]
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
            text = (
                f"the embeddings form two groups without common geometry, as of two models (the smaller: {share:.0%})"
            )
            found.append(Finding("mixed-models", "warning", text, round(share * len(self.rows))))
        return found


def _skipped(skipped: Counter[str], count: int) -> list[Finding]:
    found = []
    for reason, number in skipped.items():
        if number:
            severity, text = SKIPPED[reason]
            found.append(Finding(reason, severity, f"{number} of {count} {text}; they are skipped", number))
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
