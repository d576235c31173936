"""The gate for pipelines."""

from dataclasses import replace

import pytest
from verdict_report import FINE, OWN, SUSPECTED, judge, report

from arcinvert.audit import Gate
from arcinvert.audit.rates import SHUFFLED
from arcinvert.errors import UsageError


def test_a_gate_is_exceeded_only_above_its_limit() -> None:
    found = report(judge("a", 60, 3), OWN)
    assert Gate.parse("sar@1e-3=0.05").check(found)[0] is False  # 3 of 60 are 0.05
    exceeded, line = Gate.parse("sar@0.001=0.049").check(found)
    assert exceeded
    assert "is exceeded: a accepted 3 of 60" in line
    assert Gate.parse("sar@1e-2=0.99").check(found)[0]


def test_a_rate_that_proves_nothing_passes_no_gate() -> None:
    quiet = judge("a", 0, 0)
    few = replace(quiet, thresholds=tuple(replace(t, extrapolated=True) for t in quiet.thresholds))
    unshown = replace(FINE, shown=False)
    for found, reason in (
        (report(judge("a", 60, None)), "no such rate"),
        (report(OWN), "only the attacked network"),
        (report(quiet, OWN, mismatch=SUSPECTED), "does not seem to belong"),
        (report(quiet, OWN, mismatch=unshown), "nothing shows"),
        (report(judge("a", 0, 0, controls={SHUFFLED: 20})), "accepts a control"),
        (report(few), "too few for this false match rate"),
        (report(judge("a", 0, 0, basis="synthetic faces")), "--allow-synthetic-thresholds"),
    ):
        exceeded, line = Gate.parse("sar@1e-3=1").check(found)
        assert exceeded
        assert "cannot be judged" in line
        assert reason in line


def test_synthetic_thresholds_may_be_allowed() -> None:
    found = report(judge("a", 0, 3, basis="synthetic faces"))
    assert Gate.parse("sar@1e-3=0.05").check(found, allow_synthetic=True)[0] is False
    assert Gate.parse("sar@1e-3=0.04").check(found, allow_synthetic=True)[0] is True


@pytest.mark.parametrize("text", ["", "sar@1e-3", "sar@1e-5=0.1", "far@1e-3=0.1", "sar@1e-3=2", "sar@e=e"])
def test_invalid_gates_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"sar@1e-3=0\.05"):
        Gate.parse(text)
