"""``arcinvert eval``: the protocols by which recognizers are compared."""

from arcinvert.cli.eval import distance as distance  # adds its command to the app
from arcinvert.cli.eval import protocols as protocols  # adds its commands to the app
from arcinvert.cli.eval.verification import NAME, app

__all__ = ["NAME", "app"]
