"""HTTP connections that wait for nobody: a request arrives whole within a deadline, and silent ones make room.

uvicorn itself waits without end for the first byte, the rest of a head and the rest of a body.
"""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["ImpatientProtocol"]


class ImpatientProtocol(H11Protocol):
    """A connection that is cut off unless each of its requests is complete `request_seconds` after its first byte.

    Of the connections that ask nothing, because they have not sent a whole request or are kept alive for the next, at
    most `most_waiting` are kept: the one that is silent for longest goes first. So they leave room below uvicorn's
    `limit_concurrency` for who asks.
    """

    request_seconds = 10.0
    most_waiting = 64
    _deadline: asyncio.TimerHandle | None = None
    _idle = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts to wait for a request."""
        super().connection_made(transport)
        self._wait()
        waiting = [each for each in self.connections if isinstance(each, ImpatientProtocol) and each._deadline]
        if len(waiting) > self.most_waiting:
            min(waiting, key=lambda each: each._deadline.when() if each._deadline else 0.0)._cut_off()

    def data_received(self, data: bytes) -> None:
        """Waits on, unless the request is complete."""
        if self._deadline is None or self._idle:
            self._wait()
        super().data_received(data)
        if self.conn.their_state not in {h11.IDLE, h11.SEND_BODY}:
            self._wait_no_more()

    def on_response_complete(self) -> None:
        """Waits for the next request; uvicorn's keep-alive ends that sooner."""
        super().on_response_complete()
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self._wait()
            self._idle = True

    def connection_lost(self, exc: Exception | None) -> None:
        """Waits no more."""
        self._wait_no_more()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._wait_no_more()
        self._deadline = self.loop.call_later(self.request_seconds, self._cut_off)

    def _wait_no_more(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._idle = False

    def _cut_off(self) -> None:
        self._wait_no_more()
        self.transport.abort()
