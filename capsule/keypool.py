"""Paillier keys, made ahead of need in a process of their own, so that nobody waits for primes.

`python -m capsule.keypool BITS` makes one key and writes its secret in hex to stdout, which is a pipe to the Capsule.
"""

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from capsule.errors import CapsuleError, CapsuleUnavailableError
from capsule.secret import CapsuleSecretError, Record, SecretKey, Vault, generate_key, harden
from capsule.state import State, StoredKey
from sonar.units import Address, CampaignId, KeyId

__all__ = ["KeyPool", "KeyProcess"]

_log = logging.getLogger("capsule.keys")
_RETRY_SECONDS = 5.0
_LOOK_SECONDS = 1.0
"""How often the pool looks whether another process took or made a key."""


class KeyPool:
    """The Capsule's Paillier keys: spare ones kept ready, used ones found by their fingerprint.

    `make` makes a key, `cancel` ends that early. `start` has a thread make keys until `size` spare ones are stored;
    without it they are made when they are asked for. `allow_insecure_small_key` is for tests.
    """

    def __init__(
        self,
        state: State,
        vault: Vault,
        make: Callable[[], SecretKey],
        *,
        cancel: Callable[[], None] = lambda: None,
        size: int = 4,
        allow_insecure_small_key: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._state, self._vault, self._make = state, vault, make
        self._cancel, self._size, self._clock = cancel, size, clock
        self._allow = allow_insecure_small_key
        self._changed = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None

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
                row = self._state.claim_key(use, owner, self._clock(), campaign=campaign, at_most=at_most)
                self._changed.notify_all()
                if row is not None:
                    return self._open(row)
                left = deadline - time.monotonic()
                if self._thread is None:
                    self._add(self._make())
                elif self._stopping or left <= 0:
                    raise CapsuleUnavailableError("no fresh key is ready: try again in a minute")
                else:
                    # Another process on the same database may have made one, of which nobody here is told.
                    self._changed.wait(min(left, _LOOK_SECONDS))

    def secret(self, key_id: KeyId) -> SecretKey:
        """The secret key with this fingerprint; raises CapsuleError if it is not this Capsule's, or deleted."""
        row = self._state.key(key_id)
        if row is None:
            raise CapsuleError(f"key {key_id.hex()} is not in this Capsule's database: restore its backup")
        if not row.secret:
            raise CapsuleError(f"the secret of key {key_id.hex()} was deleted: its campaign is long over")
        return self._open(row)

    def _open(self, row: StoredKey) -> SecretKey:
        secret = self._vault.open(row.secret, Record.PAILLIER_KEY, row.id)
        return SecretKey.from_bytes(secret, allow_insecure_small_key=self._allow)

    def _add(self, key: SecretKey) -> None:
        public = key.public
        sealed = self._vault.seal(key.to_bytes(), Record.PAILLIER_KEY, public.key_id)
        self._state.add_key(public.key_id, public.modulus_bytes, sealed, self._clock())

    def _fill(self) -> None:
        while not self._stopping:
            try:
                spare = self._state.spare_keys()
                if spare >= self._size:
                    self._wait(_LOOK_SECONDS)
                    continue
                began = time.monotonic()
                self._add(self._make())
            except (CapsuleError, CapsuleSecretError) as error:
                if self._stopping:
                    return
                _log.error("no key could be made: %s", error)
                self._wait(_RETRY_SECONDS)
                continue
            _log.info("made a key in %.1f s: %d of %d are ready", time.monotonic() - began, spare + 1, self._size)
            with self._changed:
                self._changed.notify_all()

    def _wait(self, seconds: float) -> None:
        """Until something changed here, or for some seconds."""
        with self._changed:
            if not self._stopping:
                self._changed.wait(seconds)


class KeyProcess:
    """Makes keys, each in another process at low priority, so that this one keeps answering."""

    def __init__(self, bits: int, *, allow_insecure_small_key: bool = False) -> None:
        self._bits, self._allow = bits, allow_insecure_small_key
        self._lock = threading.Lock()
        self._cancelled = False
        self._child: subprocess.Popen[bytes] | None = None

    def make(self) -> SecretKey:
        """A fresh key; raises CapsuleError where the process fails or was cancelled."""
        command = [sys.executable, "-m", "capsule.keypool", str(self._bits)]
        if self._allow:
            command.append("--allow-insecure-small-key")
        with self._lock:
            if self._cancelled:
                raise CapsuleError("no more keys are made: the Capsule is stopping")
            pipe = subprocess.PIPE
            self._child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe)  # noqa: S603
        secret, words = self._child.communicate()
        if self._child.returncode != 0:
            last = words.decode(errors="replace").strip().rpartition("\n")[2] or "no reason given"
            raise CapsuleError(f"the key process ended with {self._child.returncode}: {last}")
        return SecretKey.from_bytes(bytes.fromhex(secret.decode()), allow_insecure_small_key=self._allow)

    def cancel(self) -> None:
        """Ends the process that makes a key now, and makes no more."""
        with self._lock:
            self._cancelled = True
            if self._child is not None and self._child.poll() is None:
                self._child.terminate()


def _main(arguments: list[str]) -> None:
    harden()
    if hasattr(os, "nice"):
        os.nice(10)
    key = generate_key(int(arguments[0]), allow_insecure_small_key="--allow-insecure-small-key" in arguments)
    sys.stdout.write(key.to_bytes().hex())


if __name__ == "__main__":
    _main(sys.argv[1:])
