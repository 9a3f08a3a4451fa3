"""The Capsule's memory: one database that several threads, and on PostgreSQL several processes, may share.

Each method is one transaction. What has been signed is stored before anybody sees it, what was used up (keys,
validation boxes, nonces) is stored before it is used, and the audit log's entry comes with the change that it tells.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection

from capsule.state.admissions import Admissions
from capsule.state.audit import AuditHead, AuditLog
from capsule.state.chainfacts import ChainFacts
from capsule.state.claims import open_claims
from capsule.state.copies import Copies
from capsule.state.engine import check_answers, describe, open_engine, reading, scrub, writing
from capsule.state.failures import Failures
from capsule.state.keys import Keys
from capsule.state.migrating import bring_up_to_date
from capsule.state.relays import Relays
from capsule.state.rounds import Rounds
from capsule.state.settings import Settings
from capsule.state.verdicts import Verdicts
from capsule.state.verifying import verify

__all__ = ["State"]


class State(Settings, Keys, Failures, Admissions, ChainFacts, Copies, Rounds, Verdicts, Relays):
    """The Capsule's database.

    Methods raise CapsuleUnavailableError where it does not answer, and CapsuleError where the audit log, to which
    `audit.unlock` gives its key, is not the one that this Capsule wrote.
    """

    def __init__(
        self,
        target: str | Path,
        *,
        clock: Callable[[], float] = time.time,
        migrate: bool = True,
        create: bool = True,
    ) -> None:
        """Opens a SQLite file, given as a path, or a database by its URL, and makes or upgrades its tables.

        Raises CapsuleHomeError where it cannot be reached, is not a Capsule's, or is of a newer version; without
        `migrate` also where it is of an older one, and without `create` where it is missing or empty.
        """
        engine = open_engine(target, create=create)
        try:
            check_answers(engine)
            bring_up_to_date(engine, migrate=migrate, create=create)
        except BaseException:
            engine.dispose()
            raise
        super().__init__(engine, AuditLog(engine, clock))
        self.claims = open_claims(engine)

    def close(self) -> None:
        """Gives all claims back and closes the database."""
        self.claims.close()
        self._engine.dispose()

    @property
    def where(self) -> str:
        """The database for people, without any password."""
        return describe(self._engine)

    @property
    def shared(self) -> bool:
        """Whether several processes may serve this database."""
        return self._engine.dialect.name == "postgresql"

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """One consistent view of everything, however much changes meanwhile."""
        with reading(self._engine, consistent=True) as db:
            yield db

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction of the caller's own; it may append to the log with `audit.append`."""
        with writing(self._engine) as db:
            self.audit.lock(db)
            yield db

    def verify_audit(self, *, noted: bytes | None = None) -> AuditHead:
        """Reads the whole audit log; raises AuditLogError with the first entry that does not hold."""
        return verify(self._engine, self.audit, noted=noted)

    def scrub(self, seconds: float) -> bool:
        """Sees to it that SQLite's log beside the file does not keep what was deleted from the file.

        False where somebody has read it for so long; those that would write wait as long.
        """
        return self.shared or scrub(self._engine, seconds)

    def audit_head(self) -> AuditHead:
        """How long the audit log is, and the hash of its last entry."""
        return self.audit.head()
