"""How long work tells that it advances, without knowing who listens."""

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""Called with ``(done, total, message)``; the command line draws it."""


def silent(done: int, total: int, message: str) -> None:
    """Listens to nothing."""
