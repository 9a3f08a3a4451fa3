"""The mine's home directory: its account, ledger, policy, and the locks that keep two processes apart."""

import fcntl
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mine.errors import LedgerError
from mine.ledger import Ledger
from mine.policy import Policy
from mine.wallet import Wallet
from sonar.config import home as sonar_home
from sonar.errors import ConfigError
from sonar.units import Address

if TYPE_CHECKING:
    from sonar.chain.signing import Signer

__all__ = ["Home"]

_TRIES, _TRY_SECONDS = 5, 0.05


class Home:
    """Where one mine keeps its files: `--home`, SONAR_MINE_HOME, or `mine` in Sonar's home."""

    def __init__(self, path: Path | str | None = None) -> None:
        self.path = Path(path or os.environ.get("SONAR_MINE_HOME") or sonar_home() / "mine").expanduser()

    @property
    def account_file(self) -> Path:
        """The keystore, or raw key file, of the account that is paid."""
        return self.path / "account.key"

    @property
    def policy_file(self) -> Path:
        """The owner's settings."""
        return self.path / "policy.toml"

    @property
    def vitals_file(self) -> Path:
        """How the daemon stands, as it left it."""
        return self.path / "vitals.json"

    def create(self) -> None:
        """Makes the directory, for this user only; raises ConfigError, too, for one that is open to others."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_user()
            if stat.S_IMODE(self.path.stat().st_mode) & 0o077:
                if any(self.path.iterdir()):  # not ours to close: it may be a folder of something else
                    raise ConfigError(
                        f"the mine's home {self.path} is open to others, and so would be what it holds of the data: "
                        f"close it with `chmod 700 {self.path}`, or name another one with --home"
                    )
                self.path.chmod(0o700)
        except OSError as error:
            raise ConfigError(f"the mine's home {self.path} cannot be made: {error.strerror}") from error

    def adopt(self, key_file: Path) -> None:
        """Copies an existing account's file into the home; raises ConfigError if there is an account already."""
        try:
            secret = key_file.expanduser().read_bytes()
        except OSError as error:
            raise ConfigError(f"the key file {key_file} cannot be read: {error.strerror}") from error
        self.create()
        try:
            descriptor = os.open(self.account_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            raise ConfigError(f"{self.account_file} exists already and is never overwritten: move it away") from error
        with os.fdopen(descriptor, "wb") as file:
            file.write(secret)

    def write_policy(self) -> None:
        """Writes the default policy with its explanations, unless there is one."""
        if not self.policy_file.exists():
            descriptor = os.open(self.policy_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(Policy.template())

    @property
    def wallet(self) -> Wallet:
        """The account that posts gradients and is paid."""
        return Wallet(self.path)

    def account(self, chain_id: int) -> "Signer":
        """What signs for the account on a chain; raises ConfigError."""
        self.require()
        return self.wallet.open(chain_id)

    def address(self) -> Address:
        """The account's address, which takes no passphrase; raises ConfigError."""
        self.require()
        return self.wallet.address()

    def require(self) -> None:
        """Raises ConfigError unless `mine init` has been here."""
        try:
            self._check_user()
            found = self.wallet.exists
        except OSError as error:
            raise ConfigError(f"the mine's home {self.path} cannot be looked at: {error.strerror}") from error
        if not found:
            raise ConfigError(f"there is no mine at {self.path}: run `mine init`, or name its home with --home")

    def _check_user(self) -> None:
        """Raises ConfigError for a home that this user may not write, as a volume that root made in a container."""
        if not self.path.exists() or os.access(self.path, os.R_OK | os.W_OK | os.X_OK):
            return
        user, owner = os.geteuid(), self.path.stat().st_uid
        if user == owner:
            raise ConfigError(f"the mine's home {self.path} cannot be written: is it mounted for reading only?")
        raise ConfigError(
            f"the mine's home {self.path} is user {owner}'s, and this is user {user}, who may not write it: give it "
            f"over with `chown -R {user} {self.path}`, or run the mine as its user"
        )

    def ledger(self) -> Ledger:
        """The ledger, made if it is missing; the caller closes it."""
        self.require()
        return Ledger(self.path / "mine.db")

    def policy(self, datasets: Sequence[str] = ()) -> Policy:
        """The owner's settings as they are now, for the `datasets` that there are; raises as `Policy.load`."""
        return Policy.load(self.policy_file, datasets)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Held by the one process that trains and posts; raises LedgerError if another one does."""
        with self._locked("running.lock", fcntl.LOCK_EX | fcntl.LOCK_NB):
            yield

    def is_running(self) -> bool:
        """Whether a process trains and posts with this home now."""
        try:
            with self.running():
                return False
        except LedgerError:
            return True

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Held from choosing a nonce to sending, so that two processes never sign the same one."""
        with self._locked("sending.lock", fcntl.LOCK_EX):
            yield

    @contextmanager
    def _locked(self, name: str, how: int) -> Iterator[None]:
        descriptor = os.open(self.path / name, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            for left in reversed(range(_TRIES)):
                try:
                    fcntl.flock(descriptor, how)  # the kernel lets go of it when the process ends, however it ends
                    break
                except BlockingIOError as error:
                    if not left:
                        raise LedgerError(f"another process is mining with {self.path}: stop it first") from error
                    time.sleep(_TRY_SECONDS)  # it may only have looked whether one is
            yield
        finally:
            os.close(descriptor)
