"""Copies of a store with rows added at its end; the store itself is only read."""

from arcinvert.migration.added.copy import Added, add_rows, check_addable

__all__ = ["Added", "add_rows", "check_addable"]
