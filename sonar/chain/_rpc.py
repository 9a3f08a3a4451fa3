"""The JSON-RPC connection: one place where web3's and requests' exceptions become Sonar's."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from json import JSONDecodeError
from typing import Any
from urllib.parse import urlsplit

import requests
from web3 import HTTPProvider, Web3
from web3.exceptions import (
    BadResponseFormat,
    ContractLogicError,
    Web3Exception,
    Web3RPCError,
)
from web3.middleware import ExtraDataToPOAMiddleware
from web3.providers.rpc.utils import REQUEST_RETRY_ALLOWLIST, ExceptionRetryConfiguration

from sonar.chain._artifact import decode_revert
from sonar.chain._http import LONGEST_ANSWER, AnswerTooLargeError, BoundedAdapter
from sonar.chain.errors import (
    ContractRevertError,
    RpcTooMuchError,
    RpcUnavailableError,
    TransactionFailedError,
)
from sonar.errors import ConfigError, printable

__all__ = ["connect_web3", "rpc"]

# Importing eth_account, as web3 does, raises the limit to 100,000 for the whole process, where nested JSON from a node
# overflows the stack and kills it.
sys.setrecursionlimit(min(sys.getrecursionlimit(), 3_000))

# web3 reads before it checks. An infinite number, which JSON as Python reads it may hold, overflows.
_UNUSABLE = (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError)
_CONNECTIONS = 64
"""How many connections to a node are kept for the next request."""


def connect_web3(url: str, timeout: float) -> Web3:
    """A connection that waits at most `timeout` seconds for a whole answer of at most `LONGEST_ANSWER` bytes.

    A request whose connection broke is tried once more, but never one that sends a transaction: a node that took it the
    first time may run it again. Raises ConfigError where the environment asks for a SOCKS proxy.
    """
    retry = ExceptionRetryConfiguration(
        errors=(requests.ConnectionError,),
        retries=2,
        method_allowlist=[method for method in REQUEST_RETRY_ALLOWLIST if not method.startswith("eth_send")],
    )
    provider = HTTPProvider(
        url, request_kwargs={"timeout": timeout}, session=_session(url), exception_retry_configuration=retry
    )
    # A contract, or the node in its name, could else have this process fetch any address that it likes (EIP-3668).
    provider.global_ccip_read_enabled = False
    web3 = Web3(provider)
    # Networks of named validators put more than 32 bytes into a block's extra data, which web3 refuses by itself.
    web3.middleware_onion.inject(ExtraDataToPOAMiddleware, layer=0)
    # It would ask for the chain's id before every call; we compare it where we sign.
    web3.middleware_onion.remove("validation")
    # No name is ever an address here.
    web3.middleware_onion.remove("ens_name_to_address")
    return web3


def _session(url: str) -> requests.Session:
    """Connections to the node, for all threads: web3 would open one for each thread that ever asks.

    What the environment says of proxies, certificates and logins is read once. requests would read it again for each
    request, which takes as long as all the rest of it.
    """
    session = requests.Session()
    found = session.merge_environment_settings(url, {}, None, None, None)
    session.proxies, session.verify, session.cert = dict(found["proxies"]), found["verify"], found["cert"]
    session.auth = requests.utils.get_netrc_auth(url)
    session.trust_env = False
    proxy = requests.utils.select_proxy(url, session.proxies) or ""
    if proxy.lower().startswith("socks"):
        # Their connections are of classes of their own, which neither bound an answer nor come with requests.
        raise ConfigError(
            f"the environment asks for a SOCKS proxy to {urlsplit(url).hostname}, which connections to a node do not "
            "support: name the node in NO_PROXY, or set HTTP_PROXY or HTTPS_PROXY to an HTTP proxy"
        )
    connections = BoundedAdapter(pool_connections=1, pool_maxsize=_CONNECTIONS)
    for scheme in ("http://", "https://"):
        session.mount(scheme, connections)
    return session


@contextmanager
def rpc(web3: Web3) -> Iterator[None]:
    """Turns whatever a request raises into RpcUnavailableError, ContractRevertError or TransactionFailedError."""
    try:
        yield
    except (AnswerTooLargeError, requests.ReadTimeout) as error:
        raise RpcTooMuchError(f"{_endpoint(web3)} {_problem(error)}") from error
    except (
        requests.RequestException,
        BadResponseFormat,
        JSONDecodeError,
        UnicodeDecodeError,
        ConnectionError,
    ) as error:
        raise RpcUnavailableError(f"{_endpoint(web3)} {_problem(error)}") from error
    except ContractLogicError as error:
        raise _revert(error) from error
    except Web3RPCError as error:
        if _revert_data(error) is not None:
            raise _revert(error) from error
        raise TransactionFailedError(f"the node at {_endpoint(web3)} refused: {_node_message(error)}") from error
    except Web3Exception as error:
        raise RpcUnavailableError(f"{_endpoint(web3)} gave an unusable answer: {printable(error, 200)}") from error
    except _UNUSABLE as error:
        raise RpcUnavailableError(f"{_endpoint(web3)} {_problem(error)}") from error


def _revert(error: Web3Exception) -> ContractRevertError:
    data = _revert_data(error)
    if data:
        return decode_revert(data)
    return ContractRevertError("", {"message": str(error)[:200]})


def _revert_data(error: Web3Exception) -> bytes | None:
    """The revert bytes: in `data` as hex, or inside it under `result` (Ganache) or `data`; None if it is no revert."""
    found: Any = getattr(error, "data", None)
    response = getattr(error, "rpc_response", None)
    if found is None and isinstance(response, Mapping):
        found = (response.get("error") or {}).get("data")
    while isinstance(found, Mapping):
        found = found.get("result", found.get("data"))
    if not isinstance(found, str) or not found.startswith("0x"):
        return None
    try:
        return bytes.fromhex(found[2:])
    except ValueError:
        return None


def _node_message(error: Web3RPCError) -> str:
    response = error.rpc_response
    detail = response.get("error") if response else None
    return printable(detail["message"] if isinstance(detail, Mapping) and "message" in detail else error)


def _endpoint(web3: Web3) -> str:
    """Scheme, host and port: the rest of an RPC address may hold an access key."""
    parts = urlsplit(str(getattr(web3.provider, "endpoint_uri", "")))
    return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")


def _problem(error: Exception) -> str:
    if isinstance(error, AnswerTooLargeError):
        return f"gave an unusable answer, of more than {LONGEST_ANSWER} bytes"
    if isinstance(error, requests.Timeout):
        return "did not answer in time: is the node overloaded?"
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"answered HTTP {error.response.status_code}: is this the RPC address of an Ethereum node?"
    if isinstance(error, requests.ConnectionError | ConnectionError):
        return "does not answer: is the node running, and is the RPC address right?"
    return f"gave an unusable answer ({type(error).__name__}): is this the RPC address of an Ethereum node?"
