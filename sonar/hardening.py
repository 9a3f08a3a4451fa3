"""What a process that holds secrets asks of the operating system.

Python can neither wipe nor lock the memory of its integers and bytes, so a secret stays in memory until the process
ends, and may be swapped out: encrypt the swap or have none. What can be prevented is done here.
"""

import ctypes
import os
import sys
from typing import Final

__all__ = ["forbid_dumps", "harden"]

_PR_SET_DUMPABLE: Final = 4


def forbid_dumps() -> None:
    """Leaves no core dump; may be called again.

    On Linux the process is also made undumpable: no other process of the same user may read its memory or environment
    (prctl(2), ptrace(2)). Raises OSError where the system refuses.
    """
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        library = ctypes.CDLL(None, use_errno=True)
        if library.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
            code = ctypes.get_errno()
            raise OSError(code, f"the process cannot be made undumpable: {os.strerror(code)}")


def harden() -> None:
    """The same, and new files are readable by their owner only."""
    os.umask(0o077)
    forbid_dumps()
