"""What arcinvert raises for a reason the user can act on.

The tree, with the exit code the command line ends with::

    ArcInvertError            1   never raised itself
    ├── UsageError            2   an option that does not fit, or two that exclude each other
    ├── InputError            3   a file or array is refused; nothing was written
    │   ├── CheckpointError   3   not a checkpoint of ours, damaged, or of the wrong shape
    │   └── DivergedError     3   an optimization left the finite numbers
    └── EnvironmentProblem    5   disk, rights, a missing package or weight file

A message is one line: what was expected, and what was found. Anything else that
escapes is a bug in arcinvert.
"""


class ArcInvertError(Exception):
    """Base of every error meant for the user."""

    exit_code = 1


class UsageError(ArcInvertError):
    """An option or argument that does not fit."""

    exit_code = 2


class InputError(ArcInvertError):
    """Input refused: expected one thing, got another."""

    exit_code = 3


class CheckpointError(InputError):
    """A weight file that cannot be read as what it should be."""


class DivergedError(InputError):
    """An optimization left the finite numbers: no image of any target, or no loss."""


class EnvironmentProblem(ArcInvertError):  # noqa: N818
    """Disk, rights, a missing package or weight file."""

    exit_code = 5
