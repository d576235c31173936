"""What the attack reached: rates by judge and threshold, re-identification, restarts, and pictures."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from arcinvert.audit.page.markup import Markup, join, tag
from arcinvert.audit.page.strips import rates
from arcinvert.audit.page.tables import cards, section
from arcinvert.audit.page.words import number, one_in
from arcinvert.errors import InputError

_MAGIC = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp"}


def acceptance(report: Mapping[str, Any]) -> Markup:
    """A table for each judge and threshold: the reconstructions above, the controls beside them."""
    judges = report.get("judges") or []
    blocks = [_judge(judge) for judge in sorted(judges, key=lambda judge: bool(judge["attacked"]))]
    if not blocks:
        return Markup()
    legend = tag(
        "p",
        "A bar is the 95% interval. Filled circles are the attack, hollow diamonds are controls. "
        "The dashed line is what chance alone would give.",
        class_="sub",
    )
    return section("Do the reconstructions pass?", "rates", legend, *blocks)


def reidentification(report: Mapping[str, Any]) -> Markup:
    """Whether a reconstruction finds its own record in the store."""
    again = report.get("reidentification") or {}
    if not again:
        return Markup()
    row = again | {
        "what": f"Reconstruction, searched among all {again.get('gallery') or 0:,} templates",
        "sar": again.get("rank1"),
        "fmr": 1 / again["gallery"] if again.get("gallery") else None,
    }
    return section(
        "Can a reconstruction be found again?",
        "again",
        tag("p", "The share of reconstructions whose nearest template in the whole store is their own (rank 1)."),
        rates("Rank-1 re-identification by the attacked network", [row], shown="What was searched", hit="Found"),
    )


def restarts(report: Mapping[str, Any]) -> Markup:
    """What trying more than once was worth: the best of k attempts beside their mean; nothing for one attempt."""
    tried = report.get("restarts") or {}
    best, mean = tried.get("best") or {}, tried.get("mean") or {}
    if (tried.get("k") or 1) < 2 or not best:
        return Markup()
    rows = [[name, number(value), number(mean.get(name))] for name, value in best.items()]
    chosen = f"The best was chosen by {tried['chosen_by']}, never by a judge." if tried.get("chosen_by") else None
    caption = join([f"{tried['k']} attempts a template", tag("span", chosen, class_="sub") if chosen else None])
    return section("Restarts", "restarts", cards(caption, ["Type-I rate, or cosine", "Best", "Mean"], rows))


def gallery(pictures: Mapping[str, Mapping[str, bytes]] | None) -> Markup:
    """Pictures as data URIs, a group for each record.

    Raises:
        InputError: bytes that are no PNG, JPEG or WebP.
    """
    groups = [
        tag("li", tag("p", name, class_="name"), tag("div", *(_picture(name, *part) for part in parts.items())))
        for name, parts in (pictures or {}).items()
    ]
    if not groups:
        return Markup()
    warning = "They may resemble real people. Handle this file as you would handle their photos."
    return section("Reconstructed faces", "faces", tag("p", warning), tag("ul", *groups, class_="faces"))


def _judge(judge: Mapping[str, Any]) -> Markup:
    tables = []
    for threshold in sorted(judge["thresholds"], key=lambda entry: -float(entry["fmr"])):
        why = {"reason": threshold.get("reason")}
        rows = [why | row for row in judge["rows"] if float(row["fmr"]) == float(threshold["fmr"])]
        if rows:
            tables.append(rates(_caption(threshold), _ordered(rows)))
    attacked = tag(
        "p",
        "This is the network that was attacked. The pictures were made to please it, so its consent proves little; "
        "it is given for completeness and does not decide the verdict where another judge is present.",
        class_="sub",
    )
    return tag(
        "div",
        tag("h3", judge["name"], tag("span", " (attacked)") if judge["attacked"] else None),
        attacked if judge["attacked"] else None,
        tag("p", judge["note"], class_="sub") if judge.get("note") else None,
        *tables,
        class_="judge",
    )


def _caption(threshold: Mapping[str, Any]) -> Markup:
    value, pairs = threshold.get("threshold"), threshold.get("impostor_pairs")
    parts = ["no threshold" if value is None else f"threshold {value:.3f}"]
    if pairs is not None:
        parts.append(f"fixed beforehand on {pairs:,} impostor pairs")
    return join([f"Accepting {one_in(float(threshold['fmr']))} strangers", tag("span", ", ".join(parts), class_="sub")])


def _ordered(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The attack first, then the controls, each kind in the order of the report."""
    return sorted(rows, key=lambda row: str(row["what"]).startswith("control"))


def _picture(name: str, what: str, content: bytes) -> Markup:
    kind = next((kind for magic, kind in _MAGIC.items() if content.startswith(magic)), None)
    if kind is None:
        raise InputError(f"expected a PNG, JPEG or WebP as {what!r} of {name!r}")
    source = f"data:{kind};base64,{base64.b64encode(content).decode()}"
    return tag(
        "figure", tag("img", src=source, alt=f"{what} of {name}", width=112, height=112), tag("figcaption", what)
    )
