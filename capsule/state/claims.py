"""Claims: which of several workers on one database does a piece of work. Safety never rests on them.

A claim only keeps two workers from doing the same work twice; that a round is signed once is what the database's
unique keys see to. On PostgreSQL a claim is an advisory lock of one dedicated session, so it vanishes with a killed
process, and with the connection. On SQLite one process serves, which a locked file beside the database sees to, and
claims are its own.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol, Self

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from capsule.errors import CapsuleDatabaseError
from capsule.state.engine import answering, reason
from capsule.state.filelock import is_held, lock_file, try_lock
from capsule.state.migrating import SERVING, lock_number

__all__ = ["SERVING", "Claim", "Claims", "open_claims"]

_ANSWER_SECONDS = 10
"""What a server may take to answer in the claims' session, for which all threads of a worker wait. No query in it waits
for anybody."""


class Claim:
    """A claim that is held until it is released; a context manager."""

    def __init__(self, name: str, check: Callable[[], None], release: Callable[[], None]) -> None:
        self.name, self._check, self._release = name, check, release

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def check(self) -> None:
        """Asks the database whether the claim is still held; raises CapsuleDatabaseError where it was lost."""
        self._check()

    def release(self) -> None:
        """Gives the claim back; once more does nothing."""
        release, self._release = self._release, lambda: None
        release()


class Claims(Protocol):
    """What a State's `claims` can do."""

    def try_claim(self, name: str, *, shared: bool = False) -> Claim | None:
        """The claim with this name, at once, or None while somebody else holds it.

        Any number may hold a `shared` one, as long as nobody holds the name alone. Raises CapsuleDatabaseError
        where the database does not answer.
        """

    def close(self) -> None:
        """Gives all claims back."""


def open_claims(engine: Engine) -> Claims:
    """The claims of a database."""
    if engine.dialect.name == "postgresql":
        return _SessionClaims(engine)
    return _LocalClaims(lock_file(Path(str(engine.url.database))))


class _Holders:
    """Who of this process holds what: how many share a name, or that one holds it alone."""

    def __init__(self) -> None:
        self._shared: dict[str, int] = {}
        self._alone: set[str] = set()

    def free(self, name: str, *, shared: bool) -> bool:
        return name not in self._alone and (shared or name not in self._shared)

    def has(self, name: str) -> bool:
        return name in self._alone or name in self._shared

    def add(self, name: str, *, shared: bool) -> None:
        if shared:
            self._shared[name] = self._shared.get(name, 0) + 1
        else:
            self._alone.add(name)

    def remove(self, name: str, *, shared: bool) -> None:
        if not shared:
            self._alone.remove(name)
        elif self._shared[name] == 1:
            del self._shared[name]
        else:
            self._shared[name] -= 1


class _LocalClaims:
    """Claims within one process; that to serve is a lock as well, which no other process has at the same time.

    The lock is only as good as its file's name: where somebody removed that, it is taken anew, and lost with all claims
    where another process was faster.
    """

    def __init__(self, file: Path) -> None:
        self._lock = threading.Lock()
        self._holders = _Holders()
        self._file = file
        self._serving: IO[bytes] | None = None

    def try_claim(self, name: str, *, shared: bool = False) -> Claim | None:
        with self._lock:
            self._keep_alone()
            if not self._holders.free(name, shared=shared):
                return None
            if name == SERVING and self._serving is None:
                self._serving = try_lock(self._file)
                if self._serving is None:
                    return None
            self._holders.add(name, shared=shared)
        return Claim(name, self._check, lambda: self._give_back(name, shared=shared))

    def close(self) -> None:
        with self._lock:
            self._unlock()

    def _check(self) -> None:
        with self._lock:
            self._keep_alone()

    def _keep_alone(self) -> None:
        """Raises CapsuleDatabaseError where another process may serve as well; the caller holds the lock."""
        if self._serving is None or is_held(self._file, self._serving):
            return
        again = try_lock(self._file)
        if again is None:
            raise CapsuleDatabaseError(
                f"{self._file} was removed while this process served its database, and another one serves it now: stop "
                "one of them, and leave that file"
            )
        self._serving.close()
        self._serving = again

    def _give_back(self, name: str, *, shared: bool) -> None:
        with self._lock:
            self._holders.remove(name, shared=shared)
            if not self._holders.has(SERVING):
                self._unlock()

    def _unlock(self) -> None:
        if self._serving is not None:
            self._serving.close()
            self._serving = None


