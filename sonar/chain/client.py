"""The typed client of one deployed contract: views as records, transactions signed, sent once and awaited."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

from eth_abi.exceptions import DecodingError
from eth_typing import BlockNumber
from eth_utils.address import to_checksum_address
from web3 import Web3
from web3.types import TxParams, TxReceipt

from sonar.chain._abi import decode_answer, encode_call
from sonar.chain._answers import campaign_record, round_record
from sonar.chain._rpc import connect_web3, rpc
from sonar.chain._transactions import (
    SignedTransaction,
    await_receipt,
    find_receipt,
    is_known,
    send_raw,
    sign_transaction,
)
from sonar.chain.calls import Call, EncodedCall
from sonar.chain.errors import ChainError, ContractRevertError, WrongChainError
from sonar.chain.events import Event
from sonar.chain.fees import FeeMarket, Fees
from sonar.chain.heads import entries_head
from sonar.chain.logs import decode_log
from sonar.chain.records import NATIVE, CampaignRecord, RoundRecord
from sonar.chain.signing import Signer
from sonar.config import Network
from sonar.units import Address, CampaignId, Ppm, Wei, address_of

__all__ = ["Receipt", "SignedTransaction", "SonarClient", "entries_head"]


@dataclass(frozen=True, slots=True)
class Receipt:
    """How a mined transaction ended, with the contract's events in it."""

    hash: bytes
    block: int
    gas_used: int
    succeeded: bool
    events: tuple[Event, ...]
    gas_price: Wei


