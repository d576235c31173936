"""What a reader types: the commands of the pages exist with their options, and programs and notebooks run."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from arcinvert.cli import app

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), ROOT / "examples/README.md"])
NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))
NEEDS = {"audit_of_a_parquet": "pyarrow"}


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S)


def commands(page: Path) -> list[list[str]]:
    """The words of each ``arcinvert ...`` and each script of a page's shell blocks."""
    found = []
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words:
                end = next((i for i, word in enumerate(words) if word in ("&&", "|", "||", ";")), len(words))
                part, words = words[:end], words[end + 1 :]
                if "arcinvert" in part:
                    part = part[part.index("arcinvert") :]
                if part[:1] in (["python"], ["arcinvert"], ["scripts/pictures"]):
                    found.append(part)
    return found


def options_of(words: list[str]) -> tuple[str, set[str]]:
    """The command that words name, and all its options.

    Raises:
        KeyError: there is no such command.
    """
    command: Any = typer.main.get_command(app)
    rest = words[1:]
    while hasattr(command, "commands") and rest:
        pair = " ".join(rest[:2])  # a name may be of two words, as `audit diff` is
        if not rest[0].startswith("-"):
            command = command.commands[pair if pair in command.commands else rest[0]]
        rest = rest[2 if command.name == pair else 1 :]
    options = {name for part in command.params for name in (*part.opts, *part.secondary_opts)}
    return command.name, options | {"--help", "-h"}


def unknown(words: list[str]) -> list[str]:
    """What a command line asks for that is not there."""
    if words[0] != "arcinvert":
        program = words[1] if words[0] == "python" else words[0]
        return [] if program.startswith("-") or (ROOT / program).is_file() else [program]
    if words[1:2] in ([], ["--help"], ["COMMAND"], ["--version"]):
        return []
    try:
        name, known = options_of(words)
    except KeyError as missing:
        return [str(missing)]
    given = [word.partition("=")[0] for word in words[1:] if re.match(r"--?[a-z]", word)]
    return [f"{name} {option}" for option in given if option not in known]


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_commands_of_a_page_are_there_with_their_options(page: Path) -> None:
    assert [missing for words in commands(page) for missing in unknown(words)] == []


def test_a_command_that_is_not_there_is_found() -> None:
    assert unknown(shlex.split("arcinvert synth -e a.npy --nothing 3")) == ["synth --nothing"]
    assert unknown(shlex.split("arcinvert sinth -e a.npy")) == ["'sinth'"]
    assert unknown(["python", "scripts/nothing.py"]) == ["scripts/nothing.py"]
    assert len([words for page in PAGES for words in commands(page)]) > 30


def test_no_measured_table_is_in_two_places() -> None:
    texts = [path.read_text() for path in (*PAGES, ROOT / "checkpoints/MODEL_CARD.md")]
    names = [name for text in texts for name in re.findall(r"<!-- results/([\w-]+)\.md -->\n", text)]
    assert sorted(names) == sorted(set(names))
    there = {path.stem: path.read_text().strip() for path in (ROOT / "benchmarks/results").glob("*.md")}
    shown = re.findall(r"<!-- results/([\w-]+)\.md -->\n(.*?)<!-- end -->", "".join(texts), re.S)
    assert [name for name, table in shown if name in there and table.strip() != there[name]] == []


def test_the_readme_is_short_and_its_commands_are_the_first_things() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    assert "&& arcinvert synth --embedding examples/target.npy" in "".join(text.splitlines(keepends=True)[:30])


def test_the_citation_names_version_and_license() -> None:
    yaml = pytest.importorskip("yaml", reason="needs pyyaml, which mkdocs brings")
    import arcinvert

    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (cited["version"], cited["license"]) == (arcinvert.__version__, "Apache-2.0")
    assert {"cff-version", "message", "title", "authors"} <= set(cited)


def at_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A fresh folder that holds the examples, as the repository does; and a namespace."""
    (folder / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(folder)
    return {"__name__": "page"}


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=page_name)
def test_the_programs_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = at_home(tmp_path, monkeypatch)
    for number, block in enumerate(blocks(page, "python"), 1):
        exec(compile(block, f"{page.name}, block {number}", "exec"), space)


def cells(notebook: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(notebook.read_text())["cells"]
    return [cell for cell in found if cell["cell_type"] == "code"]


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=page_name)
def test_a_notebook_runs(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if notebook.stem in NEEDS:
        pytest.importorskip(NEEDS[notebook.stem])
    space = at_home(tmp_path, monkeypatch)
    monkeypatch.setenv("ARCINVERT_QUICK", "1")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for number, cell in enumerate(cells(notebook), 1):
        exec(compile("".join(cell["source"]), f"{notebook.name}, cell {number}", "exec"), space)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=page_name)
def test_a_notebook_is_listed_and_keeps_no_output(notebook: Path) -> None:
    assert f"({notebook.name})" in (notebook.parent / "index.md").read_text()
    assert [cell for cell in cells(notebook) if cell["outputs"] or cell["execution_count"] is not None] == []


def test_notebooks_import_public_names_only() -> None:
    import arcinvert

    for notebook in NOTEBOOKS:
        text = "".join("".join(cell["source"]) + "\n" for cell in cells(notebook))
        names = re.findall(r"^from (arcinvert[\w.]*) import (.+)$", text, re.M)
        assert names
        assert {home for home, _ in names} == {"arcinvert"}
        assert {name for _, line in names for name in line.split(", ")} <= set(arcinvert.__all__)
