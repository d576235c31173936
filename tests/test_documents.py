"""What is written for people leads where it says."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        ROOT / "examples/README.md",
        ROOT / "checkpoints/MODEL_CARD.md",
    ]
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_files_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.slow
def test_the_documentation_builds_and_a_broken_link_fails(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed")
    built = subprocess.run([ROOT / "scripts/docs", tmp_path / "site"], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    shown = (tmp_path / "site/api/inversion/index.html").read_text()
    assert "arcinvert.inversion.invert.invert" in shown
    broken = tmp_path / "broken"
    (broken / "scripts").mkdir(parents=True)
    (broken / "arcinvert").symlink_to(ROOT / "arcinvert")
    for path in (ROOT / "docs").rglob("*.md"):
        copy = broken / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text())
    (broken / "docs/index.md").write_text("[nowhere](nowhere.md)\n")
    for name in ("scripts/docs", "mkdocs.yml"):
        copy = broken / name
        copy.write_bytes((ROOT / name).read_bytes())
        copy.chmod(0o755)
    failed = subprocess.run([broken / "scripts/docs", tmp_path / "other"], capture_output=True, text=True, check=False)
    assert failed.returncode != 0
    assert "nowhere.md" in failed.stderr
