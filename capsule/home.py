"""The Capsule's directory: its attesting account, its sealing key and its database, made once and never overwritten.

capsule.db      SQLite, if it is that: vault header, attester's keystore, sealed keys, admissions, rounds
attester.json   a copy of that keystore for other tools: Ethereum keystore version 3, the database's is what counts
capsule.db.lock held by the process that serves this database, or changes all of it, from whichever home
lock            held by the process that serves this home
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from eth_account import Account
from eth_account.signers.local import LocalAccount

from capsule.errors import CapsuleHomeError
from capsule.secret import Record, Vault
from capsule.secret.stretching import LEAST, MODERATE
from capsule.state import State
from sonar.protocol.sealing import SealingKeyPair
from sonar.syft import MIN_KEY_BITS
from sonar.units import Address
from sonar.wallet import decrypt_keystore, encrypt_keystore

__all__ = [
    "OpenHome", "create_home", "default_home", "locked", "new_home", "open_home", "open_state", "unlock",
    "write_keystore",
]  # fmt: skip


_DATABASE = "capsule.db"


@dataclass(frozen=True, slots=True)
class OpenHome:
    """A Capsule's own things, unlocked."""

    state: State
    vault: Vault
    attester: LocalAccount
    sealing: SealingKeyPair
    key_bits: int

    @property
    def address(self) -> Address:
        """The account that signs admissions and settlements."""
        return Address(self.attester.address)

    @property
    def allow_insecure_small_key(self) -> bool:
        """Whether this Capsule was made for tests, with keys that anyone can factor."""
        return self.key_bits < MIN_KEY_BITS


def default_home() -> Path:
    """SONAR_CAPSULE_HOME, or the directory `capsule` in the user's Sonar home."""
    from sonar.config import home

    given = os.environ.get("SONAR_CAPSULE_HOME")
    return Path(given) if given else home() / "capsule"


def create_home(
    directory: Path,
    passphrase: str,
    key_bits: int,
    *,
    database: str | None = None,
    cost: tuple[int, int] | None = None,
    allow_insecure_small_key: bool = False,
) -> OpenHome:
    """Makes a Capsule's account, sealing key and database, by default a file in the directory, else the one at a URL.

    `cost` is that of stretching the passphrase, by default half a second, and none for keys that anyone can factor.
    Raises CapsuleHomeError where a Capsule is already. Killed at any instant it has made a whole Capsule, or can be run
    again.
    """
    if key_bits % 2 or (key_bits < MIN_KEY_BITS and not allow_insecure_small_key):
        raise CapsuleHomeError(
            f"keys of {key_bits} bits are not possible: give an even number of at least {MIN_KEY_BITS}, 3072 by default"
        )
    _check_free(_keystore(directory))
    guards_nothing = key_bits < MIN_KEY_BITS
    vault = Vault.create(passphrase, cost=cost or (LEAST if guards_nothing else MODERATE))
    _make(directory)
    state = State(database or directory / _DATABASE)
    try:
        _check_unused(state)
        sealing = SealingKeyPair.generate()
        attester: LocalAccount = Account.from_key(secrets.token_bytes(32))
        text = encrypt_keystore(attester, passphrase, insecure_fast=guards_nothing)
        audit = secrets.token_bytes(32)
        state.found(
            audit,
            vault=vault.header,
            sealing=vault.seal(sealing.secret_bytes(), Record.SEALING_KEY),
            attester=text.encode(),
            key_bits=str(key_bits).encode(),
            audit=vault.seal(audit, Record.AUDIT_KEY),
        )
        write_keystore(directory, text)
    except BaseException:
        state.close()
        raise
    return OpenHome(state, vault, attester, sealing, key_bits)


def open_home(directory: Path, passphrase: str, *, database: str | None = None, migrate: bool = True) -> OpenHome:
    """Unlocks a Capsule: that of a directory, or that of a database's URL with the directory for the rest.

    Raises CapsuleHomeError, and CapsuleSecretError for a wrong passphrase.
    """
    state = open_state(directory, database, migrate=migrate)
    try:
        return unlock(directory, state, passphrase)
    except BaseException:
        state.close()
        raise


