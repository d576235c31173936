"""Reports without the places of the machine that made them."""

from pathlib import Path
from typing import Any


def without_place(value: Any, folder: Path) -> Any:
    """Plain values in which files below ``folder`` are named as they are named inside it."""
    if isinstance(value, str):
        return value.replace(f"{folder}/", "")
    if isinstance(value, dict):
        return {key: without_place(entry, folder) for key, entry in value.items()}
    return [without_place(entry, folder) for entry in value] if isinstance(value, list | tuple) else value
