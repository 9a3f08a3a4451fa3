"""Accounts whose keys are elsewhere: a signing service such as Web3Signer, Clef or a node with unlocked accounts.

The service is asked with eth_signTransaction and trusted with nothing but the key: what it gives back is looked at
field by field before it is used, so neither it nor anybody on the way can have another transaction sent. An address
over which others could listen or answer is refused: the service must be on this machine, or spoken to over TLS.

    ChainError
    `-- SignerError    it does not answer, refuses, or signs something else
"""

from dataclasses import dataclass
from ipaddress import ip_address
from itertools import count
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import rlp  # type: ignore[import-untyped]
from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_typing import ChecksumAddress
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from hexbytes import HexBytes

from sonar.chain.errors import ChainError
from sonar.errors import ConfigError
from sonar.units import Address, address_of

__all__ = ["RemoteSigner", "SignerError"]

_LONGEST_ANSWER: Final = 1 << 20
_LEGACY_FIELDS: Final = ("nonce", "gasPrice", "gas", "to", "value", "data")
_LEGACY_LIST: Final = 0xC0


class SignerError(ChainError):
    """The signing service does not answer, refuses, or does not sign what it was asked to."""


@dataclass(frozen=True, slots=True)
class _Signed:
    raw_transaction: bytes
    hash: bytes


class RemoteSigner:
    """The account `address` at a signing service; nothing is asked of it before a transaction is to be signed.

    Raises ConfigError for a URL that is not safe to use: plain HTTP to another machine, or a login in it.
    """

    def __init__(self, url: str, address: Address | str, *, timeout: float = 30.0) -> None:
        self._url = _checked(url)
        self._address = to_checksum_address(address_of(str(address)))
        self._timeout = timeout
        self._ids = count(1)

    def __repr__(self) -> str:
        return f"RemoteSigner({self._address})"

    @property
    def address(self) -> ChecksumAddress:
        """Whose key the service has."""
        return self._address

    def accounts(self) -> list[str]:
        """The addresses that the service signs for; raises SignerError."""
        found = self._ask("eth_accounts", [])
        if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
            raise SignerError(f"{self._place} gives no list of accounts: is it a signing service?")
        return found

    def sign_transaction(self, transaction_dict: dict[str, Any], /) -> _Signed:
        """The transaction of these fields, signed; raises SignerError."""
        asked = {name: _word(value) for name, value in transaction_dict.items()}
        found = self._ask("eth_signTransaction", [{**asked, "from": self._address}])
        raw = found.get("raw") if isinstance(found, dict) else found
        try:
            data = bytes(HexBytes(raw)) if isinstance(raw, str) and raw.startswith("0x") else b""
            told, sender = _fields(data), Account.recover_transaction(HexBytes(data))
        except Exception as error:
            raise SignerError(f"{self._place} answers with no signed transaction: is it a signing service?") from error
        wanted = {name: _plain(transaction_dict[name]) for name in told if name in transaction_dict}
        wrong = [name for name, value in wanted.items() if told[name] != value]
        if set(transaction_dict) - set(told) or wrong or sender != self._address:
            what = ", ".join(wrong) or ("account" if sender != self._address else "kind")
            raise SignerError(f"{self._place} signed another transaction than it was asked to ({what}): do not use it")
        return _Signed(data, keccak(data))

    @property
    def _place(self) -> str:
        parts = urlsplit(self._url)
        return f"the signer at {parts.scheme}://{parts.netloc}"

    def _ask(self, method: str, parameters: list[Any]) -> Any:
        request = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": parameters}
        try:
            with httpx.stream("POST", self._url, json=request, timeout=self._timeout, trust_env=False) as response:
                body = b""
                for piece in response.iter_bytes():
                    body += piece
                    if len(body) > _LONGEST_ANSWER:
                        raise SignerError(f"{self._place} answers with more than {_LONGEST_ANSWER} bytes")
            answer = httpx.Response(200, content=body).json()
        except httpx.HTTPError as error:
            raise SignerError(f"{self._place} does not answer ({type(error).__name__}): is it running?") from error
        except ValueError as error:
            raise SignerError(f"{self._place} does not answer in JSON: is it a signing service?") from error
        if not isinstance(answer, dict) or "result" not in answer:
            fault = answer.get("error") if isinstance(answer, dict) else None
            words = str(fault.get("message", fault) if isinstance(fault, dict) else fault)[:200]
            raise SignerError(f"{self._place} refuses {method}: {words}")
        return answer["result"]


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise ConfigError(
            f"the signer's address {url!r:.100} is no URL: write it like http://127.0.0.1:9000"
        ) from error
    if parts.scheme not in {"http", "https"} or not host:
        raise ConfigError(f"the signer's address {url!r:.100} is no URL: write it like http://127.0.0.1:9000")
    if parts.username is not None or parts.password is not None:
        raise ConfigError("the signer's URL has a login in it, which would be kept and shown: leave it out")
    if parts.scheme == "http" and not _is_here(host):
        raise ConfigError(
            f"the signer at {host} is on another machine, and over http anybody on the way could use it: give an https "
            "address, or tunnel it to 127.0.0.1"
        )
    return url


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _word(value: Any) -> Any:
    """A field as JSON-RPC has it: numbers and bytes in hexadecimal."""
    if isinstance(value, int):
        return hex(value)
    return "0x" + value.hex() if isinstance(value, bytes) else value


def _plain(value: Any) -> Any:
    """A field as it is compared: a number, or bytes."""
    if isinstance(value, str):
        return bytes.fromhex(value.removeprefix("0x"))
    return bytes(value) if isinstance(value, bytes | bytearray) else int(value)


def _fields(raw: bytes) -> dict[str, Any]:
    """What a signed transaction says, without its signature."""
    if raw[0] < _LEGACY_LIST:
        found = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
        if found.get("accessList"):
            raise ValueError("an access list was not asked for")
        return {
            name: _plain(value) for name, value in found.items() if name not in {"v", "r", "s", "accessList", "type"}
        }
    parts = rlp.decode(raw)
    values = dict(zip(_LEGACY_FIELDS, parts, strict=False))
    told = {name: int.from_bytes(values[name], "big") for name in ("nonce", "gasPrice", "gas", "value")}
    # EIP-155: v is 35 or 36 more than twice the chain's id.
    return {**told, "to": values["to"], "data": values["data"],
            "chainId": (int.from_bytes(parts[6], "big") - 35) // 2}  # fmt: skip
