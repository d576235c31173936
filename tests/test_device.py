"""Devices by name."""

import pytest
import torch

from arcinvert.device import choose_device
from arcinvert.errors import UsageError


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for cuda, mps, expected in ((True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda mps=mps: mps)
        assert choose_device() == choose_device("auto") == torch.device(expected)


def test_names_and_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name in ("cpu", "cuda", "cuda:1"):
        assert choose_device(name) == torch.device(name)
    assert choose_device(torch.device("cuda:7")) == torch.device("cuda:7")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("toaster", "got 'toaster'"),
        ("", "got ''"),
        ("cuda:2", "no device 'cuda:2'"),
        ("mps", "no device 'mps'"),
        ("meta", "no device 'meta'"),
    ],
)
def test_other_devices_are_refused(monkeypatch: pytest.MonkeyPatch, name: str, says: str) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UsageError, match=says):
        choose_device(name)
