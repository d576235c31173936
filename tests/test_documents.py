"""Documents: their links and the names of files and functions in them lead somewhere."""

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "arcinvert"
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        ROOT / "examples/README.md",
        ROOT / "checkpoints/MODEL_CARD.md",
    ]
)


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def defined(path: Path) -> set[str]:
    """Functions, classes and methods (``Class.method``) of a file."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
    return names


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_between_files_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("page", [ROOT / "docs/architecture.md", ROOT / "CONTRIBUTING.md"], ids=page_name)
def test_files_and_functions_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text()
    files = {name for name in re.findall(r"`([\w./-]+(?:\.py|\.md|\.toml|/))`", text) if "NAME" not in name}
    assert [name for name in files if not (ROOT / name).exists() and not (PACKAGE / name).exists()] == []
    calls = re.findall(r"([\w/]+\.py)::([\w.]+)", text)
    assert [f"{path}::{name}" for path, name in calls if name not in defined(PACKAGE / path)] == []


def test_the_tree_names_every_folder() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    folders = {path.parent for path in PACKAGE.rglob("*.py")} - {PACKAGE}
    names = [str(folder.relative_to(PACKAGE)) for folder in folders]
    assert [name for name in names if f"`arcinvert/{name}/`" not in text and f"`{name}/`" not in text] == []


@pytest.mark.slow
def test_the_documentation_builds_and_a_broken_link_fails(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed")
    built = subprocess.run([ROOT / "scripts/docs", tmp_path / "site"], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    shown = (tmp_path / "site/api/inversion/index.html").read_text()
    assert "arcinvert.inversion.invert.invert" in shown
    broken = tmp_path / "broken"
    shutil.copytree(ROOT / "docs", broken / "docs")
    (broken / "docs/index.md").write_text("[nowhere](nowhere.md)\n")
    (broken / "arcinvert").symlink_to(PACKAGE)
    (broken / "scripts").mkdir()
    for name in ("scripts/docs", "mkdocs.yml"):
        shutil.copy(ROOT / name, broken / name)
    failed = subprocess.run([broken / "scripts/docs", tmp_path / "other"], capture_output=True, text=True, check=False)
    assert failed.returncode != 0
    assert "nowhere.md" in failed.stderr
