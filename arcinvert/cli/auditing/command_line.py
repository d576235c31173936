"""The command line of an audit as its report quotes it, and the date and version beside it."""

import re
import shlex
from collections.abc import Sequence

from arcinvert import __version__
from arcinvert.audit.defenses import SCHEMES
from arcinvert.audit.report import utc_now
from arcinvert.errors import without_passwords

_KEYED = "|".join(scheme.partition(":")[0] for scheme in SCHEMES if scheme.endswith(":KEY"))
_KEY = re.compile(rf"((?:--defen[cs]e=)?(?:{_KEYED}):).+", re.DOTALL)


def circumstances(arguments: Sequence[str]) -> dict[str, str]:
    """Date (UTC), version of arcinvert and command line, for the JSON of the commands beside the audit."""
    return {"date": utc_now(), "version": __version__, "command": command_line(arguments)}


def command_line(arguments: Sequence[str]) -> str:
    """The command as a shell reads it, without the passwords of addresses and the keys of defenses.

    Args:
        arguments: behind the program's name.
    """
    hidden = (_KEY.sub(r"\1KEY", text) if _KEY.fullmatch(text) else text for text in arguments)
    return shlex.join(["arcinvert", *map(without_passwords, hidden)])
