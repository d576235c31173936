"""A finding of an audit."""

from dataclasses import dataclass
from typing import Literal

from arcinvert.audit.types import Count

Severity = Literal["info", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One thing that an auditor should know about a store.

    Attributes:
        code: short and stable, such as ``duplicates``.
        severity: ``info``, ``warning`` or ``problem``.
        text: a sentence; may hold names of columns as the store has them, unescaped.
        count: of the rows, columns or tables concerned.
    """

    code: str
    severity: Severity
    text: str
    count: Count
