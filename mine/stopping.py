"""Ending the daemon on SIGTERM or SIGINT: at once while it is idle, after the present step if that is short.

A step that does not end within the grace is broken off as by a power cut, which the ledger is made for. Exceptions are
raised only into a sleep, never into a step: there they could land between a lock and its release.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

__all__ = ["Stop"]

GRACE_SECONDS = 5.0


class _Woken(BaseException):
    """Ends a sleep."""


class Stop:
    """Whether the process was asked to end."""

    def __init__(self) -> None:
        self.requested = False
        self._idle = False

    def sleep(self, seconds: float) -> None:
        """Sleeps, but not once a stop is asked for."""
        with suppress(_Woken):
            try:
                self._idle = True
                if not self.requested:
                    time.sleep(seconds)
            finally:
                self._idle = False

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Within it SIGTERM and SIGINT ask for a stop."""
        handlers = {signal.SIGTERM: self._ask, signal.SIGINT: self._ask, signal.SIGALRM: _break_off}
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True
        if self._idle:
            self._idle = False
            raise _Woken
        signal.setitimer(signal.ITIMER_REAL, GRACE_SECONDS)


def _break_off(_number: int, _frame: FrameType | None) -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(RuntimeError, OSError, ValueError):  # the signal may have come during a write
            stream.flush()
    os._exit(0)
