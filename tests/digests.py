"""What files hold, by digest: pytest explains a failed comparison of their bytes for minutes."""

import hashlib
from pathlib import Path


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def digests(folder: Path, pattern: str = "*") -> dict[str, str]:
    """The path of every file below ``folder`` that matches, in order, and its digest."""
    return {str(path.relative_to(folder)): digest(path.read_bytes()) for path in sorted(folder.glob(pattern))}
