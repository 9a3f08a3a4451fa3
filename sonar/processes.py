"""Child processes that are ended by their own handle: started with a log, awaited until ready, stopped in order."""

import json
import os
import random
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sonar.errors import SonarError

__all__ = ["Child", "ProcessError", "free_port", "require_free_port", "wait_until"]

_STOP_SECONDS = 10.0
_PORTS = range(20_000, 32_000)
"""Ports below those that Linux (from 32768), macOS and Windows (both from 49152) choose themselves."""


class ProcessError(SonarError):
    """A child process did not start, did not become ready, or ended by itself."""


class Child:
    """One child process in a session of its own, so that a terminal's Ctrl-C reaches only its parent.

    Its stderr goes to `log`, its stdout too unless `speaks`: then the parent reads it line by line. The parent ends it
    with `stop`, nobody else does.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        speaks: bool = False,
    ) -> None:
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the callers pass fixed commands, no shell
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if speaks else descriptor,
                stderr=descriptor,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        except OSError as error:
            raise ProcessError(f"{name} cannot be started with {command[0]!r}: {error.strerror}") from error
        finally:
            os.close(descriptor)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._process.poll()

    def read_line(self, timeout: float) -> str:
        """The next line of its stdout; raises ProcessError when it ends or stays silent for `timeout` seconds."""
        assert self._process.stdout is not None
        line = bytearray()
        deadline = time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise ProcessError(f"{self.name} said nothing within {timeout:g} s; its log is {self.log}")
                byte = os.read(self._process.stdout.fileno(), 1)
                if not byte:
                    raise ProcessError(f"{self.name} ended before it was ready: {self.last_words()}")
                line += byte
        return line.decode(errors="replace").strip()

    def read_json(self, timeout: float) -> dict[str, Any]:
        """The JSON object in the next line of its stdout."""
        line = self.read_line(timeout)
        try:
            value = json.loads(line)
        except ValueError as error:
            raise ProcessError(f"{self.name} said {line[:200]!r} where a JSON line was expected") from error
        if not isinstance(value, dict):
            raise ProcessError(f"{self.name} said {line[:200]!r} where a JSON object was expected")
        return value

    def wait(self, timeout: float) -> int:
        """Its exit code; raises ProcessError when it does not end within `timeout` seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise ProcessError(f"{self.name} did not end within {timeout:g} s; its log is {self.log}") from error

    def kill(self) -> None:
        """Ends it at once, as a power cut would."""
        self._process.kill()
        self._process.wait()

    def stop(self, timeout: float = _STOP_SECONDS) -> int:
        """Asks it to end, insists after `timeout` seconds; returns its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self._process.kill()
        code = self._process.wait()
        if self._process.stdout is not None and not self._process.stdout.closed:
            self._process.stdout.close()
        return code

    def last_words(self, lines: int = 5) -> str:
        """The end of its log, for an error message."""
        text = self.log.read_text(errors="replace").strip().splitlines()[-lines:]
        return " | ".join(text) if text else f"exit code {self._process.poll()}, and its log {self.log} is empty"


def free_port() -> int:
    """A loopback TCP port that nobody listens on, of those that systems give to nobody who asks for any port.

    So nobody else is given it before it is listened on.
    """
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise ProcessError(f"no port from {_PORTS[0]} to {_PORTS[-1]} is free: end what listens on them")


def require_free_port(port: int, what: str) -> None:
    """Raises ProcessError if somebody listens on the loopback port already; 0 stands for any free one.

    A service that finds its port taken ends, but whoever waits for its first answer would get the stranger's.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ProcessError(f"port {port} is not free for {what} ({error.strerror}): choose another one") from error


def wait_until(condition: Callable[[], bool], *, timeout: float, what: str, child: Child | None = None) -> None:
    """Returns once `condition()` holds; raises ProcessError after `timeout` seconds or when `child` ends."""
    deadline = time.monotonic() + timeout
    while not condition():
        if child is not None and child.poll() is not None:
            raise ProcessError(f"{child.name} ended before {what}: {child.last_words()}")
        if time.monotonic() > deadline:
            raise ProcessError(f"{what} did not happen within {timeout:g} s")
        time.sleep(0.05)
