"""Work in a thread of its own that can be watched, paused between two steps, gone on with, and ended."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Result = TypeVar("Result")

WAITING, WORKING, PAUSED, DONE = "waiting", "working", "paused", "done"
PATIENCE = 900.0
"""Seconds after which work that is paused ends by itself."""


class Ended(Exception):  # noqa: N818
    """Raised inside work that is not wanted any more; never an error."""


class Task(Generic[Result]):
    """One piece of work; of all that share an ``engine`` only one works at a time.

    Args:
        engine: held while working, let go while paused.
        work: is given the task, and calls :meth:`progress` or :meth:`step` often; what it returns or raises is in
            :attr:`result`. A task that was ended raises :class:`Ended` there.
        patience: seconds that it stays paused at most.

    Attributes:
        result: of the work.
        told: the last (done, total, text) of its progress.
    """

    def __init__(
        self, engine: threading.Lock, work: Callable[["Task[Result]"], Result], *, patience: float = PATIENCE
    ) -> None:
        self.told: tuple[int, int, str] = (0, 0, "")
        self._engine, self._patience = engine, patience
        self._change = threading.Condition()
        self._version = 0
        self._state = WAITING
        self._paused = self._ended = False
        pool = ThreadPoolExecutor(1, thread_name_prefix="arcinvert")
        self.result: Future[Result] = pool.submit(self._run, work)
        self.result.add_done_callback(lambda _: self._say(DONE))
        pool.shutdown(wait=False)

    @property
    def state(self) -> str:
        """``waiting`` (for other work), ``working``, ``paused`` or ``done``."""
        return self._state

    def _run(self, work: Callable[["Task[Result]"], Result]) -> Result:
        self._take()
        try:
            return work(self)
        finally:
            if self._state == WORKING:
                self._engine.release()

    def _take(self) -> None:
        """Wait for the engine, unless the task is ended meanwhile."""
        self._say(WAITING)
        while not self._engine.acquire(timeout=0.2):
            if self._ended:
                raise Ended
        self._say(WORKING)

    def _say(self, state: str | None = None) -> None:
        with self._change:
            self._state = state or self._state
            self._version += 1
            self._change.notify_all()

    def progress(self, done: int, total: int, text: str) -> None:
        """A :data:`~arcinvert.progress.Progress`: tells, then see :meth:`step`."""
        self.told = (done, total, text)
        self.step()

    def step(self) -> None:
        """Called by the work between two steps.

        Raises:
            Ended: the work is not wanted any more.
        """
        self._say()
        if self._paused and not self._ended:
            self._engine.release()
            self._say(PAUSED)
            with self._change:
                if not self._change.wait_for(lambda: self._ended or not self._paused, self._patience):
                    self._ended = True
            if not self._ended:
                self._take()
        if self._ended:
            raise Ended

    def pause(self) -> None:
        """Stop after the present step."""
        self._paused = True

    def resume(self) -> None:
        """Go on where it stopped."""
        with self._change:
            self._paused = False
            self._change.notify_all()

    def end(self) -> None:
        """Not wanted any more: ends after the present step, also while paused or waiting."""
        with self._change:
            self._ended = True
            self._change.notify_all()

    def news(self, seen: int, timeout: float) -> int:
        """Wait until something happened after ``seen``, at most ``timeout`` seconds; the number of the last event."""
        with self._change:
            self._change.wait_for(lambda: self._version > seen, timeout)
            return self._version
