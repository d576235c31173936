"""What a store of embeddings gives away, and whether a defense helps.

``open_store`` reads a store; ``audit`` attacks a sample of it, has judges that were not attacked look at what comes
out, and returns a :class:`LeakageReport`.
"""

from arcinvert.audit.config import AuditConfig
from arcinvert.audit.report import Gate, LeakageReport
from arcinvert.audit.run import audit
from arcinvert.audit.stores import open_store

__all__ = ["AuditConfig", "Gate", "LeakageReport", "audit", "open_store"]
