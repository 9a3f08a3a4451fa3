"""How often one address or account may ask: moving windows in this process's memory, bounded whoever asks.

The windows are of the `limits` library. Its own memory store keeps every name that it ever saw and walks through all
of them in a thread a request, which strangers could make long; `Windows` forgets the names that asked least recently.
"""

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network

from limits import RateLimitItemPerMinute
from limits.storage import MovingWindowSupport, Storage
from limits.strategies import MovingWindowRateLimiter

from capsule.http.errors import LimitedError

__all__ = ["Limit", "Windows", "group_of"]

_IPV6_PREFIX = 64
"""One customer of a provider has at least so large a network for himself."""


def group_of(address: str | None) -> str:
    """Whose requests are counted together: an IPv4 address, an IPv6 network, or all that have no address."""
    try:
        found = ip_address((address or "").partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return str(ip_network((found, _IPV6_PREFIX), strict=False)) if isinstance(found, IPv6Address) else str(found)


class Limit:
    """At most `per_minute` requests of each name within any minute."""

    def __init__(self, what: str, per_minute: int, *, windows: "Windows | None" = None) -> None:
        self._what = what
        self._item = RateLimitItemPerMinute(per_minute)
        self._windows = Windows() if windows is None else windows
        self._limiter = MovingWindowRateLimiter(self._windows)

    def take(self, name: str) -> None:
        """Counts one request; raises LimitedError for one too many, which is not counted."""
        if self._limiter.hit(self._item, name):
            return
        reset = self._limiter.get_window_stats(self._item, name).reset_time
        wait = max(1, math.ceil(reset - self._windows.clock()))
        raise LimitedError(
            f"{self._what} {name} may ask {self._item.amount} times a minute: try again in {wait} s", wait
        )


class Windows(Storage, MovingWindowSupport):
    """The times of the last requests of at most `most` names."""

    STORAGE_SCHEME = None

    def __init__(self, most: int = 8192, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.clock = clock
        self._most = most
        self._lock = threading.Lock()
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def __len__(self) -> int:
        """How many names are remembered."""
        return len(self._times)

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Whether `amount` more fit into the window of `expiry` seconds; then they are counted."""
        now = self.clock()
        with self._lock:
            times = self._times.setdefault(key, deque())
            self._times.move_to_end(key)
            while times and times[0] <= now - expiry:
                times.popleft()
            if len(self._times) > self._most:
                self._times.popitem(last=False)
            if len(times) + amount > limit:
                return False
            times.extend([now] * amount)
            return True

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:  # noqa: ARG002
        """When the window's first request was (now for none), and how many are in it."""
        now = self.clock()
        with self._lock:
            times = [when for when in self._times.get(key, ()) if when > now - expiry]
        return (times[0], len(times)) if times else (now, 0)

    @property
    def base_exceptions(self) -> type[Exception]:
        """What this store raises: nothing of its own."""
        return ValueError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Not a store of counters."""
        raise NotImplementedError

    def get(self, key: str) -> int:
        """Not a store of counters."""
        raise NotImplementedError

    def get_expiry(self, key: str) -> float:
        """Not a store of counters."""
        raise NotImplementedError

    def check(self) -> bool:
        """Memory is always there."""
        return True

    def reset(self) -> int | None:
        """Forgets everybody; how many that were."""
        with self._lock:
            known = len(self._times)
            self._times.clear()
        return known

    def clear(self, key: str) -> None:
        """Forgets one name."""
        with self._lock:
            self._times.pop(key, None)
