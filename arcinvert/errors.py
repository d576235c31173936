"""Errors that the user can act on.

The tree, with the exit code of the command line::

    ArcInvertError            1   base class, never raised itself
    ├── UsageError            2   an option that does not fit, or two that exclude each other
    ├── InputError            3   a file or array was refused; nothing was written
    │   ├── CheckpointError   3   a weight file is damaged, of another kind or of the wrong shape
    │   ├── UnreadableImage   3   a file is no image, or a damaged one
    │   └── DivergedError     3   an optimization reached NaN or infinity
    └── EnvironmentProblem    5   disk, permissions, or a missing package or weight file

A message is one line, "expected X, got Y". Any other exception that escapes is a bug in arcinvert.
"""

import re

_PASSWORD = re.compile(r"(://[^\s/:@]*:)\S*@|(\b\w*password\s*=\s*)(?:'[^']*'|[^\s&'\"]+)", re.IGNORECASE)


def without_passwords(text: str) -> str:
    """The text with the passwords of database addresses replaced by ``***``: what is printed or reported of one."""
    return _PASSWORD.sub(lambda found: f"{found[1]}***@" if found[1] else f"{found[2]}***", text)


class ArcInvertError(Exception):
    """Base class of all errors that the user can act on."""

    exit_code = 1


class UsageError(ArcInvertError):
    """An option or argument does not fit."""

    exit_code = 2


class InputError(ArcInvertError):
    """A file or array was refused: expected one thing, got another."""

    exit_code = 3


class CheckpointError(InputError):
    """A weight file cannot be read as what it should be."""


class UnreadableImage(InputError):  # noqa: N818
    """A file is not an image of a listed format, or a damaged one; among many images it is left out."""


class DivergedError(InputError):
    """An optimization reached NaN or infinity: no image of any target is finite, or the loss is not."""


class EnvironmentProblem(ArcInvertError):  # noqa: N818
    """The disk, permissions, or a missing package or weight file stand in the way."""

    exit_code = 5
