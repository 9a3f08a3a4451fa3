"""Paillier keys, made ahead of need, so that nobody waits for primes."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from capsule.errors import AuditLogError, CapsuleError, CapsuleUnavailableError
from capsule.secret import CapsuleSecretError, Record, SecretKey, Vault
from capsule.state import State, StoredKey
from sonar.units import Address, CampaignId, KeyId

__all__ = ["KeyPool", "key_subject"]

_log = logging.getLogger("capsule.keys")
_RETRY_SECONDS = 5.0
_LOOK_SECONDS = 1.0
"""How often the pool looks whether another process took or made a key."""


def key_subject(key: StoredKey) -> bytes:
    """What a key's sealed record is bound to: the key, how long the log was before it, and what it is taken for.

    Fingerprint (32 bytes), `born` (8, big-endian), use, a zero, and the account or campaign that it is taken for. What
    is deleted once it was taken, or was never sealed for its present use (a key lost in a restore), does not open.
    """
    taken_for = key.campaign if key.owner is None else key.owner.encode()
    return key.id + key.born.to_bytes(8, "big") + key.use.encode() + b"\0" + (taken_for or b"")


class KeyPool:
    """The Capsule's Paillier keys: spare ones kept ready, used ones found by their fingerprint.

    `make` makes a key, `cancel` ends that early, and `rest` is called when no more are wanted for now. `start` has a
    thread make keys until `size` spare ones are stored; without it they are made when they are asked for. Half of the
    spare ones are only for rounds. `allow_insecure_small_key` is for tests.
    """

    def __init__(
        self,
        state: State,
        vault: Vault,
        make: Callable[[], SecretKey],
        *,
        cancel: Callable[[], None] = lambda: None,
        rest: Callable[[], None] = lambda: None,
        size: int = 4,
        allow_insecure_small_key: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._state, self._vault, self._make = state, vault, make
        self._cancel, self._rest, self._size, self._clock = cancel, rest, size, clock
        self._allow = allow_insecure_small_key
        self._changed = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self.failing = False
        """Whether the last attempt to make a key ahead failed."""

    def start(self) -> None:
        """Starts filling the pool."""
        self._thread = threading.Thread(target=self._fill, name="keys", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stops filling; a key that is being made is given up."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._cancel()
        if self._thread is not None:
            self._thread.join()
        self._rest()

    def claim(
        self,
        use: str,
        owner: Address | None = None,
        *,
        campaign: CampaignId | None = None,
        at_most: tuple[int, float] | None = None,
        timeout: float = 60,
    ) -> SecretKey:
        """A fresh key for one use, by an account or for a campaign's next round.

        `at_most` is how many keys the account may get since a time. Raises CapsuleRefusedError for one more, and
        CapsuleUnavailableError if none gets ready in time.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                try:
                    row = self._state.claim_key(
                        use, owner, self._clock(), campaign=campaign, at_most=at_most, leaving=self._leaving(use),
                        reseal=self._reseal,
                    )  # fmt: skip
                except (AuditLogError, CapsuleSecretError) as error:
                    _log.error("a spare key is not what it was made: run capsule audit verify: %s", error)
                    raise CapsuleUnavailableError("the Capsule's keys were tampered with: tell its operator") from error
                self._changed.notify_all()
                if row is not None:
                    return self._open(row)
                left = deadline - time.monotonic()
                if self._thread is None:
                    self.add(self._make())
                elif self._stopping or left <= 0:
                    raise CapsuleUnavailableError("no fresh key is ready: try again in a minute")
                else:
                    # Another process on the same database may have made one, of which nobody here is told.
                    self._changed.wait(min(left, _LOOK_SECONDS))

    def use_up(self, key_id: KeyId, owner: Address) -> bool:
        """Uses an issued key up; False if it is not issued to this account, or was used before.

        Raises AuditLogError where what the log tells of it was changed, and CapsuleSecretError where its row was.
        """
        return self._state.use_up_key(key_id, owner, self._clock(), reseal=self._reseal)

    def secret(self, key_id: KeyId) -> SecretKey:
        """The secret key with this fingerprint; raises CapsuleError if it is not this Capsule's, or deleted."""
        row = self._state.key(key_id)
        if row is None:
            raise CapsuleError(f"key 0x{key_id.hex()} is not in this Capsule's database: restore its backup")
        if not row.secret:
            raise CapsuleError(f"the secret of key 0x{key_id.hex()} was deleted: its campaign is long over")
        return self._open(row)

    def _leaving(self, use: str) -> int:
        """How many spare keys this use must leave: half of them are for rounds, however many ask for keys."""
        return self._size // 2 if use == "issued" and self._thread is not None else 0

    def _open(self, row: StoredKey) -> SecretKey:
        # Its primes were proven before `add` sealed it, and only who has the passphrase can seal another one.
        secret = self._vault.open(row.secret, Record.PAILLIER_KEY, key_subject(row))
        return SecretKey.from_bytes(secret, already_proven=True, allow_insecure_small_key=self._allow)

    def _reseal(self, before: StoredKey, after: StoredKey) -> bytes:
        secret = self._vault.open(before.secret, Record.PAILLIER_KEY, key_subject(before))
        return self._vault.seal(secret, Record.PAILLIER_KEY, key_subject(after))

    def add(self, key: SecretKey) -> None:
        """Stores a key as a spare one."""
        public, born = key.public, self._state.audit_head().length
        made = StoredKey(public.key_id, public.modulus_bytes, b"", "spare", None, time=self._clock(), born=born)
        sealed = self._vault.seal(key.to_bytes(), Record.PAILLIER_KEY, key_subject(made))
        self._state.add_key(replace(made, secret=sealed))

    def _fill(self) -> None:
        while not self._stopping:
            try:
                spare = self._state.spare_keys()
                if spare >= self._size:
                    self._rest()
                    self._wait(_LOOK_SECONDS)
                    continue
                began = time.monotonic()
                self.add(self._make())
            except (CapsuleError, CapsuleSecretError, OSError) as error:
                if self._stopping:
                    return
                self.failing = True
                _log.error("no key could be made: %s", error)
                self._wait(_RETRY_SECONDS)
                continue
            except Exception:  # noqa: BLE001
                # Nobody else fills the pool: without keys nothing is admitted and no round advances.
                self.failing = True
                _log.exception("no key could be made")
                self._wait(_RETRY_SECONDS)
                continue
            self.failing = False
            _log.info("made a key in %.1f s: %d of %d are ready", time.monotonic() - began, spare + 1, self._size)
            with self._changed:
                self._changed.notify_all()

    def _wait(self, seconds: float) -> None:
        """Until something changed here, or for some seconds."""
        with self._changed:
            if not self._stopping:
                self._changed.wait(seconds)
