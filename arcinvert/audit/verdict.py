"""The verdict of an audit: its word and sentences, the headline rate, and the limitations."""

from collections.abc import Sequence

from arcinvert.audit.checks.mismatch import Mismatch
from arcinvert.audit.claims import failed_controls, is_claim, with_p_values
from arcinvert.audit.rates import KNOW_NOTHING, SECOND, TYPE_I, Rate
from arcinvert.audit.report import JudgeResult, Verdict
from arcinvert.audit.thresholds import SYNTHETIC_WARNING

LEAKING = {1e-2: 0.5, 1e-3: 0.1, 1e-4: 0.1}
"""A store leaks if the type I rate at the operating point, one of these false match rates, reaches this value."""
STRICT, LOOSE = 1e-3, 1e-2
UNCERTAIN = (
    "Nothing shows that the store belongs to the attacked network: no photo decides, and so few templates cannot tell."
)


def headline(judges: Sequence[JudgeResult], fmr: float) -> tuple[JudgeResult, Rate] | None:
    """The judge with the highest type I rate among those that were not attacked, and this rate.

    A judge whose controls are accepted above chance only if there is no other. The attacked one only if no other has a
    rate at any false match rate; None where there is none at this one.
    """
    known = [(j, r) for j in judges for r in j.rates if r.kind == TYPE_I and r.rate is not None and not r.given]
    known = [pair for pair in known if not pair[0].attacked] or known
    known = [pair for pair in known if not failed_controls(pair[0])] or known
    return max((pair for pair in known if pair[1].fmr == fmr), key=lambda pair: pair[1].rate or 0, default=None)


def operating_fmr(judges: Sequence[JudgeResult]) -> float:
    """The one false match rate of the headline: 1e-3 if a judge has a counted threshold there, else 1e-2.

    A judge that was not attacked, where there is one with rates. It depends on the thresholds alone, not on the rates.
    """
    judging = [judge for judge in judges if judge.rates]
    judging = [judge for judge in judging if not judge.attacked] or judging
    counted = [t for j in judging for t in j.thresholds if t.threshold is not None and not t.extrapolated]
    return STRICT if any(t.fmr == STRICT for t in counted) or not counted else LOOSE


def verdict(judges: Sequence[JudgeResult], mismatch: Mismatch, size: int) -> Verdict:
    """The word and the sentences, for a sample of ``size`` templates.

    A claim is a rate of a judge that was not attacked, above chance at the 5 % level of all of them together, and of at
    least two images; a judge that accepts a control above chance supports no claim. ``leaks``: the type I rate at the
    operating point is a claim and reaches :data:`LEAKING`; ``leaks in part``: another rate is a claim.
    """
    judges, point = with_p_values(judges), operating_fmr(judges)
    others = [judge for judge in judges if not judge.attacked and any(rate.rate is not None for rate in judge.rates)]
    warnings = warnings_of(judges, mismatch)
    sentences = [_rates(judge, point) for judge in others or judges]
    rates = " ".join([f"{size} templates were sampled.", *(text for text in sentences if text)])
    remarks = " ".join(warnings)

    def answer(word: str, *texts: str) -> Verdict:
        return Verdict(word, " ".join(text for text in (*texts, remarks) if text), point, warnings)  # type: ignore[arg-type]

    if mismatch.suspected:
        text = f"The store does not seem to belong to the attacked network ({'; '.join(mismatch.evidence)})"
        return answer("mismatch suspected", f"{text}, so its rates mean little.", rates if any(sentences) else "")
    if not others and not any(rate.rate is not None for judge in judges for rate in judge.rates):
        text = "The attack has no rate: no judge has both a threshold and anything to compare reconstructions with."
        return answer("not judged", text)
    if not others:
        text = "Only the attacked network judged, which proves nothing: the images were optimized for it."
        return answer("not judged independently", rates, text)
    blocked = [(judge, failed) for judge in others if (failed := failed_controls(judge))]
    claims = [(j, rate) for j in others if not failed_controls(j) for rate in j.rates if is_claim(rate)]
    leaks = [
        (judge, rate)
        for judge, rate in claims
        if rate.kind == TYPE_I and rate.fmr == point and not rate.given and (rate.rate or 0) >= LEAKING[point]
    ]
    if leaks:
        judge, rate = max(leaks, key=lambda pair: pair[1].rate or 0)
        close = (
            "Whoever holds these templates and the recognizer can make images that "
            f"{judge.name} takes for {rate.accepted} of {rate.tried} of the people ({_share(rate)}) "
            f"at a false match rate of {one_in(rate.fmr)}."
        )
        return answer("leaks", rates, close, _blocked(blocked))
    if claims:
        judge, rate = min(claims, key=lambda pair: pair[1].p_value or 0)
        close = (
            f"That is more than chance for some of the people: {judge.name} accepts {rate.accepted} of {rate.tried} "
            f"({rate.kind}; {_share(rate)}) at a false match rate of {one_in(rate.fmr)} "
            f"(adjusted p = {rate.p_value:.2g})."
        )
        return answer("leaks in part", rates, close, _blocked(blocked))
    if blocked:
        return answer("no conclusion", rates, _blocked(blocked))
    close = "No rate is above chance at the 5 % level; another attack, or more effort, may reach more."
    return answer("no leak shown by this attack", rates, close)


