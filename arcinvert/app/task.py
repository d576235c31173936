"""Background work that reports its progress, and that can be paused between two steps, resumed and canceled."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Result = TypeVar("Result")

WAITING, RUNNING, PAUSED, DONE = "waiting", "running", "paused", "done"
PAUSE_LIMIT = 900.0
"""Seconds after which a paused task cancels itself."""


class Canceled(Exception):  # noqa: N818
    """Raised inside a task that was canceled; not an error."""


class Task(Generic[Result]):
    """One piece of work in a thread of its own; of all tasks that share a lock, only one runs at a time.

    Args:
        lock: held while running, released while paused.
        work: gets the task, and calls :meth:`progress` or :meth:`step` often. Its return value or exception is in
            :attr:`result`; that of a canceled task is :class:`Canceled`.
        pause_limit: seconds that it stays paused at most.

    Attributes:
        result: of the work.
        last_progress: the last (done, total, text).
        state: ``waiting`` (for other work), ``running``, ``paused`` or ``done``.
    """

    def __init__(
        self, lock: threading.Lock, work: Callable[["Task[Result]"], Result], *, pause_limit: float = PAUSE_LIMIT
    ) -> None:
        self.last_progress: tuple[int, int, str] = (0, 0, "")
        self.state = WAITING
        self._lock, self._pause_limit = lock, pause_limit
        self._change = threading.Condition()
        self._version = 0
        self._paused = self._canceled = False
        pool = ThreadPoolExecutor(1, thread_name_prefix="arcinvert")
        self.result: Future[Result] = pool.submit(self._run, work)
        self.result.add_done_callback(lambda _: self._notify(DONE))
        pool.shutdown(wait=False)

    def _run(self, work: Callable[["Task[Result]"], Result]) -> Result:
        self._acquire()
        try:
            return work(self)
        finally:
            if self.state == RUNNING:
                self._lock.release()

    def _acquire(self) -> None:
        """Wait for the lock, unless the task is canceled meanwhile."""
        self._notify(WAITING)
        while not self._lock.acquire(timeout=0.2):
            if self._canceled:
                raise Canceled
        self._notify(RUNNING)

    def _notify(self, state: str | None = None) -> None:
        with self._change:
            self.state = state or self.state
            self._version += 1
            self._change.notify_all()

    def progress(self, done: int, total: int, text: str) -> None:
        """A :data:`~arcinvert.progress.Progress` callback, and a :meth:`step`."""
        self.last_progress = (done, total, text)
        self.step()

    def step(self) -> None:
        """Called by the work between two steps; waits here while paused.

        Raises:
            Canceled: the task was canceled.
        """
        self._notify()
        if self._paused and not self._canceled:
            self._lock.release()
            self._notify(PAUSED)
            with self._change:
                if not self._change.wait_for(lambda: self._canceled or not self._paused, self._pause_limit):
                    self._canceled = True
            if not self._canceled:
                self._acquire()
        if self._canceled:
            raise Canceled

    def pause(self) -> None:
        """Pause after the current step."""
        self._paused = True

    def resume(self) -> None:
        """Continue a paused task."""
        with self._change:
            self._paused = False
            self._change.notify_all()

    def cancel(self) -> None:
        """End after the current step, also while paused or waiting."""
        with self._change:
            self._canceled = True
            self._change.notify_all()

    def wait_for_change(self, seen: int, timeout: float) -> int:
        """Wait for an event after number ``seen``, at most ``timeout`` seconds; the number of the last event."""
        with self._change:
            self._change.wait_for(lambda: self._version > seen, timeout)
            return self._version
