"""Every JSON that a command prints in a test of this folder is held to the schema of the command."""

import pytest

from arcinvert.cli import common
from arcinvert.cli.results import adapter

PRINT = common.dumped


@pytest.fixture(autouse=True)
def _held_to_the_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    def dumped(command: str, result: object) -> str:
        text = PRINT(command, result)
        adapter(command).validate_json(text)
        return text

    monkeypatch.setattr(common, "dumped", dumped)
