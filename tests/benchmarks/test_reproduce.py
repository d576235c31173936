"""The command behind all figures: its words, its tables, and the documents that carry them."""

import importlib
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
Call = Callable[..., tuple[int | str | None, Path]]
NAMES = ("reproduce", "reproduce_jobs", "summary_table")
PLACES = dict.fromkeys(("data", "photos", "y1", "v3", "edge", "attacked", "work", "json", "losses"), "/there")
STUB = """
import sys
from pathlib import Path
name, out, printed = sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "printed"
here = Path(__file__).parent
(here / f"{name}.ran").open("a").write("x")
if (here / f"{name}.broken").exists():
    sys.exit(7)
(out / "table.json").write_text('{"of": "%s"}' % name)
if printed:
    print("| printed |")
else:
    (out / "table.md").write_text("| left |")
"""


@pytest.fixture
def reproduce(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield importlib.import_module("reproduce")
    for name in NAMES:
        sys.modules.pop(name)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.fixture
def call(reproduce: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run it over two stubs in a repository of one document; exit code and the repository."""
    root = tmp_path / "repository"
    root.mkdir()
    (root / "README.md").write_text("a\n<!-- results/one.md -->\nold\n<!-- end -->\nb\n")
    stub = tmp_path / "stub.py"
    stub.write_text(STUB)
    (tmp_path / "faces/anna").mkdir(parents=True)
    (tmp_path / "faces/anna/0.png").write_bytes(b"")
    job = reproduce.Job
    jobs = {"one": job(f"{stub} one {{work}} printed"), "two": job(f"{stub} two {{work}} left", "--n 1", printed=False)}
    reproduce.JOBS, reproduce.ROOT, reproduce.DOCUMENTS = jobs, root, ("README.md",)

    def run(*options: str) -> tuple[int | str | None, Path]:
        given = [] if "--tables" in options else ["--data", f"{tmp_path}/faces", "--models", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", ["reproduce.py", *given, "--work", f"{tmp_path}/work", *options])
        try:
            reproduce.main()
        except SystemExit as done:
            return done.code, root
        return 0, root

    return run


def test_every_job_names_a_script_and_options_that_it_has(reproduce: ModuleType) -> None:
    for quick in (False, True):
        for name, job in reproduce.JOBS.items():
            words = reproduce.words_of(job, PLACES, quick=quick)
            known = re.findall(r'"(--[a-z-]+|-o)"', (ROOT / words[1]).read_text())
            asked = [word for word in words[2:] if word.startswith("-")]
            assert asked, name
            assert set(asked) <= set(known), name
            repeated = {"--judge", "--preset", "--checkpoint", "--unknown", "--model"}
            repeated |= {"--network", "--batch", "--precision", "--targets"}
            assert all(asked.count(option) == 1 for option in set(asked) - repeated), name
            assert not quick or job.quick, name


def test_a_whole_run_keeps_figures_tables_and_commands(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, root = call()
    assert code == 0
    assert (root / "README.md").read_text() == "a\n<!-- results/one.md -->\n| printed |\n<!-- end -->\nb\n"
    assert (root / "benchmarks/results/two.md").read_text() == "| left |\n"
    assert json.loads((root / "benchmarks/results/two.json").read_text()) == {"of": "two"}
    runs = json.loads((root / "benchmarks/results/runs.json").read_text())
    assert list(runs) == ["one", "two"]
    assert runs["two"]["command"].endswith("stub.py two {work} left")  # no place of this machine, no quick option
    assert re.search(r"\| two \| done \| \d+ \| \d+ \|", capsys.readouterr().out)
    assert call()[0] == 0
    assert (tmp_path / "one.ran").read_text() == "x"  # what is there is not measured again
    (root / "benchmarks/results/one.md").unlink()
    assert call("--only", "two")[0] == 0
    assert (tmp_path / "one.ran").read_text() == "x"
    assert call()[0] == 0
    assert (tmp_path / "one.ran").read_text() == "xx"


def test_a_job_that_fails_is_named_and_the_others_still_run(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one.broken").touch()
    code, root = call()
    assert code == 1
    said = capsys.readouterr()
    assert said.err == f"one ended with 7: python {tmp_path}/stub.py one {tmp_path}/work/runs/one printed\n"
    assert "| one | failed |" in said.out
    assert (root / "README.md").read_text().splitlines()[2] == "old"
    assert sorted(path.name for path in (root / "benchmarks/results").iterdir()) == ["runs.json", "two.json", "two.md"]
    (tmp_path / "one.broken").unlink()
    assert call()[0] == 0
    assert (tmp_path / "two.ran").read_text() == "x"
    assert (root / "benchmarks/results/one.md").exists()


def test_a_run_that_was_interrupted_goes_on(
    reproduce: ModuleType, call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real = reproduce.run

    def run(name: str, words: list[str]) -> str:
        if name == "two":
            os.kill(os.getpid(), signal.SIGTERM)
        return str(real(name, words))

    reproduce.run = run
    code, root = call()
    assert code == 130
    assert capsys.readouterr().err == "interrupted; the same command goes on\n"
    assert [path.name for path in (root / "benchmarks/results").glob("*.md")] == ["one.md"]
    reproduce.run = real
    assert call()[0] == 0
    assert (tmp_path / "one.ran").read_text() == (tmp_path / "two.ran").read_text() == "x"


def test_the_documents_carry_the_tables_that_were_measured(reproduce: ModuleType) -> None:
    results, blocks = ROOT / "benchmarks/results", set()
    for document in reproduce.DOCUMENTS:
        text = (ROOT / document).read_text()
        assert reproduce.fill(text, results) == text, document
        blocks |= {match[2] for match in reproduce.TABLE_BLOCK.finditer(text)}
    for name, table in reproduce.tables(results).items():
        assert name not in blocks or (results / f"{name}.md").read_text() == table.strip() + "\n", name
    made = set(importlib.import_module("summary_table").TABLES)
    by_hand = set(importlib.import_module("reproduce_jobs").BY_HAND)
    assert blocks <= set(reproduce.JOBS) | made | by_hand
    assert {path.stem for path in results.glob("*.md")} <= blocks
