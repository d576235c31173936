"""The report of an audit as one HTML file without scripts and without references to anything outside of it.

It fits a phone, paper, light and dark color schemes. :func:`page` writes the report of an audit, :func:`sweep_page`
the trade-off of a sweep over defenses. The HTML is in ``templates/``, the style in ``report.css``.
"""

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files

from arcinvert.audit.page.environment import environment
from arcinvert.audit.page.view import PageView, data_uri
from arcinvert.audit.report import LeakageReport

__all__ = ["page", "sweep_page"]
_TEMPLATES = environment(__name__)


def page(report: LeakageReport, images: Mapping[str, Mapping[str, bytes]] | None = None) -> str:
    """The report of an audit as a self-contained HTML page.

    Args:
        report: of the audit.
        images: record -> caption -> PNG, JPEG or WebP bytes, shown side by side.

    Raises:
        InputError: an image of another kind.
    """
    shown = {
        record: {caption: data_uri(content, f"{caption!r} of {record!r}") for caption, content in parts.items()}
        for record, parts in (images or {}).items()
    }
    photos_shown = any(len(parts) > 1 for parts in shown.values())
    return _render("report.html", report, images=shown, photos_shown=photos_shown)


def sweep_page(report: LeakageReport) -> str:
    """The trade-off of a sweep as a self-contained HTML page: a line through the settings of each scheme."""
    return _render("sweep.html", report)


def _render(template: str, report: LeakageReport, **values: object) -> str:
    style = files(__name__).joinpath("report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    known = {"report": report, "view": PageView(report), "style": style, "style_digest": digest}
    return _TEMPLATES.get_template(template).render(**known, **values)
