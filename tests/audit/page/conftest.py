"""The report that the tests show."""

import pytest
from page_report import example

from arcinvert.audit.report import LeakageReport


@pytest.fixture
def report() -> LeakageReport:
    """A report as an audit gives it."""
    return example()
