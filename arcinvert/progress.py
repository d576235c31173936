"""The callback by which long work reports its progress, whoever shows it."""

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""Called with ``(done, total, text)``; the command line draws it as a bar or as lines."""


def silent(done: int, total: int, text: str) -> None:
    """Progress callback that shows nothing."""
