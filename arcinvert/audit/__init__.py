"""Audits of stores of embeddings: what a store leaks, and whether a defense helps.

``open_store`` reads a store; ``audit`` attacks a sample of it, lets recognizers that were not attacked judge the
reconstructions, and returns a :class:`LeakageReport`.
"""

from arcinvert.audit.config import AttackConfig, AuditConfig
from arcinvert.audit.defenses.curve import trade_off
from arcinvert.audit.gate import Gate
from arcinvert.audit.report import LeakageReport
from arcinvert.audit.run import audit
from arcinvert.audit.stores import open_store

__all__ = ["AttackConfig", "AuditConfig", "Gate", "LeakageReport", "audit", "open_store", "trade_off"]
