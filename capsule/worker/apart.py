"""Does several things one after the other, so that what goes wrong with one of them keeps none of the others."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from capsule.errors import CapsuleDatabaseError
from sonar.chain.errors import RpcUnavailableError

__all__ = ["Apart"]

_log = logging.getLogger("capsule.worker")


class Apart:
    """Holds back what goes wrong until everything had its turn; `tell` raises the first of it then.

    What a chain or a database that does not answer raises passes at once: the others would not fare better.
    """

    def __init__(self) -> None:
        self._first: Exception | None = None

    @contextmanager
    def each(self, what: str) -> Iterator[None]:
        """One of the things, by its name for the log."""
        try:
            yield
        except (RpcUnavailableError, CapsuleDatabaseError):
            raise
        except Exception as error:  # noqa: BLE001  (raised when the others had their turn)
            if self._first is None:
                self._first = error
            else:
                _log.error("%s failed as well", what, exc_info=error)

    def tell(self) -> None:
        """Raises what went wrong first, if anything did."""
        first, self._first = self._first, None
        if first is not None:
            raise first
