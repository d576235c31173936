"""A program that reads a hostile file in a process of its own, and the replies that it sends."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import weakref
from typing import Any

from arcinvert.errors import InputError

try:
    import resource
except ImportError:  # Windows has none
    resource = None  # type: ignore[assignment]

SECONDS = 180.0
"""That a reply may take at least: the first one waits for the import of a library, on a busy machine."""
SLOWEST = 5e6
"""Bytes a second that even a slow disk gives."""


class Child:
    """A running reader program (:mod:`arcinvert.audit.stores.faiss_reader`, ...).

    It sees requests as lines on its standard input. A reply is a line of JSON with ``kind``, ``value`` and ``bytes``,
    and then so many bytes; nothing of it is unpickled. The process ends with this object.

    Args:
        program: the reader's file.
        arguments: of the program.
        name: of what it reads, for messages.
        memory: bytes that the process may allocate, where the system can limit it: a file may ask for any amount.
        seconds: that a reply may take; then the process is ended.
    """

    def __init__(self, program: str, arguments: list[str], name: str, memory: int, seconds: float) -> None:
        self.name, self.seconds = name, seconds
        # -P: the program's folder is not searched for modules, where a file might be named like one.
        command = [sys.executable, "-P", program, *arguments]
        pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
        alone = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # threads reserve memory
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nowhere, env=alone)
        if resource is not None and hasattr(resource, "prlimit"):
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(self.process.pid, resource.RLIMIT_DATA, (memory, memory))
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
            InputError: the process has ended, sends something else, or takes too long.
        """
        stream, late = self.process.stdout, threading.Event()
        timer = threading.Timer(self.seconds, _give_up, (self.process, late))  # it keeps nothing of this object alive
        timer.daemon = True
        timer.start()
        try:
            if stream is not None:
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    head = json.loads(stream.readline())
                    content = stream.read(head["bytes"])
                    if len(content) == head["bytes"]:
                        return str(head["kind"]), head["value"], content
        finally:
            timer.cancel()
        self.process.kill()
        code = self.process.wait()
        if late.is_set():
            raise InputError(
                f"{self.name} cannot be read: the process that reads it was ended after {self.seconds:g} s without a "
                "reply; the file may be damaged, or made to stall"
            )
        raise InputError(f"{self.name} cannot be read: it ends the process that reads it, with code {code}")


def seconds_for(size: int) -> float:
    """Seconds that a reply about a file of ``size`` bytes may take: :data:`SECONDS`, and longer for large ones."""
    return SECONDS + size / SLOWEST


def _give_up(process: "subprocess.Popen[bytes]", late: threading.Event) -> None:
    late.set()
    process.kill()


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.communicate()
