"""A lock that processes on one machine hold by a file beside a database, and that ends with whoever holds it.

The database's own file is not locked: closing any descriptor of it would drop the locks that SQLite has on it.
"""

import os
from pathlib import Path
from typing import IO

from capsule.errors import CapsuleHomeError

__all__ = ["is_held", "lock_file", "try_lock"]


def lock_file(database: Path) -> Path:
    """The file that stands for a SQLite database, the same by whichever name the database is reached."""
    real = database.resolve()
    return real.with_name(real.name + ".lock")


def try_lock(file: Path) -> IO[bytes] | None:
    """Holds the file alone until what is returned is closed; None while another process does.

    Raises CapsuleHomeError where it cannot be locked at all. Where the system has no such locks, everybody gets it.
    """
    while True:
        held = _open(file)
        try:
            if not _lock(file, held):
                held.close()
                return None
            if is_held(file, held):
                return held
        except BaseException:
            held.close()
            raise
        held.close()  # removed between opening and locking it: whoever comes next would lock another one


def is_held(file: Path, held: IO[bytes]) -> bool:
    """Whether what `try_lock` gave still is the file of that name, so that it keeps others off."""
    if os.name != "posix":
        return True
    try:
        return os.path.samestat(os.fstat(held.fileno()), file.stat())
    except FileNotFoundError:
        return False
    except OSError as error:
        raise CapsuleHomeError(f"the lock {file} cannot be looked at: {error.strerror}") from error


def _open(file: Path) -> IO[bytes]:
    try:
        return os.fdopen(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "rb")
    except OSError as error:
        raise CapsuleHomeError(f"the lock {file} cannot be opened: {error.strerror}") from error


def _lock(file: Path, held: IO[bytes]) -> bool:
    if os.name != "posix":
        return True
    import fcntl

    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise CapsuleHomeError(
            f"{file} cannot be locked ({error.strerror}): a Capsule's SQLite database needs a local disk"
        ) from error
    return True
