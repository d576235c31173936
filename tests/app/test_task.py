"""Background tasks: progress, pause, resume, cancel."""

import threading
from collections.abc import Callable

import pytest

from arcinvert.app.task import DONE, PAUSED, RUNNING, WAITING, Canceled, Task
from arcinvert.errors import InputError

SOON = 10.0


def wait_until(task: Task, wanted: Callable[[], bool]) -> None:
    """Wait by events, not by the clock."""
    seen = 0
    for _ in range(100):
        if wanted():
            return
        seen = task.wait_for_change(seen, 0.1)
    raise AssertionError(task.state)


def stepping(gate: threading.Semaphore, steps: int) -> Callable[[Task], int]:
    """Work whose every step waits for the gate."""

    def work(task: Task) -> int:
        for step in range(steps):
            assert gate.acquire(timeout=SOON)
            task.progress(step + 1, steps, "counting")
        return steps

    return work


def test_progress_and_result() -> None:
    task: Task = Task(threading.Lock(), stepping(threading.Semaphore(3), 3))
    assert task.result.result(SOON) == 3
    wait_until(task, lambda: task.state == DONE)
    assert task.last_progress == (3, 3, "counting")


def test_an_error_is_the_result_and_the_lock_is_free() -> None:
    def work(task: Task) -> None:
        raise InputError("no face")

    lock = threading.Lock()
    task: Task = Task(lock, work)
    with pytest.raises(InputError, match="no face"):
        task.result.result(SOON)
    assert lock.acquire(timeout=SOON)


def test_a_paused_task_lets_others_run_and_resumes_where_it_was() -> None:
    lock, gate = threading.Lock(), threading.Semaphore(2)
    task: Task = Task(lock, stepping(gate, 4))
    wait_until(task, lambda: task.last_progress[0] == 2)
    task.pause()
    gate.release()
    wait_until(task, lambda: task.state == PAUSED)
    assert task.last_progress[0] == 3
    other: Task = Task(lock, lambda _: "done")
    assert other.result.result(SOON) == "done"
    gate.release()
    assert task.last_progress[0] == 3  # a paused task takes no step
    task.resume()
    assert task.result.result(SOON) == 4


def test_one_task_runs_at_a_time() -> None:
    lock, gate = threading.Lock(), threading.Semaphore(0)
    first: Task = Task(lock, stepping(gate, 1))
    wait_until(first, lambda: first.state == RUNNING)
    second: Task = Task(lock, lambda _: None)
    assert second.state == WAITING
    assert not second.result.done()
    gate.release()
    second.result.result(SOON)
    assert first.result.done()


@pytest.mark.parametrize("state", [RUNNING, PAUSED, WAITING])
def test_cancel_in_every_state(state: str) -> None:
    lock, gate = threading.Lock(), threading.Semaphore(0)
    if state == WAITING:
        lock.acquire()
    task: Task = Task(lock, stepping(gate, 100))
    if state == PAUSED:
        task.pause()
        gate.release()
    wait_until(task, lambda: task.state == state)
    task.cancel()
    gate.release()
    with pytest.raises(Canceled):
        task.result.result(SOON)
    if state == WAITING:
        lock.release()
    assert lock.acquire(timeout=SOON)


def test_a_task_that_is_paused_too_long_is_canceled() -> None:
    gate = threading.Semaphore(0)
    task: Task = Task(threading.Lock(), stepping(gate, 9), pause_limit=0.05)
    task.pause()
    gate.release()
    with pytest.raises(Canceled):
        task.result.result(SOON)
