"""HTTP connections that wait for nobody: requests arrive, and answers are read, within a deadline; others make room.

uvicorn itself waits without end for the first byte, the rest of a head and the rest of a body, and for a client that
asked to read what it is answered.
"""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["ImpatientProtocol"]


class ImpatientProtocol(H11Protocol):
    """A connection that is cut off unless each of its requests is complete `request_seconds` after its first byte.

    It is also cut off where the client has not taken all that was written for it `response_seconds` after the system's
    own buffers were full. Of the connections that wait for their client, because it has not sent a whole request, does
    not read, or is kept alive for the next, at most `most_waiting` are kept: the one that waits for longest goes first.
    So they leave room below uvicorn's `limit_concurrency` for who asks.
    """

    request_seconds = 10.0
    response_seconds = 30.0
    most_waiting = 64
    _deadline: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _waiting_since = 0.0
    _idle = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts to wait for a request."""
        super().connection_made(transport)
        # Whatever the system does not take at once is told to `pause_writing`, and only its end to `resume_writing`.
        transport.set_write_buffer_limits(high=0)
        self._wait()
        self._make_room()

    def pause_writing(self) -> None:
        """Waits for the client to read."""
        super().pause_writing()
        if self._unread is None:
            self._unread = self._timer(self.response_seconds)
            self._make_room()

    def resume_writing(self) -> None:
        """Everything that was written is on its way; what was answered may be followed by the next request."""
        super().resume_writing()
        self._wait_for_reader_no_more()
        self._wait_for_next()

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
        self._wait_for_next()

    def connection_lost(self, exc: Exception | None) -> None:
        """Waits no more."""
        self._wait_no_more()
        self._wait_for_reader_no_more()
        super().connection_lost(exc)

    def _make_room(self) -> None:
        """Cuts off who keeps us waiting for longest, if too many do."""
        waiting = [each for each in self.connections if isinstance(each, ImpatientProtocol) and each._is_waiting]
        if len(waiting) > self.most_waiting:
            min(waiting, key=lambda each: each._waiting_since)._cut_off()

    @property
    def _is_waiting(self) -> bool:
        return self._deadline is not None or self._unread is not None

    def _wait_for_next(self) -> None:
        if not self._is_waiting and self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self._wait()
            self._idle = True

    def _timer(self, seconds: float) -> asyncio.TimerHandle:
        if not self._is_waiting:
            self._waiting_since = self.loop.time()
        return self.loop.call_later(seconds, self._cut_off)

    def _wait(self) -> None:
        self._wait_no_more()
        self._deadline = self._timer(self.request_seconds)

    def _wait_no_more(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._idle = False

    def _wait_for_reader_no_more(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _cut_off(self) -> None:
        self._wait_no_more()
        self._wait_for_reader_no_more()
        self.transport.abort()
