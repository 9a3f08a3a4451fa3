"""Decoders of what comes from content stores: CIDs, request bodies, a Kubo node's answers."""

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from threading import Thread

from hostile.mutations import json_text
from hostile.target import Target
from sonar.storage._bodies import BadBodyError, BodyTooLargeError, body_pieces, form_file
from sonar.storage.base import Artifact
from sonar.storage.cids import check_cid, downgraded_cid, raw_cid, upgraded_cid
from sonar.storage.errors import InvalidCidError, StorageError
from sonar.storage.kubo import KuboStore
from sonar.units import Cid, digest_of

__all__ = ["targets"]

_CONTENT = b"some content of an artifact"
_UNIXFS = "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG"
_MOST = 1 << 16


def targets(stack: ExitStack) -> Iterator[Target]:
    """CIDs, bodies and answers; the node is closed with the stack."""
    raw = raw_cid(_CONTENT)
    yield Target("cid", _cid, (InvalidCidError,), (raw.encode(), upgraded_cid(_UNIXFS).encode()))
    yield Target("old-cid", lambda data: upgraded_cid(data.decode("latin-1")), (InvalidCidError,), (_UNIXFS.encode(),))
    yield Target("form", _form, (BadBodyError, BodyTooLargeError), (_body(chunked=False), _body(chunked=True)))
    node = stack.enter_context(_Node())
    store = stack.enter_context(KuboStore(node.url, timeout=20))
    artifact = Artifact(raw, digest_of(_CONTENT))

    def fetch(data: bytes) -> object:
        node.answer = data
        return store.get(artifact, max_bytes=_MOST)

    def add(data: bytes) -> object:
        node.answer = data
        return store.put(_CONTENT)

    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    plain = head + b"Content-Length: %d\r\n\r\n" % len(_CONTENT) + _CONTENT
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(_CONTENT), _CONTENT)
    refusal = json.dumps({"Message": "block was not found locally", "Code": 0, "Type": "error"}).encode()
    refused = head.replace(b"200 OK", b"500 no") + b"Content-Length: %d\r\n\r\n" % len(refusal) + refusal
    added = json.dumps({"Name": raw, "Hash": raw, "Size": "27"}).encode()
    stored = head + b"Content-Length: %d\r\n\r\n" % len(added) + added
    yield Target("kubo-cat", fetch, (StorageError,), (plain, chunked, refused), weight=0.05, samples=True)
    yield Target("kubo-add", add, (StorageError,), (stored, refused), (_json_body,), weight=0.05, samples=True)


def _json_body(random: Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    """The answer with its JSON changed and its length made to fit."""
    head, _, body = data.partition(b"\r\n\r\n")
    changed = json_text(random, body, seeds)
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(changed)]) + b"\r\n\r\n" + changed


def _cid(data: bytes) -> object:
    cid = check_cid(data.decode("latin-1"))
    older = downgraded_cid(Cid(cid))
    assert older is None or upgraded_cid(older) == cid
    return cid


def _body(*, chunked: bool) -> bytes:
    """A form as it comes over the wire, after a byte that says how it is framed."""
    form = (
        b'--mark\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n' + _CONTENT + b"\r\n--mark--\r\n"
    )
    if not chunked:
        return b"\x00" + form
    pieces = (form[start : start + 50] for start in range(0, len(form), 50))
    return b"\x01" + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def _form(data: bytes) -> object:
    headers = Message()
    if data[:1] == b"\x00":
        headers["Content-Length"] = str(len(data) - 1)
    else:
        headers["Transfer-Encoding"] = "chunked"
    pieces = body_pieces(io.BytesIO(data[1:]), headers, _MOST)  # type: ignore[arg-type]
    return b"".join(form_file(pieces, "multipart/form-data; boundary=mark"))


class _Node:
    """A listener that answers every request with the same bytes, whatever they are, and hangs up."""

    answer = b""

    def __enter__(self) -> "_Node":
        node = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self._read_body()
                self.wfile.write(node.answer)
                self.close_connection = True

            def _read_body(self) -> None:
                for _ in body_pieces(self.rfile, self.headers, _MOST):  # type: ignore[arg-type]
                    continue

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that hangs up first
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"
