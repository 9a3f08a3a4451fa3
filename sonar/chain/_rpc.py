"""The JSON-RPC connection: one place where web3's and requests' exceptions become Sonar's."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from json import JSONDecodeError
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import requests
from eth_account import Account
from hexbytes import HexBytes
from web3 import HTTPProvider, Web3
from web3.exceptions import (
    BadResponseFormat,
    ContractLogicError,
    TransactionNotFound,
    Web3Exception,
    Web3RPCError,
)
from web3.middleware import ExtraDataToPOAMiddleware
from web3.providers.rpc.utils import REQUEST_RETRY_ALLOWLIST, ExceptionRetryConfiguration
from web3.types import TxParams, TxReceipt

from sonar.chain._artifact import decode_revert
from sonar.chain._http import BoundedAdapter
from sonar.chain.errors import (
    ContractRevertError,
    RpcUnavailableError,
    TransactionFailedError,
    TransactionTimeoutError,
    UnfundedAccountError,
)
from sonar.chain.fees import FeeMarket, Fees
from sonar.chain.signing import Signer
from sonar.errors import ConfigError, printable
from sonar.units import Wei, format_ether

__all__ = [
    "SignedTransaction", "await_receipt", "connect_web3", "find_receipt", "is_known", "rpc", "send_raw",
    "sign_transaction",
]  # fmt: skip

# Importing eth_account raises the limit to 100,000 for the whole process, where nested JSON from a node overflows the
# stack and kills it.
sys.setrecursionlimit(min(sys.getrecursionlimit(), 3_000))

_T = TypeVar("_T")
# web3 reads before it checks. An infinite number, which JSON as Python reads it may hold, overflows.
_UNUSABLE = (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError)
_FIRST_POLL, _LAST_POLL = 0.02, 0.5
_TRANSFER_GAS = 21_000
_CONNECTIONS = 64
"""How many connections to a node are kept for the next request."""


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    """A transaction ready to send; sending it twice does nothing more than sending it once."""

    raw: bytes
    hash: bytes
    nonce: int


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


def sign_transaction(
    web3: Web3,
    account: Signer,
    call: Mapping[str, Any],
    nonce: int,
    chain_id: int | None = None,
    fees: Fees | None = None,
) -> SignedTransaction:
    """Estimates, prices and signs a transaction of {to, data, value}; a call that would revert raises here.

    It is for the chain `chain_id`, so that a node cannot have one signed for another; None takes the node's word. It
    offers `fees` per gas (None: what is usual now).

    Raises UnfundedAccountError if the balance does not cover the value and the gas at the price offered.
    """
    value = int(call.get("value", 0))
    with rpc(web3):
        block = web3.eth.get_block("latest")
        balance = web3.eth.get_balance(account.address)
        offered = fees or FeeMarket.read(web3, block).usual
        highest = offered.highest
        try:
            estimate = web3.eth.estimate_gas(cast(TxParams, {**call, "from": account.address}))
        except Web3Exception:
            # Nodes refuse to estimate what cannot be paid, each in words of its own.
            _require_funds(account, balance, value, _TRANSFER_GAS * highest, at_least=True)
            raise
        # What it costs may change until it is mined, e.g. when another gradient enters the round first.
        gas = min(estimate * 5 // 4 + 25_000, block["gasLimit"])
        _require_funds(account, balance, value, gas * highest)
        chain_id = chain_id or web3.eth.chain_id
    signed = account.sign_transaction(
        {**call, **offered.to_transaction(), "gas": gas, "nonce": nonce, "chainId": chain_id}
    )
    return SignedTransaction(bytes(signed.raw_transaction), bytes(signed.hash), nonce)


def send_raw(web3: Web3, signed: SignedTransaction, *, fresh: bool = False) -> None:
    """Sends a signed transaction unless the chain knows it already.

    The look-up comes first because some nodes (Ganache 7) run a repeated transaction again; a `fresh` one, whose nonce
    was free just now and that nobody has sent, needs none. Raises TransactionFailedError if another transaction took
    its nonce or the node refuses it.
    """
    if not fresh and _is_used(web3, signed):
        return
    try:
        with rpc(web3):
            web3.eth.send_raw_transaction(signed.raw)
    except TransactionFailedError as error:
        if is_known(web3, signed.hash):
            return  # known by now, or mined and reverted: the receipt tells how it ended
        if "insufficient funds" in str(error).lower():
            sender = Account.recover_transaction(signed.raw)
            raise UnfundedAccountError(f"account {sender} cannot pay for its transaction: fund it ({error})") from error
        raise


def _is_used(web3: Web3, signed: SignedTransaction) -> bool:
    """Whether the chain knows the transaction; raises TransactionFailedError where another one took its nonce."""
    if is_known(web3, signed.hash):
        return True
    sender = Account.recover_transaction(signed.raw)
    with rpc(web3):
        used = web3.eth.get_transaction_count(sender)
    if used <= signed.nonce:
        return False
    if is_known(web3, signed.hash):
        return True
    raise TransactionFailedError(
        f"transaction 0x{signed.hash.hex()} can no longer be mined: {sender} used its nonce {signed.nonce} for "
        "another one, so sign it again"
    )


def find_receipt(web3: Web3, transaction: bytes) -> TxReceipt | None:
    """The receipt of a mined transaction, or None."""
    with rpc(web3):
        try:
            receipt = web3.eth.get_transaction_receipt(HexBytes(transaction))
        except TransactionNotFound:
            return None
    return receipt if receipt and receipt.get("blockNumber") is not None else None


def await_receipt(look: Callable[[], _T | None], transaction: bytes, timeout: float) -> _T:
    """Polls `look` until it answers; raises TransactionTimeoutError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    pause = _FIRST_POLL
    while (found := look()) is None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TransactionTimeoutError(
                f"transaction 0x{transaction.hex()} is in no block after {timeout:g} s: it may yet be, look again"
            )
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, _LAST_POLL)
    return found


def is_known(web3: Web3, transaction: bytes) -> bool:
    """Whether the node has the transaction, mined or waiting."""
    with rpc(web3):
        try:
            web3.eth.get_transaction(HexBytes(transaction))
        except TransactionNotFound:
            return False
    return True


def _require_funds(account: Signer, balance: Wei | int, value: int, gas: int, *, at_least: bool = False) -> None:
    """Raises UnfundedAccountError unless the balance covers both; `at_least` where the gas may be more than that."""
    if balance < value + gas:
        needs = f"{format_ether(value)} and " if value else ""
        bound = "at least" if at_least else "up to"
        raise UnfundedAccountError(
            f"account {account.address} has {format_ether(balance)} ether, but needs {needs}{bound} "
            f"{format_ether(_rounded_up(gas))} for gas: fund it by a transfer of "
            f"{format_ether(_rounded_up(value + gas - balance))} ether or more"
        )


def _rounded_up(wei: int) -> int:
    """To three digits, which people can read."""
    unit = 10 ** max(len(str(wei)) - 3, 0)
    return int(-(-wei // unit) * unit)


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
    if isinstance(error, requests.Timeout):
        return "did not answer in time: is the node overloaded?"
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"answered HTTP {error.response.status_code}: is this the RPC address of an Ethereum node?"
    if isinstance(error, requests.ConnectionError | ConnectionError):
        return "does not answer: is the node running, and is the RPC address right?"
    return f"gave an unusable answer ({type(error).__name__}): is this the RPC address of an Ethereum node?"
