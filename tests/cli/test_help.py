"""The help of every command: examples that parse, options in their panels, nothing cut, nothing lost."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from arcinvert.cli import help as helping
from arcinvert.cli import parser, run

pytestmark = pytest.mark.usefixtures("as_found")


def walk(command: Any, name: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield name, command
    for below, part in getattr(command, "commands", {}).items():
        yield from walk(part, (*name, below))


def leaves() -> list[tuple[tuple[str, ...], Any]]:
    return [(name, command) for name, command in walk(parser()) if not hasattr(command, "commands")]


@pytest.mark.parametrize("name", [name for name, _ in leaves()], ids=" ".join)
def test_every_command_has_examples_that_parse(name: tuple[str, ...]) -> None:
    command = dict(leaves())[name]
    lines = helping.examples(command)
    assert lines, f"give `{' '.join(name)}` examples: a docstring that ends with `Examples:` and indented lines"
    for line in lines:
        program, *arguments = shlex.split(line)
        words = " ".join(name).split()
        assert (program, *arguments[: len(words)]) == ("arcinvert", *words)
        command.make_context(name[-1], arguments[len(words) :])  # raises if an option is unknown, or one is missing


def test_every_option_has_a_panel_and_every_panel_has_options() -> None:
    options = {
        helping.long_name(part) for _, command in walk(parser()) for part in command.params if part.opts[0][0] == "-"
    }
    named = [name for names in helping.PANELS.values() for name in names]
    assert options - set(named) == set(), "place these options in PANELS of arcinvert/cli/help.py"
    assert set(named) - options - {"help"} == set()
    assert len(named) == len(set(named))


def test_every_command_of_the_first_level_has_a_subject() -> None:
    named = [name for names in helping.SUBJECTS.values() for name in names]
    assert sorted(named) == sorted(parser().commands)


@pytest.mark.parametrize("columns", ["40", "72", "160"])
def test_the_help_is_as_wide_as_the_terminal_and_cuts_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    for name, command in walk(parser()):
        assert run([*name, "--help"]) == 0
        shown = capsys.readouterr().out
        frames = [line for line in shown.splitlines() if line and line[0] in "╭│╰"]
        assert {len(line) for line in frames} == {int(columns)}
        words = " ".join("".join(" " if letter == "│" else letter for letter in shown).split())
        assert "…" not in words
        if int(columns) < 160:
            continue
        texts = [part.short_help for part in getattr(command, "commands", {}).values()]
        for text in texts + [part.help for part in command.params if part.opts[0][0] == "-"]:
            assert " ".join(text.split()[:8]) in words
    capsys.readouterr()


def test_defaults_and_square_brackets_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["synth", "--help"]) == 0
    assert "[default: 8]" in capsys.readouterr().out
    assert run(["eval", "templates", "--help"]) == 0
    assert "row[,score]" in capsys.readouterr().out


def test_importing_the_package_is_fast() -> None:
    import subprocess
    import sys

    code = "import time; s = time.perf_counter(); import arcinvert; print(time.perf_counter() - s)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(3)]
    assert min(float(done.stdout) for done in runs) < 0.1


def test_every_command_line_of_readme_and_documentation_parses() -> None:
    root = Path(__file__).resolve().parents[2]
    commands = dict(walk(parser()))
    pages = [root / "README.md", *(root / "docs").rglob("*.md")]
    lines = [line for page in pages for line in page.read_text().replace("\\\n", " ").splitlines()]
    parts = [part.strip() for line in lines for part in line.split(" #")[0].split(" && ")]
    shown = [part.split("`")[0] for part in parts if part.startswith("arcinvert ")]
    assert len(shown) > 10
    for line in shown:
        arguments = shlex.split(line.replace(" ...", ""))[1:]
        names = sorted(commands, key=lambda name: len(" ".join(name).split()), reverse=True)
        name, words = next((n, w) for n in names if arguments[: len(w := " ".join(n).split())] == w)
        commands[name].make_context(name[-1], arguments[len(words) :])
