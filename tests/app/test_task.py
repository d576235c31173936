"""Work that is watched, paused, gone on with and ended."""

import threading
from collections.abc import Callable

import pytest

from arcinvert.app.task import DONE, PAUSED, WAITING, WORKING, Ended, Task
from arcinvert.errors import InputError

SOON = 10.0


def until(task: Task, wanted: Callable[[], bool]) -> None:
    """Wait for something, in events and not by the clock."""
    seen = 0
    for _ in range(100):
        if wanted():
            return
        seen = task.news(seen, 0.1)
    raise AssertionError(task.state)


def stepping(gate: threading.Semaphore, steps: int) -> Callable[[Task], int]:
    """Work whose every step waits for the gate."""

    def work(task: Task) -> int:
        for step in range(steps):
            assert gate.acquire(timeout=SOON)
            task.progress(step + 1, steps, "counting")
        return steps

    return work


def test_it_tells_and_returns() -> None:
    task: Task = Task(threading.Lock(), stepping(threading.Semaphore(3), 3))
    assert task.result.result(SOON) == 3
    until(task, lambda: task.state == DONE)
    assert task.told == (3, 3, "counting")


def test_what_it_raises_is_its_result_and_the_engine_is_free() -> None:
    def work(task: Task) -> None:
        raise InputError("no face")

    engine = threading.Lock()
    task: Task = Task(engine, work)
    with pytest.raises(InputError, match="no face"):
        task.result.result(SOON)
    assert engine.acquire(timeout=SOON)


def test_a_paused_task_lets_others_work_and_goes_on_where_it_was() -> None:
    engine, gate = threading.Lock(), threading.Semaphore(2)
    task: Task = Task(engine, stepping(gate, 4))
    until(task, lambda: task.told[0] == 2)
    task.pause()
    gate.release()
    until(task, lambda: task.state == PAUSED)
    assert task.told[0] == 3
    other: Task = Task(engine, lambda _: "done")
    assert other.result.result(SOON) == "done"
    gate.release()
    assert task.told[0] == 3  # paused work takes no step
    task.resume()
    assert task.result.result(SOON) == 4


def test_only_one_works_at_a_time() -> None:
    engine, gate = threading.Lock(), threading.Semaphore(0)
    first: Task = Task(engine, stepping(gate, 1))
    until(first, lambda: first.state == WORKING)
    second: Task = Task(engine, lambda _: None)
    assert second.state == WAITING
    assert not second.result.done()
    gate.release()
    second.result.result(SOON)
    assert first.result.done()


@pytest.mark.parametrize("state", [WORKING, PAUSED, WAITING])
def test_what_is_ended_ends(state: str) -> None:
    engine, gate = threading.Lock(), threading.Semaphore(0)
    if state == WAITING:
        engine.acquire()
    task: Task = Task(engine, stepping(gate, 100))
    if state == PAUSED:
        task.pause()
        gate.release()
    until(task, lambda: task.state == state)
    task.end()
    gate.release()
    with pytest.raises(Ended):
        task.result.result(SOON)
    if state == WAITING:
        engine.release()
    assert engine.acquire(timeout=SOON)


def test_patience_with_a_paused_task_ends() -> None:
    gate = threading.Semaphore(0)
    task: Task = Task(threading.Lock(), stepping(gate, 9), patience=0.05)
    task.pause()
    gate.release()
    with pytest.raises(Ended):
        task.result.result(SOON)
