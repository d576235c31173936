"""The top of the report: the verdict in words, and the few figures it rests on."""

from collections.abc import Mapping
from typing import Any

from arcinvert.audit.page.markup import Markup, tag
from arcinvert.audit.page.strips import counted, strip
from arcinvert.audit.page.tables import code, facts, section
from arcinvert.audit.page.words import duration, number, one_in, percent, share
from arcinvert.audit.verdict import headline as best

_TILES = (
    ("type I", "of the reconstructions pass for what was enrolled"),
    ("type II", "pass for another picture of the person"),
)
_TONES = {"leaks": "strong", "leaks in part": "middle", "mismatch suspected": "doubt"}


def headline(report: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The judge that counts (:func:`arcinvert.audit.report.headline`) at the smallest false match rate that has one.

    The attacked network only where no other judge has a rate; None where there is no rate at all.
    """
    judges = report.get("judges") or []
    rates = sorted({float(row["fmr"]) for judge in judges for row in judge["rows"]})
    found = [pair[0] for fmr in rates if (pair := best(judges, fmr)) is not None]
    return next((judge for judge in found if not judge["attacked"]), found[0] if found else None)


def strictest(judge: Mapping[str, Any], what: str = "type I") -> Mapping[str, Any] | None:
    """The row of a judge at its smallest false match rate among those that were measured."""
    rows = [row for row in judge["rows"] if row["what"] == what and share(row) is not None]
    return min(rows, key=lambda row: float(row["fmr"]), default=None)


def verdict(report: Mapping[str, Any]) -> Markup:
    """Title, verdict and key figures."""
    said = report["verdict"]
    store = report["store"]
    return tag(
        "header",
        tag("p", "Leakage audit of a store of face embeddings", class_="kicker"),
        tag("h1", title(store)),
        tag("p", _lead(report), class_="lead"),
        tag(
            "div",
            tag("p", tag("span", "Verdict", class_="unseen"), said["word"], class_="word"),
            tag("p", said["text"]),
            class_=f"verdict {_TONES.get(said['word'], 'plain')}",
        ),
        _figures(report),
        tag(
            "p",
            tag("a", "How to read these figures", href="#words"),
            ", and ",
            tag("a", "what they do not show", href="#limits"),
            class_="ways",
        ),
    )


def about(report: Mapping[str, Any]) -> Markup:
    """What was audited: the store, the sample, the networks."""
    store, sample, attacked = report["store"], report["sample"], report.get("attacked") or {}
    drawn = f"{sample['count']:,} templates"
    if sample.get("identities"):
        drawn += f" of {sample['identities']:,} identities"
    if sample.get("cap"):
        drawn += f", at most {sample['cap']:,}"
    tried = ""
    if attacked.get("attempts"):
        steps, failed = number(attacked.get("steps")), number(attacked.get("failed"))
        tried = f"{attacked['attempts']:,}, of {steps} steps; {failed} failed"
    judges = [judge["name"] for judge in report.get("judges") or [] if not judge["attacked"]]
    return section(
        "What was audited",
        "about",
        facts(
            [
                ("Store", code(store.get("name") or "")),
                ("Kind", store.get("kind")),
                ("Templates", f"{store['count']:,} of {store['size']:,} numbers each"),
                ("Norms of the templates", _norms(store.get("norms") or {})),
                ("Identities in the store", number(store["identities"]) if store.get("identities") else None),
                ("Digest of the store", _code(store.get("digest"))),
                ("Sample", f"{drawn}; seed {number(sample.get('seed'))}"),
                ("Digest of the sample", _code(sample.get("digest"))),
                ("Unusable rows of the store", number(sample["unusable"]) if sample.get("unusable") else None),
                ("Attacked network", _named(attacked)),
                ("Attempts", tried),
                ("Cosine they reached, as the attacker sees it", _figure(attacked.get("cosine"))),
                ("Judges that were not attacked", ", ".join(judges) or "none"),
                ("Photos", _photos(report.get("photos") or {})),
                ("Authorization", report.get("authorization") or "none was recorded"),
                ("Time taken", duration(report["seconds"]) if report.get("seconds") else None),
                ("This audit", _code(report.get("run"))),
            ]
        ),
    )


def title(store: Mapping[str, Any]) -> str:
    """What a store is called at the top: a file without its folders."""
    name = str(store.get("name") or store.get("kind") or "store")
    return name if "://" in name else name.rstrip("/").rpartition("/")[2] or name


def _lead(report: Mapping[str, Any]) -> str:
    """One line: how much of what was attacked, by which network, and who judged."""
    judges = [judge["name"] for judge in report.get("judges") or [] if not judge["attacked"]]
    return (
        f"{report['sample']['count']:,} of {report['store']['count']:,} templates ({report['store'].get('kind')}), "
        f"attacked through {(report.get('attacked') or {}).get('name') or 'an unnamed network'}, "
        f"judged by {', '.join(judges) or 'the attacked network alone'}"
    )


def _figures(report: Mapping[str, Any]) -> Markup | None:
    tiles = []
    judge = headline(report)
    if judge is not None:
        for what, words in _TILES:
            row = strictest(judge, what)
            if row is not None:
                who = f"{judge['name']}{', the attacked network itself' if judge['attacked'] else ''}"
                tiles.append(_tile(row, f"{words} ({what}), by {who}, which lets {one_in(row['fmr'])} strangers pass"))
    again = report.get("reidentification") or {}
    if again.get("rank1") is not None:
        row = again | {"rate": again["rank1"]}
        tiles.append(_tile(row, f"find their own record first among all {again['gallery']:,} of the store (rank 1)"))
    return tag("ul", *tiles, class_="tiles") if tiles else None


def _tile(row: Mapping[str, Any], label: str) -> Markup:
    value = share(row)
    return tag(
        "li",
        tag("p", percent(value), class_="big"),
        tag("p", label),
        None if value is None else strip(value, row.get("low"), row.get("high")),
        tag("p", counted(row), class_="sub"),
    )


def _named(network: Mapping[str, Any]) -> Markup | str:
    name = network.get("name") or "not named"
    return tag("span", name, " ", code(str(network["digest"])[:16])) if network.get("digest") else name


def _code(value: object) -> Markup | None:
    return code(value) if value else None


def _figure(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"


def _norms(found: Mapping[str, Any]) -> str | None:
    if not found:
        return None
    return f"{number(found['least'])} to {number(found['most'])}, mean {number(found['mean'])}"


def _photos(found: Mapping[str, Any]) -> str | None:
    if not found:
        return None
    counts = (
        f"enrolled photos of {found['enrolled_found']:,} of {found['of']:,}, second photos of {found['second_found']:,}"
    )
    return f"{counts}; matched {found['matched']}"
