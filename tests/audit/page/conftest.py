"""A report and a browser."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Browser, find_chromium
from page_report import example

from arcinvert.audit.report import LeakageReport


@pytest.fixture
def report() -> LeakageReport:
    """A report as an audit gives it."""
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
