"""`mine` that kills itself with SIGKILL at a named instant: crashing_mine.py INSTANT ARGUMENTS...

The instants lie on both sides of every lasting step. "modules" does not crash: it lists what the mine has loaded.
"""

import os
import signal
import sys
from typing import Any

from mine.audit import AuditFile
from mine.ledger import Ledger
from mine.worker import Worker
from sonar.chain.client import SonarClient

INSTANTS = {
    "after the first event, before the cursor": (Ledger, "_apply", "after"),
    "after the cursor": (Ledger, "apply", "after"),
    "after training, before the ledger": (Worker, "train", "after"),
    "after the ledger, before storing": (Ledger, "train", "after"),
    "after storing, before the ledger": (Ledger, "store", "before"),
    "after the ledger, before the audit log": (AuditFile, "append", "before"),
    "after the audit log, before its end in the ledger": (AuditFile, "append", "after"),
    "after the ledger, before signing": (Ledger, "store", "after"),
    "after signing, before the ledger": (Ledger, "sign", "before"),
    "after an intent, before sending": (Ledger, "intend", "after"),
    "after the ledger, before sending": (Ledger, "sign", "after"),
    "after sending, before an answer": (SonarClient, "send", "after"),
    "after the receipt, before the ledger": (Ledger, "send", "before"),
    "after everything": (Ledger, "send", "after"),
}


def die() -> None:
    """What a power cut does to this process."""
    os.kill(os.getpid(), signal.SIGKILL)


def crash_at(instant: str) -> None:
    """Arms one instant."""
    owner, name, when = INSTANTS[instant]
    real = getattr(owner, name)

    def crashing(*arguments: Any, **more: Any) -> Any:
        if when == "before":
            die()
        result = real(*arguments, **more)
        die()
        return result

    setattr(owner, name, crashing)


if __name__ == "__main__":
    from mine.cli import main

    instant = sys.argv.pop(1)
    if instant != "modules":
        crash_at(instant)
    try:
        main()
    finally:
        print("\n".join(sys.modules), file=sys.stderr)
