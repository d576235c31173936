"""``arcinvert schema``: a schema for every command with --json. What the commands print is held to it in conftest."""

import json

import pytest

from arcinvert.cli import common, parser, run
from arcinvert.cli.results import RESULTS

pytestmark = pytest.mark.usefixtures("as_found")


def test_every_command_with_json_has_a_schema(capsys: pytest.CaptureFixture[str]) -> None:
    printing, commands = [], [((), parser())]
    for name, command in commands:
        commands += [((*name, below), part) for below, part in getattr(command, "commands", {}).items()]
        printing += [" ".join(name)] if any("--json" in part.opts for part in command.params) else []
    assert sorted(printing) == sorted(RESULTS)
    for name in printing:
        assert run(["schema", *name.split()]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["$schema"].startswith("https://json-schema.org/")
        assert {"properties", "anyOf", "items", "$ref"} & set(found)
    assert run(["schema"]) == 0
    assert capsys.readouterr().out.split("\n")[:-1] == list(RESULTS)
    assert run(["schema", "paint"]) == 2
    assert "'paint'" in capsys.readouterr().err


def test_a_result_that_is_not_as_its_schema_says_fails_here() -> None:
    with pytest.raises(ValueError, match="surprise"):
        common.dumped("checkpoint pull", {"name": "a", "file": "b", "surprise": 1})
