"""A program that reads a hostile file in a process of its own, and the replies that it sends."""

import contextlib
import json
import subprocess
import sys
import weakref
from typing import Any

from arcinvert.errors import InputError


class Child:
    """A running reader program (:mod:`arcinvert.audit.stores.faiss_reader`, ...).

    It sees requests as lines on its standard input. A reply is a line of JSON with ``kind``, ``value`` and ``bytes``,
    and then so many bytes; nothing of it is unpickled. The process ends with this object.

    Args:
        program: the reader's file.
        arguments: of the program.
        name: of what it reads, for messages.
    """

    def __init__(self, program: str, arguments: list[str], name: str) -> None:
        self.name = name
        # -P: the program's folder is not searched for modules, where a file might be named like one.
        command = [sys.executable, "-P", program, *arguments]
        pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nowhere)
        weakref.finalize(self, _end, self.process)

    def send(self, request: str) -> None:
        """Send a request, a line; the lack of a reply tells if nobody was there to read it."""
        stream = self.process.stdin
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):
                stream.write(request.encode() + b"\n")
                stream.flush()

    def reply(self) -> tuple[str, Any, bytes]:
        """The next reply: its kind, its value and its bytes.

        Raises:
            InputError: the process has ended, or sends something else.
        """
        stream = self.process.stdout
        if stream is not None:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                head = json.loads(stream.readline())
                content = stream.read(head["bytes"])
                if len(content) == head["bytes"]:
                    return str(head["kind"]), head["value"], content
        self.process.kill()
        code = self.process.wait()
        raise InputError(f"{self.name} cannot be read: it ends the process that reads it, with code {code}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.communicate()
