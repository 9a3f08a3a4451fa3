"""A round that could not be judged is left alone for a while: a try costs work, a key or a long look in the store."""

from capsule.worker.patience import Patience
from sonar.errors import SonarError
from sonar.storage import StorageError

__all__ = ["Postponed"]

_JOB_SECONDS = (30.0, 3600.0)
"""How long until a round is judged again that no judge process got through, or whose settlement cannot be stored."""
_STORE_SECONDS = (1.0, 60.0)
"""How long until a model that the store does not have is sought again."""


class Postponed:
    """A campaign's round that is put off, by its head: another round has to wait for nothing."""

    def __init__(self) -> None:
        self._head = b""
        self._problem: SonarError | None = None
        self._patience = self._job, self._store = Patience(*_JOB_SECONDS), Patience(*_STORE_SECONDS)

    def check(self, head: bytes) -> None:
        """Raises what went wrong with this round last, until it is time to try again."""
        if head != self._head:
            self.forget()
        elif self._problem is not None and not all(patience.is_over for patience in self._patience):
            raise self._problem

    def put_off(self, head: bytes, problem: SonarError) -> None:
        """It went wrong, once more perhaps."""
        self._head, self._problem = head, problem
        (self._store if isinstance(problem, StorageError) else self._job).fail()

    def forget(self) -> None:
        """The next time that something goes wrong is a first one."""
        self._head, self._problem = b"", None
        for patience in self._patience:
            patience.succeed()
