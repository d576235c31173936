"""The report as one HTML document."""

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

from arcinvert.audit.page import head, notes, results
from arcinvert.audit.page.defenses import defenses
from arcinvert.audit.page.markup import Markup, join, tag
from arcinvert.audit.page.style import STYLE


def page(report: Mapping[str, Any], pictures: Mapping[str, Mapping[str, bytes]] | None = None) -> str:
    """The report of an audit as a self-contained HTML page.

    Args:
        report: the report as its JSON has it; sections whose keys are missing or empty are left out.
        pictures: record -> caption -> PNG, JPEG or WebP bytes, shown side by side; none without them.

    Raises:
        InputError: a picture of another kind.
    """
    return document(
        f"Leakage audit: {head.title(report['store'])}",
        head.verdict(report),
        notes.mismatch(report) if (report.get("mismatch") or {}).get("suspected") else None,
        results.acceptance(report),
        results.reidentification(report),
        results.gallery(pictures),
        defenses(report),
        notes.hygiene(report),
        notes.not_shown(report),
        head.about(report),
        results.restarts(report),
        None if (report.get("mismatch") or {}).get("suspected") else notes.mismatch(report),
        notes.settings(report),
        notes.glossary(),
        footer=f"Written by arcinvert, report version {report.get('version', 1)}. The same figures are in report.json.",
    )


def document(title: str, *parts: object, footer: str) -> str:
    """A page with the house style. Its policy lets a browser load nothing and run nothing."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    start = join(
        [
            tag("meta", charset="utf-8"),
            tag("meta", http_equiv="Content-Security-Policy", content=policy),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("meta", name="robots", content="noindex"),
            tag("meta", name="referrer", content="no-referrer"),
            tag("title", title),
            tag("style", Markup(STYLE)),
        ],
        "\n",
    )
    body = tag("body", tag("main", *parts), tag("footer", tag("p", footer)))
    return f"<!doctype html>\n{tag('html', tag('head', start), body, lang='en')}\n"
