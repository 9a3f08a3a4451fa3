"""The mine's own record of who asked, what was released, what it cost and what it brought; it never leaves the home.

`entries` says what an entry is, `file` keeps them in a file of lines; the ledger (`mine.ledger.audit`) decides what is
written there, in the same transactions as what it tells of.
"""

from mine.audit.entries import KEY_BYTES, LONGEST_LINE, RESTARTED, AuditEntry, AuditHead
from mine.audit.file import AuditFile

__all__ = ["KEY_BYTES", "LONGEST_LINE", "RESTARTED", "AuditEntry", "AuditFile", "AuditHead"]
