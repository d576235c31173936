"""An audit's report as one HTML file: no script, nothing from outside, everything escaped.

It reads on a phone, on paper, in light and dark. ``page`` writes the report of an audit, ``sweep_page``
the trade-off of a sweep over defenses.
"""

from arcinvert.audit.page.document import page
from arcinvert.audit.page.sweep import sweep_page

__all__ = ["page", "sweep_page"]
