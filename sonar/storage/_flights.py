"""Calls that may never come back, such as fetching what no node has: shared, counted, and waited for with a deadline.

A call cannot be cancelled alone. Waiters leave it behind, a later waiter for the same thing finds it again, and when
too many are left behind, the caller interrupts all of them at once.
"""

import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Flights", "FlightsFullError", "InterruptedFlightError"]

_INTERRUPTED_SECONDS = 1.0


class FlightsFullError(Exception):
    """As many calls as allowed are under way, and somebody waits for each."""


class InterruptedFlightError(Exception):
    """The call was ended before it was done, by no fault of its own."""


class _Flight:
    """One call in its own thread, and how many wait for it."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.done = threading.Event()
        self.waiters = 0
        self.result: Any = None
        self.error: Exception | None = None
        self._call = call

    def fly(self) -> None:
        try:
            self.result = self._call()
        except Exception as error:  # noqa: BLE001 - raised again in every thread that waits
            self.error = error


class Flights:
    """The calls under way, by key; at most `most` of them.

    `release` gets a result when the last of its waiters has left. `interrupt` must make every call under way come back.
    """

    def __init__(self, most: int, *, release: Callable[[Any], None], interrupt: Callable[[], None]) -> None:
        self._most = most
        self._release = release
        self._interrupt = interrupt
        self._lock = threading.Lock()
        self._clearing = threading.Lock()
        self._flights: dict[Hashable, _Flight] = {}

    @contextmanager
    def join(self, key: Hashable, call: Callable[[], Any], timeout: float) -> Iterator[Any]:
        """The result of `call`, or of the same call under way; raises TimeoutError, or what the call raised."""
        deadline = time.monotonic() + timeout
        flight = self._board(key, call)
        try:
            if not flight.done.wait(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            if flight.error is not None:
                raise flight.error
            yield flight.result
        finally:
            with self._lock:
                flight.waiters -= 1
                last = flight.waiters == 0 and flight.done.is_set()
            if last:
                self._release(flight.result)

    def _board(self, key: Hashable, call: Callable[[], Any]) -> _Flight:
        for _ in range(2):
            with self._lock:
                flight = self._flights.get(key)
                if flight is not None:
                    flight.waiters += 1
                    return flight
                if len(self._flights) < self._most:
                    return self._take_off(key, call)
            self._make_room()
        raise FlightsFullError

    def _make_room(self) -> None:
        with self._clearing:  # one interruption serves all who find no room
            with self._lock:
                full = len(self._flights) >= self._most
                abandoned = [each for each in self._flights.values() if each.waiters == 0]
            if full and abandoned:
                self._interrupt()
                for each in abandoned:
                    each.done.wait(_INTERRUPTED_SECONDS)

    def _take_off(self, key: Hashable, call: Callable[[], Any]) -> _Flight:
        flight = self._flights[key] = _Flight(call)
        flight.waiters = 1

        def fly() -> None:
            flight.fly()
            with self._lock:
                del self._flights[key]
                flight.done.set()
                unclaimed = flight.waiters == 0
            if unclaimed:
                self._release(flight.result)

        threading.Thread(target=fly, name="ipfs-call", daemon=True).start()
        return flight
