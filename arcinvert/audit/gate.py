"""The gate for pipelines: a bound on the headline rate, which an audit that proves nothing never passes."""

import re
from dataclasses import dataclass

from arcinvert.audit.claims import failed_controls
from arcinvert.audit.report import LeakageReport
from arcinvert.audit.thresholds import FMRS
from arcinvert.audit.verdict import by, headline, on_synthetic, one_in
from arcinvert.errors import UsageError


@dataclass(frozen=True)
class Gate:
    """``sar@1e-3=0.05``: the headline rate at a false match rate must not exceed a limit.

    Attributes:
        fmr: one of those that are measured.
        limit: in [0, 1].
    """

    fmr: float
    limit: float

    @classmethod
    def parse(cls, text: str) -> "Gate":
        """Read it.

        Raises:
            UsageError: another form, another false match rate, or a limit that is no rate.
        """
        found = re.fullmatch(r"sar@([0-9.e+-]+)=([0-9.e+-]+)", text.strip())
        try:
            fmr, limit = (float(part) for part in found.groups()) if found else (0.0, 0.0)
        except ValueError:
            fmr, limit = 0.0, 0.0
        if fmr not in FMRS or not 0 <= limit <= 1:
            rates = " or ".join(f"sar@{fmr:g}" for fmr in FMRS)
            raise UsageError(f"expected a gate such as sar@1e-3=0.05 ({rates}, a limit in 0 to 1), got {text!r}")
        return cls(fmr, limit)

    def check(self, report: LeakageReport, *, allow_synthetic: bool = False) -> tuple[bool, str]:
        """Whether the report exceeds the gate, and a line that says so.

        A rate that is not known, or that proves nothing, exceeds every gate: a mismatch is suspected, or nothing shows
        that the store is the attacked network's; no judge but the attacked network; a judge that accepts controls; a
        threshold that is extrapolated, or, without ``allow_synthetic``, that comes from synthetic faces.
        """
        name = f"the gate sar@{self.fmr:g}={self.limit:g}"
        found = headline(report.judges, self.fmr)
        if found is not None and not found[0].attacked and (found[1].rate or 0) > self.limit:
            return True, f"{name} is exceeded: {by(*found)} at a false match rate of {one_in(self.fmr)}"
        if (reason := self._doubt(report, allow_synthetic)) is not None:
            return True, f"{name} cannot be judged: {reason}"
        assert found is not None
        return False, f"{name} is kept: {by(*found)} at a false match rate of {one_in(self.fmr)}"

    def _doubt(self, report: LeakageReport, allow_synthetic: bool) -> str | None:
        found = headline(report.judges, self.fmr)
        if report.mismatch.suspected:
            return f"the store does not seem to belong to the attacked network ({'; '.join(report.mismatch.evidence)})"
        if not report.mismatch.shown:
            return "nothing shows that the store belongs to the attacked network; give its enrolled photos (--photos)"
        if found is None:
            return "there is no such rate"
        judge = found[0]
        if judge.attacked:
            return "only the attacked network judged; give a --judge, and --photos that it can compare with"
        if failed_controls(judge):
            return f"{judge.name} accepts a control above chance"
        threshold = next((t for t in judge.thresholds if t.fmr == self.fmr and not t.given), None)
        if threshold is not None and threshold.extrapolated:
            return (
                f"{threshold.impostor_pairs} impostor pairs of {threshold.impostor_identities} people are too few for "
                "this false match rate; give more --photos or --calibration-faces"
            )
        if on_synthetic(judge) and not allow_synthetic:
            return (
                f"the thresholds of {judge.name} were fixed on synthetic faces; give --photos or --calibration-faces "
                "of more people, or --allow-synthetic-thresholds"
            )
        return None
