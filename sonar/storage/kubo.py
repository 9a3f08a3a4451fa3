"""A content store on an IPFS node: Kubo, asked over its RPC."""

import ipaddress
import re
import time
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

import ipfshttpclient
from ipfshttpclient import exceptions as ipfs_errors
from urllib3.exceptions import HTTPError
from urllib3.response import HTTPResponse

from sonar.errors import ConfigError, printable
from sonar.storage.base import Artifact, ContentStore, check_artifact, verified
from sonar.storage.cids import check_cid
from sonar.storage.errors import ArtifactNotFoundError, StoreTimeoutError, StoreUnavailableError
from sonar.units import Cid, digest_of

__all__ = ["KuboStore"]

# ipfshttpclient 0.7 gives urllib3 2 an argument that it no longer needs; users can do nothing about it.
warnings.filterwarnings("ignore", message="The 'strict' parameter is no longer needed", category=FutureWarning)

_PIECE = 64 * 1024
_NODE_SHARE = 0.8  # of the time: the node gives up first and can still say why
_NOT_FOUND = re.compile(r"not found|could not find|deadline exceeded|timed? ?out", re.IGNORECASE)
# What a node answers is asserted and indexed by ipfshttpclient, not checked; requests' errors are OSErrors.
_MALFORMED = (
    ipfs_errors.Error, HTTPError, AssertionError, LookupError, TypeError, ValueError, OverflowError, RecursionError,
    OSError,
)  # fmt: skip


class KuboStore(ContentStore):
    """Content on the IPFS node whose RPC is at `url`; artifacts that are put are pinned there."""

    def __init__(self, url: str, *, timeout: float = 30.0) -> None:
        self.url = url.rstrip("/")
        self.timeout = timeout
        # Without a session of its own every call makes one, so that threads share nothing.
        plain = {"Accept-Encoding": "identity"}  # what is sent is what is counted
        self._client = ipfshttpclient.Client(_multiaddress(self.url), timeout=timeout, headers=plain)
        # What answers could else have this process ask any address that it likes. There is no option for it.
        self._client._client._session_props["max_redirects"] = 0

    def put(self, data: bytes) -> Artifact:
        """See ContentStore."""
        options = {"cid-version": "1", "raw-leaves": "true", "pin": "true"}
        with self._translated("storing an artifact"):
            cid = self._client.add_bytes(bytes(data), opts=options)
        artifact = Artifact(check_cid(str(cid)), digest_of(data))
        check_artifact(artifact)
        return artifact

    def get(self, artifact: Artifact, *, max_bytes: int) -> bytes:
        """See ContentStore."""
        check_artifact(artifact)
        with self._translated(f"fetching {artifact.cid}", artifact.cid):
            data = self._cat(artifact.cid, max_bytes + 1)
        return verified(artifact, data, max_bytes=max_bytes)

    def describe(self) -> str:
        """See ContentStore."""
        return f"the IPFS node at {self.url}"

    def _cat(self, cid: Cid, length: int) -> bytes:
        deadline = time.monotonic() + self.timeout
        data = bytearray()
        options = {"length": str(length), "timeout": f"{self.timeout * _NODE_SHARE:.3f}s"}
        with closing(self._client.cat(cid, opts=options, stream=True)) as stream:
            # Its own iterator reads a body of known length, or without any, whole: no limit, no deadline.
            body: HTTPResponse = stream._closables[0].raw
            while len(data) < length and (piece := body.read1(min(length - len(data), _PIECE), decode_content=False)):
                data += piece
                if time.monotonic() > deadline:  # the socket's timeout counts from the last byte
                    raise self._too_slow(f"fetching {cid}")
        return bytes(data)

    @contextmanager
    def _translated(self, action: str, cid: Cid | None = None) -> Iterator[None]:
        try:
            yield
        except ipfs_errors.TimeoutError as error:
            raise self._too_slow(action) from error
        except ipfs_errors.ErrorResponse as error:
            if cid is not None and _NOT_FOUND.search(str(error)):
                raise ArtifactNotFoundError(
                    f"{cid} was not found by {self.describe()} within {self.timeout:g} s: is a node online that has it?"
                ) from error
            refusal = printable(error)
            raise StoreUnavailableError(f"{self.describe()} answers, but refuses {action}: {refusal}") from error
        except (ipfs_errors.ConnectionError, ipfs_errors.ProtocolError) as error:
            raise StoreUnavailableError(
                f"{self.describe()} cannot be reached for {action}: start it, or correct the store in the network file"
            ) from error
        except _MALFORMED as error:
            if "timed out" in str(error):  # in the middle of a body requests calls it a connection error
                raise self._too_slow(action) from error
            raise StoreUnavailableError(
                f"{self.describe()} cannot be used for {action}: {printable(error) or type(error).__name__}: "
                "is it running there?"
            ) from error

    def _too_slow(self, action: str) -> StoreTimeoutError:
        return StoreTimeoutError(f"{self.describe()} took more than {self.timeout:g} s for {action}: is it overloaded?")


def _multiaddress(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise _bad_url(url) from error
    if parts.scheme not in {"http", "https"} or not host or parts.path or parts.query or parts.username:
        raise _bad_url(url)
    port = port or (443 if parts.scheme == "https" else 80)
    try:
        kind = f"ip{ipaddress.ip_address(host).version}"
    except ValueError:
        kind = "dns"
    return f"/{kind}/{host}/tcp/{port}/{parts.scheme}"


def _bad_url(url: str) -> ConfigError:
    return ConfigError(f"{url!r} is not the RPC address of an IPFS node: write it like http://127.0.0.1:5001")
