"""The Capsule's directory: its attesting account, its sealing key and its database, made once and never overwritten.

attester.json   Ethereum keystore of the account that signs admissions and settlements
capsule.db      SQLite: sealing key and Paillier keys (sealed), admissions, rounds
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from eth_account.signers.local import LocalAccount

from capsule.errors import CapsuleHomeError
from capsule.secret import Vault
from capsule.state import State
from sonar.protocol.sealing import SealingKeyPair
from sonar.syft import MIN_KEY_BITS
from sonar.units import Address
from sonar.wallet import create_keystore, load_account

__all__ = ["OpenHome", "create_home", "default_home", "locked", "open_home"]


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


def create_home(directory: Path, passphrase: str, key_bits: int, *, allow_insecure_small_key: bool = False) -> OpenHome:
    """Makes a Capsule's account, sealing key and database; raises CapsuleHomeError where one is already."""
    if key_bits % 2 or (key_bits < MIN_KEY_BITS and not allow_insecure_small_key):
        raise CapsuleHomeError(
            f"keys of {key_bits} bits are not possible: give an even number of at least {MIN_KEY_BITS}, 3072 by default"
        )
    keystore, database = directory / "attester.json", directory / "capsule.db"
    for file in (keystore, database):
        if file.exists():
            raise CapsuleHomeError(f"{file} exists, so {directory} is a Capsule already: choose another --home")
    vault = Vault(passphrase)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CapsuleHomeError(f"the directory {directory} cannot be made: {error.strerror}") from error
    state = State(database)
    sealing = SealingKeyPair.generate()
    state.set(sealing=vault.seal(sealing.secret_bytes()), key_bits=str(key_bits).encode())
    return OpenHome(state, vault, create_keystore(keystore, passphrase), sealing, key_bits)


def open_home(directory: Path, passphrase: str) -> OpenHome:
    """Unlocks a Capsule's directory; raises CapsuleHomeError, and CapsuleSecretError for a wrong passphrase."""
    keystore, database = directory / "attester.json", directory / "capsule.db"
    if not keystore.exists() or not database.exists():
        raise CapsuleHomeError(f"{directory} is no Capsule's directory: run `capsule init` first, or give --home")
    vault, state = Vault(passphrase), State(database)
    sealing, key_bits = state.setting("sealing"), state.setting("key_bits")
    if sealing is None or key_bits is None:
        raise CapsuleHomeError(f"{database} has no sealing key: move {directory} away and run `capsule init` again")
    pair = SealingKeyPair(vault.open(sealing))
    return OpenHome(state, vault, load_account(keystore, passphrase), pair, int(key_bits))


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Holds the directory for this process alone; raises CapsuleHomeError where another one serves it."""
    if not directory.is_dir():
        raise CapsuleHomeError(f"{directory} is no Capsule's directory: run `capsule init` first, or give --home")
    with (directory / "lock").open("w") as file:
        if os.name == "posix":
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise CapsuleHomeError(f"another process serves {directory}: stop it first") from error
        yield
