"""Reading files of others: regular files of a bounded size, nothing that blocks or never ends."""

import errno
import stat
from pathlib import Path


def check_regular(path: Path, largest: int) -> None:
    """Check what is at a path, before it is opened.

    Args:
        path: of the file.
        largest: size that is accepted, in bytes.

    Raises:
        OSError: there is nothing, a folder, a pipe or a device, or a larger file.
    """
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "Is a directory", str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "no regular file", str(path))
    if found.st_size > largest:
        message = f"expected at most {largest:,} bytes, got {found.st_size:,}"
        raise OSError(errno.EFBIG, message, str(path))


def read_bytes(path: Path, largest: int) -> bytes:
    """The content of a regular file of at most ``largest`` bytes; OSError else."""
    check_regular(path, largest)
    return path.read_bytes()
