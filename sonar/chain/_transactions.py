"""Transactions at a node: signed once, sent as often as needed without being run twice, and awaited."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from eth_account import Account
from hexbytes import HexBytes
from web3 import Web3
from web3.exceptions import TransactionNotFound, Web3Exception
from web3.types import TxParams, TxReceipt

from sonar.chain._rpc import rpc
from sonar.chain.errors import TransactionFailedError, TransactionTimeoutError, UnfundedAccountError
from sonar.chain.fees import FeeMarket, Fees
from sonar.chain.signing import Signer
from sonar.units import Wei, format_ether

__all__ = [
    "SignedTransaction", "await_receipt", "find_receipt", "is_known", "send_raw", "sign_transaction",
]  # fmt: skip

_T = TypeVar("_T")
_FIRST_POLL, _LAST_POLL = 0.02, 0.5
_TRANSFER_GAS = 21_000


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    """A transaction ready to send; sending it twice does nothing more than sending it once."""

    raw: bytes
    hash: bytes
    nonce: int


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
