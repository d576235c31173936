"""What can be said of a store without an attack, and which of its templates are attacked."""

from arcinvert.audit.checks.hygiene import Scan, scan
from arcinvert.audit.checks.mismatch import Mismatch, mismatch
from arcinvert.audit.checks.ranking import rank1
from arcinvert.audit.checks.sampling import Drawn, draw_sample

__all__ = ["Drawn", "Mismatch", "Scan", "draw_sample", "mismatch", "rank1", "scan"]
