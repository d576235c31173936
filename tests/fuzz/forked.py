"""The reader processes of FAISS and Lance, forked from one that has imported their library: milliseconds, not seconds.

A process reads one file after another, as long as it lives: what kills it is one file's refusal, and another is forked.

python forked.py SOCKET MODULE...     (the process that is forked; it serves until the socket is closed)
"""

import contextlib
import importlib
import io
import json
import os
import resource
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from types import ModuleType, SimpleNamespace
from typing import BinaryIO, NoReturn

MEMORY = 6 << 30
"""Bytes that a process may allocate, the largest limit of the readers; it is set once, as it cannot be raised."""
FILES = 200
"""Files that a process reads: what libraries do not free ends with it."""
PATIENCE = 5.0
"""Seconds to let a reader end by itself."""


class _Process:
    """What the owner of a reader uses of subprocess.Popen: one file in a reader's process."""

    def __init__(self, reader: socket.socket, pid: int, command: list[str]) -> None:
        (asked, ask), (answer, answered), (ended, end) = os.pipe(), os.pipe(), os.pipe()
        socket.send_fds(reader, [json.dumps(command).encode()], [asked, answered, end])
        for handle in (asked, answered, end):
            os.close(handle)
        self.pid = pid
        self.stdin: BinaryIO = os.fdopen(ask, "wb")
        self.stdout: BinaryIO = os.fdopen(answer, "rb")
        self.ended: BinaryIO = os.fdopen(ended, "rb")
        self.alive: bool | None = None

    def kill(self) -> None:
        """Ends the file, and the process if it does not end the file."""
        if self.alive is not None:
            return
        for stream in (self.stdin, self.stdout):
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        self.stdin = io.BytesIO()  # what is sent to a process that has ended is lost
        if not select.select([self.ended], [], [], PATIENCE)[0]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self.alive = self.ended.read() == b"1"
        self.ended.close()

    def wait(self) -> int:
        """The code is not known."""
        self.kill()
        return -1

    communicate = wait


class Forked:
    """Stands for the module subprocess in :mod:`arcinvert.audit.stores.child`."""

    PIPE, DEVNULL = subprocess.PIPE, subprocess.DEVNULL

    def __init__(self, modules: tuple[str, ...]) -> None:
        self.server, other = socket.socketpair()
        handle = other.fileno()
        command = [sys.executable, "-P", __file__, str(handle), *modules]
        self.process = subprocess.Popen(command, pass_fds=[handle], stderr=subprocess.DEVNULL)
        other.close()
        self.server.recv(1)  # the modules are imported
        self.reader: tuple[socket.socket, int] | None = None
        self.last: _Process | None = None
        self.left = 0

    def stand_in(self, child: ModuleType) -> None:
        """Lets readers be forked, without a thread that waits for each reply: the fuzzer itself ends what hangs."""
        timer = SimpleNamespace(start=lambda: None, cancel=lambda: None)
        child.subprocess = self  # type: ignore[attr-defined]
        child.resource = None  # type: ignore[attr-defined]
        child.threading = SimpleNamespace(Timer=lambda *_: timer, Event=threading.Event)  # type: ignore[attr-defined]

    def Popen(self, command: list[str], **_: object) -> _Process:  # noqa: N802
        if self.last is not None:
            self.last.kill()
        if self.reader is None or not self.left or self.last is None or not self.last.alive:
            if self.reader is not None:
                self.reader[0].close()
            self.reader, self.left = self._fork(), FILES
        self.left -= 1
        self.last = _Process(*self.reader, command[command.index("-P") + 1 :])
        return self.last

    def close(self) -> None:
        """Ends the processes."""
        for held in (self.last, self.process):
            if held is not None:
                held.kill()
        self.process.wait()
        self.server.close()
        if self.reader is not None:
            self.reader[0].close()

    def _fork(self) -> tuple[socket.socket, int]:
        ours, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        socket.send_fds(self.server, [b"1"], [other.fileno()])
        other.close()
        return ours, int(self.server.recv(32))


def serve(server: socket.socket, modules: list[str]) -> NoReturn:
    """Fork a process for each request."""
    for module in modules:
        importlib.import_module(module)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    server.send(b"1")
    while True:
        content, handles, _, _ = socket.recv_fds(server, 1, 1)
        if not content:
            os._exit(0)
        pid = os.fork()
        if not pid:
            server.close()
            _read_files(socket.socket(fileno=handles[0]))
        os.close(handles[0])
        server.send(str(pid).encode())


def _read_files(owner: socket.socket) -> NoReturn:
    """Be the program of a reader, for one file after another."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    try:
        while True:
            content, handles, _, _ = socket.recv_fds(owner, 1 << 16, 3)
            if not content:
                break
            asked, answered, end = handles
            _read(json.loads(content), asked, answered)
            os.write(end, b"1")
            os.close(end)
    finally:
        os._exit(0)


def _read(command: list[str], asked: int, answered: int) -> None:
    with os.fdopen(asked) as sys.stdin, contextlib.suppress(BrokenPipeError), os.fdopen(answered, "w") as sys.stdout:
        _program(command[0])(*command[1:])
        sys.stdout.flush()


_PROGRAMS: dict[str, object] = {}


def _program(path: str):  # type: ignore[no-untyped-def]
    if path not in _PROGRAMS:
        _PROGRAMS[path] = runpy.run_path(path, run_name="reader")["main"]
    return _PROGRAMS[path]


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
