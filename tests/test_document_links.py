"""Links of documents to other sites: listed, and checked by their form alone, since no test uses the network."""

import re
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.md")])
PAGES += sorted((ROOT / "checkpoints").glob("*.md"))


def links() -> dict[str, list[str]]:
    """Address -> the pages that link to it."""
    found: dict[str, list[str]] = {}
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
        for link in re.findall(r"\]\((\w+://[^)\s]+)|<(https?://[^>\s]+)>", text):
            found.setdefault(link[0] or link[1], []).append(str(page.relative_to(ROOT)))
    return found


def wrong(link: str) -> str | None:
    """What is wrong with the form of an address."""
    parts = urlsplit(link)
    if parts.scheme != "https":
        return "expected https"
    if not re.fullmatch(r"([a-z0-9-]+\.)+[a-z]{2,}", parts.netloc):
        return f"no host: {parts.netloc!r}"
    if parts.netloc == "arxiv.org" and not re.fullmatch(r"/(abs|pdf)/\d{4}\.\d{4,5}(v\d+)?", parts.path):
        return "no paper of arXiv"
    if parts.netloc == "github.com" and not re.match(r"/[\w.-]+/[\w.-]+", parts.path):
        return "no repository"
    return "ends in punctuation" if link[-1] in ".,;:" else None


def test_links_to_other_sites_are_well_formed() -> None:
    found = links()
    assert found
    assert {link: (wrong(link), pages) for link, pages in found.items() if wrong(link)} == {}


def test_a_bad_link_is_found() -> None:
    for link in (
        "http://a.org",
        "https://localhost/x",
        "https://arxiv.org/abs/18",
        "https://github.com/a",
        "https://a.org/b.",
    ):
        assert wrong(link), link
    assert wrong("https://arxiv.org/abs/1801.07698v4") is None
