"""The connections to a node: its answers are bounded in size and in time, headers and all.

The timeout of requests is one of each read from the socket: a node that sends a byte now and then would be waited for
without end, and one that sends bytes without end, or packs them, would fill the memory.
"""

import socket
import time
from http.client import HTTPResponse
from io import BufferedReader, RawIOBase
from typing import Any, cast

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ReadTimeoutError

__all__ = ["LONGEST_ANSWER", "AnswerTooLargeError", "BoundedAdapter"]

LONGEST_ANSWER = 64 << 20
"""Bytes, unpacked; to read them takes several times as much memory. What one block has room for is within it; whoever
asks for the logs of many blocks must be ready to ask for those of fewer."""
_PIECE = 1 << 16


class AnswerTooLargeError(requests.RequestException):
    """An answer is larger than is taken."""


class _Timed(RawIOBase):
    """What a socket gives, until its timeout has passed since the answer is waited for, however often it is read."""

    def __init__(self, raw: RawIOBase, connection: socket.socket) -> None:
        self._raw, self._connection = raw, connection
        timeout = connection.gettimeout()
        self._deadline = None if timeout is None else time.monotonic() + timeout

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._deadline is not None:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("the answer took too long as a whole")
            self._connection.settimeout(left)
        return cast(int | None, self._raw.readinto(buffer))

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedAnswer(HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = BufferedReader(_Timed(self.fp.detach(), sock))


class _Connection(HTTPConnection):
    response_class = _TimedAnswer


class _SecureConnection(HTTPSConnection):
    response_class = _TimedAnswer


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class BoundedAdapter(HTTPAdapter):
    """Gives whole answers of at most `LONGEST_ANSWER` bytes, each within the timeout of its request.

    Raises requests.Timeout for one that takes longer and AnswerTooLargeError for a larger one, also
    requests.HTTPError for one that points elsewhere: a node could else have this process ask any address that it likes,
    each with a timeout of its own.
    """

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
        return manager

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,  # noqa: ARG002  (the signature is that of requests)
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: dict[str, str] | None = None,
    ) -> requests.Response:
        """The answer, read already."""
        response = super().send(request, stream=True, timeout=timeout, verify=verify, cert=cert, proxies=proxies)
        try:
            response._content = _read(response)
        except requests.ConnectionError as error:
            response.close()
            if error.args and isinstance(error.args[0], ReadTimeoutError):
                raise requests.ReadTimeout(*error.args, request=request) from error
            raise
        except BaseException:
            response.close()
            raise
        if response.is_redirect:
            raise requests.HTTPError("an answer that points elsewhere", request=request, response=response)
        return response


def _read(response: requests.Response) -> bytes:
    pieces, length = [], 0
    for piece in response.iter_content(_PIECE):
        length += len(piece)
        if length > LONGEST_ANSWER:
            raise AnswerTooLargeError(f"an answer of more than {LONGEST_ANSWER} bytes")
        pieces.append(piece)
    return b"".join(pieces)
