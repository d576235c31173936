"""``arcinvert plot``: the figures of the papers, PNG or SVG."""

from arcinvert.cli.plot.figures import NAME, app

__all__ = ["NAME", "app"]