class _Session:
    """One connection and the advisory locks that it holds."""

    def __init__(self, engine: Engine) -> None:
        self.holders = _Holders()
        with answering(engine):
            self._db: Connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            self._db.detach()  # never back into the pool: its locks would go on with whoever gets it next
            self._db.execute(text("SET idle_session_timeout = 0"))
            self._db.execute(text(f"SET statement_timeout = '{_ANSWER_SECONDS}s'"))
            self._process = self._ask("SELECT pg_backend_pid()")

    def _ask(self, query: str, **values: int) -> object:
        return self._db.execute(text(query), values).scalar()

    def take(self, name: str, *, shared: bool) -> bool:
        if not self.holders.free(name, shared=shared):
            return False
        # This session's lock is taken once, however many of its threads share it.
        kind = "_shared" if shared else ""
        if not self.holders.has(name) and not self._ask(
            f"SELECT pg_try_advisory_lock{kind}(:number)", number=lock_number(name)
        ):
            return False
        self.holders.add(name, shared=shared)
        return True

    def give_back(self, name: str, *, shared: bool) -> None:
        self.holders.remove(name, shared=shared)
        if not self.holders.has(name):
            kind = "_shared" if shared else ""
            self._ask(f"SELECT pg_advisory_unlock{kind}(:number)", number=lock_number(name))

    def check(self) -> None:
        """Raises a DBAPIError where the connection is gone, CapsuleDatabaseError where it is another session."""
        if self._ask("SELECT pg_backend_pid()") != self._process:
            raise CapsuleDatabaseError(
                "the database's sessions change behind a pooler: let it pool sessions, not transactions"
            )

    def close(self) -> None:
        """Ends the session, and its locks with it."""
        self._db.close()


class _SessionClaims:
    """A session is opened when it is needed. One that broke took its claims with it; shared ones are taken again."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._session: _Session | None = None
        self._shared: Counter[str] = Counter()

    def try_claim(self, name: str, *, shared: bool = False) -> Claim | None:
        with self._lock:
            session = self._open()
            with self._noticing(session):
                if not session.take(name, shared=shared):
                    return None
            if shared:
                self._shared[name] += 1
                return Claim(name, self._check_shared, lambda: self._give_back_shared(name))
        return Claim(name, lambda: self._check(session, name), lambda: self._give_back(session, name))

    def close(self) -> None:
        with self._lock:
            if self._session is not None:
                self._session.close()
                self._session = None

    def _open(self) -> _Session:
        """The present session, or a new one with what this process shares; the caller holds the lock."""
        if self._session is None:
            session = _Session(self._engine)
            with self._noticing(session):
                for name in self._shared.elements():
                    if not session.take(name, shared=True):
                        raise CapsuleDatabaseError(f"somebody needs the claim {name!r} alone: try again later")
            self._session = session
        return self._session

    def _check(self, session: _Session, name: str) -> None:
        with self._lock:
            if session is not self._session:
                raise CapsuleDatabaseError(
                    f"the claim {name!r} was lost with the connection to the database: another worker may go on"
                )
            with self._noticing(session):
                session.check()

    def _check_shared(self) -> None:
        with self._lock:
            session = self._open()
            with self._noticing(session):
                session.check()

    def _give_back(self, session: _Session, name: str) -> None:
        with self._lock:
            if session is self._session:
                with self._noticing(session):
                    session.give_back(name, shared=False)

    def _give_back_shared(self, name: str) -> None:
        with self._lock:
            self._shared[name] -= 1
            if self._session is not None:
                with self._noticing(self._session):
                    self._session.give_back(name, shared=True)

    @contextmanager
    def _noticing(self, session: _Session) -> Iterator[None]:
        """Drops a session that breaks, and with it all that was claimed in it."""
        try:
            yield
        except (DBAPIError, CapsuleDatabaseError) as error:
            self._session = None
            session.close()
            if isinstance(error, CapsuleDatabaseError):
                raise
            raise CapsuleDatabaseError(
                f"the connection to the database broke, and what was claimed in it is lost: {reason(error)}"
            ) from error
