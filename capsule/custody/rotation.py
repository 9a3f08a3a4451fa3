"""Changing the passphrase: every data key is wrapped under a new master key, in one transaction.

The Paillier keys, the sealing key and the attesting account stay what they are: campaigns name them. This is for a
passphrase that was told to too many, or to the wrong ones. It does not help against who also has an old copy of the
database: that one opens with the old passphrase as before.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import Column, Connection, select, update

from capsule.errors import CapsuleHomeError
from capsule.home import OpenHome
from capsule.secret import Vault
from capsule.secret.stretching import MODERATE
from capsule.state import SERVING, State
from capsule.state import tables as t
from sonar.wallet import encrypt_keystore

__all__ = ["SEALED", "SEALED_SETTINGS", "alone", "rotate"]

SEALED: Final[tuple[Column[bytes], ...]] = (
    t.keys.c.secret,
    t.admissions.c.validation,
    t.versions.c.weights,
    t.rounds.c.weights,
)
"""The columns that hold sealed records."""
SEALED_SETTINGS: Final = ("sealing", "audit")
"""The settings that hold sealed records."""


@contextmanager
def alone(state: State) -> Iterator[None]:
    """Keeps those from serving this database who would on another machine; raises CapsuleHomeError if some do."""
    claim = state.claims.try_claim(SERVING)
    if claim is None:
        raise CapsuleHomeError(f"other processes serve {state.where}: stop all of them first")
    with claim:
        yield


def rotate(home: OpenHome, passphrase: str, *, cost: tuple[int, int] = MODERATE) -> tuple[Vault, str]:
    """Puts everything under a new passphrase; returns the new vault and the attesting account's new keystore.

    The caller holds the home's lock. Killed at any instant, either the old passphrase opens everything or the new one.
    Raises CapsuleHomeError where the database is served, and CapsuleSecretError, with nothing changed, where a record
    does not open.
    """
    state, old = home.state, home.vault
    new = Vault.create(passphrase, cost=cost)
    keystore = encrypt_keystore(home.attester, passphrase)
    with alone(state), state.transaction() as db:
        if _setting(db, "vault") != old.header:
            raise CapsuleHomeError(f"the passphrase of {state.where} was changed meanwhile: give the new one")
        records = sum(_rewrap_column(db, column, old, new) for column in SEALED)
        for name in SEALED_SETTINGS:
            _set(db, name, old.rewrap(_setting(db, name), new))
        _set(db, "vault", new.header)
        _set(db, "attester", keystore.encode())
        body = {"from": old.master_id, "to": new.master_id, "records": records + len(SEALED_SETTINGS)}
        state.audit.append(db, "rotation", body)
    return new, keystore


def _rewrap_column(db: Connection, column: Column[bytes], old: Vault, new: Vault) -> int:
    """One row at a time, because a validation set may fill a quarter of a gigabyte."""
    names = tuple(column.table.primary_key)
    places = db.execute(select(*names).where(column.is_not(None))).all()
    for place in places:
        this = [name == value for name, value in zip(names, place, strict=True)]
        sealed = db.execute(select(column).where(*this)).scalar_one()
        db.execute(update(column.table).where(*this).values({column.name: old.rewrap(sealed, new)}))
    return len(places)


def _setting(db: Connection, name: str) -> bytes:
    value: bytes = db.execute(select(t.settings.c.value).where(t.settings.c.name == name)).scalar_one()
    return value


def _set(db: Connection, name: str, value: bytes) -> None:
    db.execute(update(t.settings).where(t.settings.c.name == name).values(value=value))