def warnings_of(judges: Sequence[JudgeResult], mismatch: Mismatch) -> tuple[str, ...]:
    """What makes a verdict doubtful, in sentences."""
    judging = [judge for judge in judges if judge.rates]
    judging = [judge for judge in judging if not judge.attacked] or judging
    found = [SYNTHETIC_WARNING] if any(on_synthetic(judge) for judge in judging) else []
    if judging and not mismatch.suspected and not mismatch.shown:
        found.append(UNCERTAIN)
    return tuple(found)


def on_synthetic(judge: JudgeResult) -> bool:
    """Whether its thresholds rest on synthetic faces alone."""
    return any(t.basis == "synthetic faces" and not t.given for t in judge.thresholds)


def one_in(rate: float) -> str:
    """A false match rate in words: 0.001 -> "1 in 1,000"."""
    return f"1 in {round(1 / rate):,}" if rate > 0 else "none that was counted"


def by(judge: JudgeResult, rate: Rate) -> str:
    """A rate as a clause: who accepted how many of how many, with the interval."""
    who = f"{judge.name}, the attacked network itself," if judge.attacked else judge.name
    return f"{who} accepted {rate.accepted} of {rate.tried} reconstructions ({_share(rate)}) as the enrolled person"


def _share(rate: Rate) -> str:
    """A rate and its interval in percent."""
    share, low, high = (100 * (value or 0) for value in (rate.rate, rate.low, rate.high))
    return f"{share:.0f} %, 95 % CI {low:.0f} to {high:.0f} %"


def _rates(judge: JudgeResult, fmr: float) -> str:
    """The type I rate of a judge at a false match rate and at the system's own threshold, with ceiling and floor."""
    type_i = [rate for rate in judge.rates if rate.kind == TYPE_I and rate.rate is not None]
    texts = []
    for rate in [r for r in type_i if r.fmr == fmr and not r.given] + [r for r in type_i if r.given]:
        where = f"false match rate of {one_in(rate.fmr)}{_fixed(judge, rate)}"
        if rate.given:
            where = f"system's own threshold of {rate.threshold:g} ({where})"
        texts.append(f"At a {where}, {by(judge, rate)}." if not rate.given else f"At the {where}, {by(judge, rate)}.")
        second = [r for r in judge.rates if r.kind == SECOND and (r.fmr, r.given) == (rate.fmr, rate.given) and r.tried]
        if second:
            texts.append(f"It accepts {second[0].accepted} of {second[0].tried} real second photos at that point.")
        else:
            texts.append("How many real second photos it accepts there is not known.")
        controls = [r for r in judge.rates if r.kind in KNOW_NOTHING and (r.fmr, r.given) == (rate.fmr, rate.given)]
        if controls := [r for r in controls if r.rate is not None]:
            most = max(controls, key=lambda r: r.rate or 0)
            texts.append(
                f"Of images that know nothing of the person it accepts at most {most.accepted} of {most.tried}."
            )
    return " ".join(texts)


def _fixed(judge: JudgeResult, rate: Rate) -> str:
    """What fixed the threshold of a rate, in brackets; empty for the system's own, or where nobody is known."""
    if rate.given or rate.threshold is None or not rate.impostor_identities:
        return ""
    known = [t for t in judge.thresholds if (t.fmr, t.given) == (rate.fmr, rate.given) and t.extrapolated]
    how = "extrapolated from" if known else "fixed on"
    return f" (a cosine of {rate.threshold:.3f}, {how} the pairs of {rate.impostor_identities} people)"


def _blocked(blocked: Sequence[tuple[JudgeResult, Sequence[Rate]]]) -> str:
    return " ".join(
        f"{judge.name} cannot tell, and supports no conclusion: it accepts {rate.accepted} of {rate.tried} of the "
        f"{rate.kind!r} at a false match rate of {one_in(rate.fmr)}, above chance (adjusted p = {rate.p_value:.2g})."
        for judge, (rate, *_) in blocked
    )


def limitations(*, others: bool, photos: bool, restarts: int, preset: str, defended: bool) -> tuple[str, ...]:
    """What must not be concluded from an audit."""
    found = [
        "A low rate means: this attack, this budget, these judges. A stronger attack may reach more.",
        f"One attack was tried: the preset {preset!r} with {restarts} restart{'s' if restarts > 1 else ''} a template.",
        "Judges and attack know aligned faces of 112x112. Cameras, liveness tests, people and live systems were not "
        "tried.",
        "The intervals are valid for the sample as a random one of the store, at the judges' thresholds as they are.",
    ]
    if not others:
        found.insert(
            0, "Only the attacked network judged. The images were optimized for it, so its acceptance proves little."
        )
    if not photos:
        found.append(
            "Without --photos, reconstructions were compared with stored templates only, which only the attacked "
            "network reads."
        )
    if defended:
        found.append("The attacker on a defense knows its scheme; an unknown key is guessed, not searched for.")
    return tuple(found)