def open_state(directory: Path, database: str | None = None, *, migrate: bool = True) -> State:
    """The database of a Capsule, with everything in it still sealed; raises CapsuleHomeError where there is none."""
    if database is None and not (directory / _DATABASE).exists():
        if _keystore(directory).exists():
            raise CapsuleHomeError(
                f"{directory} has a Capsule's account, but no database: set `database` in its capsule.toml, or "
                "SONAR_CAPSULE_DATABASE, or give --database"
            )
        raise _no_home(directory)
    return State(database or directory / _DATABASE, migrate=migrate, create=False)


@contextmanager
def new_home(directory: Path, database: str | None = None) -> Iterator[Path | str]:
    """Where a database is to be made that does not exist yet; a directory made for it goes again if that fails.

    Raises CapsuleHomeError where a Capsule is already.
    """
    if database is not None:
        yield database
        return
    _check_free(_keystore(directory), directory / _DATABASE)
    is_new = not directory.exists()
    _make(directory)
    try:
        yield directory / _DATABASE
    except BaseException:
        if is_new:
            with suppress(OSError):  # it is not empty: somebody else uses it by now
                directory.rmdir()
        raise


def unlock(directory: Path, state: State, passphrase: str) -> OpenHome:
    """The Capsule of an open database; writes the directory's copy of its keystore anew where it differs."""
    values = {name: state.setting(name) for name in ("vault", "sealing", "attester", "key_bits", "audit")}
    header, sealed, keystore, key_bits, audit = values.values()
    if header is None or sealed is None or keystore is None or key_bits is None or audit is None:
        missing = ", ".join(name for name, value in values.items() if value is None)
        raise CapsuleHomeError(
            f"{state.where} lacks {missing}: run `capsule init`, which perhaps was interrupted there; if an early "
            "version made it, with an empty database"
        )
    vault = Vault(passphrase, header)
    pair = SealingKeyPair(vault.open(sealed, Record.SEALING_KEY))
    state.audit.unlock(vault.open(audit, Record.AUDIT_KEY))
    state.pin_vault(header)
    text = keystore.decode("ascii", "replace")
    attester = decrypt_keystore(text, passphrase, "in the database")
    _make(directory)
    write_keystore(directory, text)
    return OpenHome(state, vault, attester, pair, int(key_bits))


def write_keystore(directory: Path, text: str) -> None:
    """Makes attester.json what the database says, in one step; raises CapsuleHomeError where it cannot."""
    file = _keystore(directory)
    part = file.with_name(f".{file.name}.{secrets.token_hex(8)}.part")
    try:
        if file.exists() and file.read_text() == text:
            return
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(file)
    except OSError as error:
        raise CapsuleHomeError(f"{file} cannot be written: {error.strerror}") from error


@contextmanager
def locked(directory: Path, *, shared: bool = False) -> Iterator[None]:
    """Holds the directory for this process alone, or `shared` with others that serve one PostgreSQL.

    Raises CapsuleHomeError where another process holds it otherwise.
    """
    if shared:
        _make(directory)
    elif not directory.is_dir():
        raise _no_home(directory)
    with (directory / "lock").open("w") as file:
        if os.name == "posix":
            import fcntl

            try:
                fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except OSError as error:
                raise CapsuleHomeError(f"another process serves {directory}: stop it first") from error
        yield


def _no_home(directory: Path) -> CapsuleHomeError:
    return CapsuleHomeError(
        f"{directory} is no Capsule's directory: run `capsule init` first, give --home, or name the database if a "
        "server has it (`database` in the directory's capsule.toml, or --database)"
    )


def _check_unused(state: State) -> None:
    if state.setting("vault") is not None:
        raise CapsuleHomeError(f"{state.where} is a Capsule's already: serve that one, or give another --database")


def _check_free(*files: Path) -> None:
    for file in files:
        if file.exists():
            raise CapsuleHomeError(f"{file} exists, so {file.parent} is a Capsule already: choose another --home")


def _make(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CapsuleHomeError(f"the directory {directory} cannot be made: {error.strerror}") from error


def _keystore(directory: Path) -> Path:
    return directory / "attester.json"
