"""The command behind all figures: its words, its tables, and the documents that carry them."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_SPEC = importlib.util.spec_from_file_location("reproduce", ROOT / "scripts/reproduce.py")
assert _SPEC is not None
assert _SPEC.loader is not None
reproduce = importlib.util.module_from_spec(_SPEC)
sys.modules["reproduce"] = reproduce  # dataclasses look their module up
_SPEC.loader.exec_module(reproduce)

PLACES = dict.fromkeys(("data", "y1", "v3", "attacked", "work", "json"), "/there")


@pytest.mark.parametrize("name", reproduce.JOBS)
@pytest.mark.parametrize("quick", [False, True])
def test_every_job_names_a_script_and_options_that_it_has(name: str, quick: bool) -> None:
    words = reproduce.words_of(reproduce.JOBS[name], PLACES, quick=quick)
    script = ROOT / words[1]
    known = re.findall(r'"(--[a-z-]+|-o)"', script.read_text())
    asked = [word for word in words[2:] if word.startswith("-")]
    assert asked
    assert set(asked) <= set(known)
    repeated = {"--judge", "--preset", "--checkpoint"}
    assert all(asked.count(option) == 1 for option in set(asked) - repeated)


def test_a_quick_value_takes_the_place_of_the_other() -> None:
    job = reproduce.Job("scripts/x.py --targets 40 --ablate", "--targets 4 --steps 3")
    assert reproduce.words_of(job, {}, quick=True)[1:] == ["scripts/x.py", "--ablate", "--targets", "4", "--steps", "3"]
    assert reproduce.words_of(job, {}, quick=False)[1:] == ["scripts/x.py", "--targets", "40", "--ablate"]


def test_tables_go_into_their_blocks_alone(tmp_path: Path) -> None:
    (tmp_path / "a-b.md").write_text("| new |\n")
    text = "x\n<!-- results/a-b.md -->\n| old |\n<!-- end -->\ny\n<!-- results/c.md -->\n| kept |\n<!-- end -->\n"
    assert reproduce.fill(text, tmp_path) == text.replace("old", "new")


def test_the_documents_carry_the_tables_that_were_measured() -> None:
    blocks = set()
    for document in reproduce.DOCUMENTS:
        text = (ROOT / document).read_text()
        assert reproduce.fill(text, ROOT / "results") == text, document
        blocks |= {match[2] for match in reproduce.BLOCK.finditer(text)}
    assert blocks <= set(reproduce.JOBS)
    assert {path.stem for path in (ROOT / "results").glob("*.md")} <= blocks
