"""Canaries: templates of nobody that are planted in a store, and prove later where a dump came from."""

from arcinvert.audit.canaries.find import Found, find
from arcinvert.audit.canaries.key import CanaryKey
from arcinvert.audit.canaries.plant import choose_names, plant, write_rows

__all__ = ["CanaryKey", "Found", "choose_names", "find", "plant", "write_rows"]