class SonarClient:
    """One contract on one chain, seen by one account (None: reading only)."""

    def __init__(self, web3: Web3, contract: Address, chain_id: int, account: Signer | None = None) -> None:
        self.web3 = web3
        self.address = contract
        self.chain_id = chain_id
        self.account = account
        self._sending = threading.Lock()

    @classmethod
    def connect(
        cls,
        rpc_url: str,
        contract: str,
        account: Signer | None = None,
        *,
        chain_id: int | None = None,
        timeout: float = 10.0,
    ) -> Self:
        """A client of the contract at `contract`, for at most `timeout` seconds a request.

        Raises RpcUnavailableError if nothing answers, WrongChainError if the chain's id is not `chain_id` (None: any)
        or no contract is at the address.
        """
        address = address_of(contract)
        web3 = connect_web3(rpc_url, timeout)
        with rpc(web3):
            found = int(web3.eth.chain_id)
            code = web3.eth.get_code(to_checksum_address(address))
        if chain_id is not None and found != chain_id:
            raise WrongChainError(f"the node serves chain {found}, not {chain_id}: check the RPC address")
        if not code:
            raise WrongChainError(
                f"no contract is at {address} on chain {found}: was it restarted? Deploy again, or check the address"
            )
        return cls(web3, address, found, account)

    @classmethod
    def from_network(cls, network: Network, account: Signer | None = None, *, timeout: float = 10.0) -> Self:
        """A client of the contract that the network file names.

        Raises WrongChainError also where the chain does not reach the file's `start_block`.
        """
        client = cls.connect(network.rpc_url, network.contract, account, chain_id=network.chain_id, timeout=timeout)
        if network.start_block and network.start_block > (head := client.block_number()):
            raise WrongChainError(
                f"the network file's start_block {network.start_block} is ahead of the chain, whose latest block is "
                f"{head}: correct it, or wait until the node is in sync"
            )
        return client

    # ---- the chain

    def now(self) -> int:
        """The chain's time, which the contract's views and gas estimates go by: that of the latest block.

        It stands still on a development chain that makes no blocks; `sonar.chain.heartbeat` sees to that.
        """
        with rpc(self.web3):
            return int(self.web3.eth.get_block("latest")["timestamp"])

    def block_number(self) -> int:
        """The number of the latest block."""
        with rpc(self.web3):
            return int(self.web3.eth.block_number)

    def balance(self, address: Address, *, block: int | None = None) -> Wei:
        """The native coin that an account holds after `block` (None: the latest)."""
        with rpc(self.web3):
            return Wei(
                int(self.web3.eth.get_balance(to_checksum_address(address), "latest" if block is None else block))
            )

    # ---- the contract's views

    def campaign(self, campaign: CampaignId, *, block: int | None = None) -> CampaignRecord:
        """The campaign's terms and state after `block` (None: the latest).

        Raises ContractRevertError (Sonar_CampaignUnknown) for another id.
        """
        got = self._view("getCampaign", campaign, block=block)
        with rpc(self.web3):  # a state that the contract does not have
            return campaign_record(campaign, got)

    def round(self, campaign: CampaignId, *, block: int | None = None) -> RoundRecord:
        """The campaign's round after `block` (None: the latest)."""
        return round_record(self._view("getRound", campaign, block=block))

    def pending_owner(self, campaign: CampaignId, *, block: int | None = None) -> Address | None:
        """To whom the campaign is offered after `block` (None: the latest), or None."""
        found = Address(to_checksum_address(self._view("pendingOwner", campaign, block=block)))
        return None if found == NATIVE else found

    def last_submission(self, campaign: CampaignId, mine: Address) -> int | None:
        """The round in which the mine last submitted, or None if it never did."""
        found = int(self._view("lastSubmission", campaign, to_checksum_address(mine)))
        return found - 1 if found else None

    def quote(self, campaign: CampaignId, score: Ppm) -> Wei:
        """What a round that lifts the present score to `score` would pay."""
        return Wei(int(self._view("quote", campaign, score)))

    def credit(self, account: Address, token: Address = NATIVE) -> Wei:
        """What the account can withdraw."""
        return Wei(int(self._view("credit", to_checksum_address(token), to_checksum_address(account))))

    # ---- transactions

    @property
    def signer(self) -> Signer:
        """The account; raises ChainError where there is none."""
        if self.account is None:
            raise ChainError("this connection has no account and can only read: connect with the account that acts")
        return self.account

    def next_nonce(self) -> int:
        """The nonce for the account's next transaction, after those that wait to be mined."""
        with rpc(self.web3):
            return int(self.web3.eth.get_transaction_count(self.signer.address, "pending"))

    def used_nonce(self) -> int:
        """How many of the account's transactions are mined: a lower nonce is used up."""
        with rpc(self.web3):
            return int(self.web3.eth.get_transaction_count(self.signer.address, "latest"))

    def encode(self, call: Call) -> EncodedCall:
        """The call as it stands in a transaction, for whoever signs it later.

        Raises ChainError for values that the contract's types do not hold.
        """
        return EncodedCall(self.address, self._encoded(call.function, call.arguments), call.value)

    def fee_market(self) -> FeeMarket:
        """What the chain asks per gas now."""
        with rpc(self.web3):
            return FeeMarket.read(self.web3, self.web3.eth.get_block("latest"))

    def sign(
        self, call: Call | EncodedCall, *, nonce: int | None = None, fees: Fees | None = None
    ) -> SignedTransaction:
        """Signs a call without sending it, at `fees` per gas (None: what is usual now).

        Raises ContractRevertError if it would revert now, UnfundedAccountError if the account cannot pay for it.
        """
        number = self.next_nonce() if nonce is None else nonce
        return sign_transaction(self.web3, self.signer, self._transaction(call), number, self.chain_id, fees)

    def send(self, signed: SignedTransaction, *, fresh: bool = False) -> None:
        """Sends a signed transaction; one that the chain knows already is left alone.

        `fresh` says that its nonce was free when it was signed just now, and that nobody has sent it yet. Raises
        TransactionFailedError if it can never be mined any more (its nonce was used) or the node refuses it.
        """
        send_raw(self.web3, signed, fresh=fresh)

    def knows(self, transaction: bytes) -> bool:
        """Whether the node has the transaction, mined or waiting to be."""
        return is_known(self.web3, transaction)

    def receipt(self, transaction: bytes) -> Receipt | None:
        """The receipt of a mined transaction, or None while there is none."""
        found = find_receipt(self.web3, transaction)
        with rpc(self.web3):  # a receipt may lack what every receipt has
            return None if found is None else self._receipt(found)

    def wait(self, transaction: bytes, timeout: float = 60) -> Receipt:
        """The receipt once the transaction is mined; raises TransactionTimeoutError after `timeout` seconds."""
        return await_receipt(lambda: self.receipt(transaction), transaction, timeout)

    def transact(self, call: Call | EncodedCall, timeout: float = 60) -> Receipt:
        """Signs, sends and awaits a call; raises ContractRevertError if the contract refuses it."""
        with self._sending:
            signed = self.sign(call)
            self.send(signed)
        receipt = self.wait(signed.hash, timeout)
        if not receipt.succeeded:
            raise self._reason(call, receipt)
        return receipt

    def _transaction(self, call: Call | EncodedCall) -> dict[str, Any]:
        encoded = self.encode(call) if isinstance(call, Call) else call
        return {"to": encoded.to, "data": "0x" + encoded.data.hex(), "value": encoded.value}

    def _view(self, function: str, *arguments: Any, block: int | None = None) -> Any:
        sent = cast(TxParams, {"to": self.address, "data": "0x" + self._encoded(function, arguments).hex()})
        with rpc(self.web3):
            answer = bytes(self.web3.eth.call(sent, "latest" if block is None else BlockNumber(block)))
        try:
            return decode_answer(function, answer)
        except (DecodingError, OverflowError, UnicodeDecodeError) as error:
            raise WrongChainError(
                f"what is at {self.address} on chain {self.chain_id} does not answer {function} like Sonar's "
                "contract: was the chain restarted? Deploy again or check the address"
            ) from error

    def _encoded(self, function: str, arguments: Sequence[Any]) -> bytes:
        return encode_call(self.web3.codec, function, arguments)

    def _receipt(self, found: TxReceipt) -> Receipt:
        logs = (log for log in found["logs"] if str(log["address"]) == self.address)
        return Receipt(
            bytes(found["transactionHash"]),
            int(found["blockNumber"]),
            int(found["gasUsed"]),
            found["status"] == 1,
            tuple(event for log in logs if (event := decode_log(log)) is not None),
            Wei(int(found.get("effectiveGasPrice", 0))),
        )

    def _reason(self, call: Call | EncodedCall, receipt: Receipt) -> ContractRevertError:
        """Why a mined call reverted: a receipt does not say, so the call is replayed on its own block."""
        try:
            with rpc(self.web3):
                sent = {**self._transaction(call), "from": self.signer.address}
                self.web3.eth.call(cast(TxParams, sent), receipt.block)
        except ContractRevertError as error:
            return error
        except ChainError as error:
            return ContractRevertError("", {"transaction": receipt.hash, "problem": str(error)})
        return ContractRevertError("", {"transaction": receipt.hash})
