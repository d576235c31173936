"""A report to draw, and a browser to look at it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import Browser, find_chromium
from page_report import example


@pytest.fixture
def report() -> dict[str, Any]:
    """A report as an audit writes it."""
    return example()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        running = Browser(program, Path(profile))
        yield running
        running.close()
