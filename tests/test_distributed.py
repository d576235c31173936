"""Several processes on one run; that they work together is tested in tests/cli/test_synth_command.py."""

import pytest
import torch.distributed as dist

from arcinvert.distributed import SINGLE_PROCESS, Processes, process_group
from arcinvert.errors import EnvironmentProblem


def test_a_process_that_nobody_launched_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")  # as some clusters set it, without torchrun
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    with process_group() as processes:
        assert processes == SINGLE_PROCESS == Processes(0, 1)
        processes.wait()
    assert not dist.is_initialized()


def test_another_process_that_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("[pair.cc:547] Connection closed by peer [127.0.0.1]:1234")

    monkeypatch.setattr(dist, "barrier", broken)
    with pytest.raises(EnvironmentProblem, match="another process"):
        Processes(0, 2).wait()


def test_processes_that_do_not_find_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TORCHELASTIC_RUN_ID", "x"), ("WORLD_SIZE", "2"), ("RANK", "0")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(EnvironmentProblem, match="cannot connect to the other processes"), process_group():
        pass
