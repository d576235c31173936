"""Which rates are above chance: exact tests of the attack's rates and of the controls, each family adjusted by Holm."""

from collections.abc import Sequence
from dataclasses import replace

from arcinvert.audit.rates import ATTACK, KNOW_NOTHING, Rate
from arcinvert.audit.report import JudgeResult
from arcinvert.audit.significance import ALPHA, chance_of, holm

LEAST_ACCEPTED = 2
"""A single accepted image is never a claim, however rare it is by chance."""


def with_p_values(judges: Sequence[JudgeResult]) -> tuple[JudgeResult, ...]:
    """The judges with an adjusted p-value in every rate that can be tested.

    One family are the type I and type II rates of all judges that were not attacked, at all thresholds. The controls of
    each of these judges are families of their own. The rates of the attacked network are not tested: they prove
    nothing.
    """
    others = [judge for judge in judges if not judge.attacked]
    families = [[(judge, rate) for judge in others for rate in _of(judge, ATTACK)]]
    families += [[(judge, rate) for rate in _of(judge, KNOW_NOTHING)] for judge in others]
    found: dict[tuple[str, Rate], float] = {}
    for family in families:
        adjusted = holm([_p(judge, rate) for judge, rate in family])
        found |= {(judge.name, rate): p for (judge, rate), p in zip(family, adjusted, strict=True)}
    return tuple(
        judge
        if judge.attacked
        else replace(
            judge, rates=tuple(replace(rate, p_value=_rounded(found.get((judge.name, rate)))) for rate in judge.rates)
        )
        for judge in judges
    )


def is_claim(rate: Rate) -> bool:
    """Whether a rate of the attack is shown to be above chance, by a judge that :func:`with_p_values` has tested."""
    return rate.kind in ATTACK and _above(rate) and (rate.accepted or 0) >= LEAST_ACCEPTED


def failed_controls(judge: JudgeResult) -> list[Rate]:
    """The controls that a judge accepts above chance: it then supports no claim."""
    return [rate for rate in judge.rates if rate.kind in KNOW_NOTHING and _above(rate)]


def _above(rate: Rate) -> bool:
    return rate.p_value is not None and rate.p_value <= ALPHA


def _testable(rate: Rate) -> bool:
    return rate.accepted is not None and rate.tried > 0


def _of(judge: JudgeResult, kinds: Sequence[str]) -> list[Rate]:
    return [rate for rate in judge.rates if rate.kind in kinds and _testable(rate)]


def _p(judge: JudgeResult, rate: Rate) -> float:
    known = [t for t in judge.thresholds if (t.fmr, t.given) == (rate.fmr, rate.given)]
    # An extrapolated threshold is the upper end of its interval already.
    pairs = known[0].effective_pairs if known and not known[0].extrapolated else None
    return chance_of(rate.accepted or 0, rate.tried, rate.fmr, pairs)


def _rounded(p: float | None) -> float | None:
    return None if p is None else float(f"{p:.3g}")
