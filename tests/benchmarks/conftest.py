"""Scripts as modules."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def script(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Of ``test_NAME.py``, the script NAME; it and the scripts that it imports are forgotten afterwards."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield importlib.import_module(request.module.__name__.rpartition(".")[2].removeprefix("test_"))
    for name in [name for name in sys.modules if (SCRIPTS / f"{name}.py").is_file()]:
        del sys.modules[name]
