"""Makes Paillier keys in a process of their own, at low priority, so that the Capsule keeps answering.

`python -m capsule.keyprocess BITS` makes a key for each line on stdin, and writes its secret in hex as a line to
stdout; both are pipes to the Capsule. It ends with stdin, so also when the Capsule is killed. It imports little: most
of what the first key takes was imports. It gets as little of the environment as judge processes do.
"""

import os
import signal
import subprocess
import sys
import threading
import time

from capsule.errors import CapsuleError
from capsule.secret import SecretKey, generate_key, harden
from sonar.sandbox.environment import inherited_environment

__all__ = ["KeyProcess"]

_REST_SECONDS = 10.0
_KEY_SECONDS, _USUAL_BITS = 300.0, 3072
"""How long a key of the usual size, which is made in seconds, may take: a process that takes longer hangs. Primes take
about the fourth power of their length."""


class KeyProcess:
    """A process that makes keys for as long as they are wanted, started when one is."""

    def __init__(self, bits: int, *, allow_insecure_small_key: bool = False, seconds: float | None = None) -> None:
        self._bits, self._allow = bits, allow_insecure_small_key
        self._seconds = _KEY_SECONDS * max(1.0, bits / _USUAL_BITS) ** 4 if seconds is None else seconds
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._cancelled = False
        self._child: subprocess.Popen[bytes] | None = None

    def make(self) -> SecretKey:
        """A fresh key; raises CapsuleError where the process fails, takes too long or was cancelled."""
        with self._turn:
            child = self._started()
            assert child.stdin is not None
            assert child.stdout is not None
            late = threading.Timer(self._seconds, child.kill)
            late.daemon, begun = True, time.monotonic()
            late.start()
            try:
                child.stdin.write(b"\n")
                child.stdin.flush()
                line = child.stdout.readline()
            except BrokenPipeError:  # it ended before; why is told below
                line = b""
            finally:
                late.cancel()
            if not line.endswith(b"\n"):
                hung = time.monotonic() - begun >= self._seconds
                raise self._failure(child, f"it made no key in {self._seconds:g} s" if hung else "no reason given")
        return SecretKey.from_bytes(bytes.fromhex(line.decode()), allow_insecure_small_key=self._allow)

    def rest(self) -> None:
        """Ends the process until the next key is wanted: no secret stays in its memory."""
        with self._turn:
            child, self._child = self._child, None
            if child is not None:
                _end(child)

    def cancel(self) -> None:
        """Ends the process, whatever it is at, and starts no more."""
        with self._lock:
            self._cancelled = True
            if self._child is not None and self._child.poll() is None:
                self._child.kill()

    def _started(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-m", "capsule.keyprocess", str(self._bits)]
        if self._allow:
            command.append("--allow-insecure-small-key")
        with self._lock:
            if self._cancelled:
                raise CapsuleError("no more keys are made: the Capsule is stopping")
            if self._child is None:
                pipe = subprocess.PIPE
                self._child = subprocess.Popen(  # noqa: S603  (our own program)
                    command, stdin=pipe, stdout=pipe, stderr=pipe, env=inherited_environment()
                )
            return self._child

    def _failure(self, child: subprocess.Popen[bytes], why: str) -> CapsuleError:
        self._child = None
        words = _end(child)
        last = words.decode(errors="replace").strip().rpartition("\n")[2] or why
        return CapsuleError(f"the key process ended with {child.returncode}: {last}")


def _end(child: subprocess.Popen[bytes]) -> bytes:
    """Waits for the process, whose stdin is closed by this, and gives what it wrote to stderr."""
    try:
        return child.communicate(timeout=_REST_SECONDS)[1]
    except subprocess.TimeoutExpired:
        child.kill()
        return child.communicate()[1]


def _main(arguments: list[str]) -> None:
    harden()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # for the parent, which ends this process when it may
    if hasattr(os, "nice"):
        os.nice(10)
    bits, allow = int(arguments[0]), "--allow-insecure-small-key" in arguments
    for _ in sys.stdin:
        sys.stdout.write(generate_key(bits, allow_insecure_small_key=allow).to_bytes().hex() + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main(sys.argv[1:])
