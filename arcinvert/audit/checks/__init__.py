"""Findings that need no attack, and the choice of the templates that are attacked."""

from arcinvert.audit.checks.finding import Finding
from arcinvert.audit.checks.hygiene import Scan, scan
from arcinvert.audit.checks.mismatch import Mismatch, mismatch
from arcinvert.audit.checks.ranking import rank1
from arcinvert.audit.checks.sampling import Drawn, draw_sample

__all__ = ["Drawn", "Finding", "Mismatch", "Scan", "draw_sample", "mismatch", "rank1", "scan"]
