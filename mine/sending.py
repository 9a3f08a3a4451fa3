"""Transactions of one account, each aim reached at most once, whatever stops the process and whenever.

A transaction is in the ledger before it is sent. After a crash the chain is asked in this order: is one of those for
this aim mined, was their nonce used by another one, does the node still have it. Only then is anything sent again: the
same bytes, or, where the chain asks for more than it offers, another one with the same nonce at a higher fee.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

from mine.ledger import Ledger
from mine.records import Aim, Fate, Transaction
from sonar.chain.calls import Call, EncodedCall
from sonar.chain.client import Receipt, SignedTransaction, SonarClient
from sonar.chain.errors import (
    ContractRevertError,
    FeeLimitError,
    TransactionFailedError,
    TransactionTimeoutError,
)
from sonar.chain.fees import Fees
from sonar.units import Address, Wei

__all__ = ["REPLACE_SECONDS", "Sender"]

REPLACE_SECONDS: Final = 60.0
"""After how long a transaction that waits in vain may be replaced."""
_OVERDUE: Final = 10
"""After how many times that it is raised whatever the node says that the chain asks for."""
_TOO_LOW: Final = ("underpriced", "fee too low", "feetoolow", "price too low", "price below", "less than block base")
"""What nodes say in small letters of fees that they do not take."""


class Sender:
    """Sends calls of one account for aims; `fee_limit` is the most wei per gas that it may offer.

    `sending` is held from choosing a nonce to sending, so that two processes never sign the same one. Where gas costs
    more than the limit FeeLimitError is raised, and there is nothing to do but wait.
    """

    def __init__(
        self,
        client: SonarClient,
        ledger: Ledger,
        deployment: str,
        sending: Callable[[], AbstractContextManager[None]],
        patience: float,
        fee_limit: Callable[[], Wei],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._deployment = deployment
        self._sending = sending
        self._patience = patience
        self._fee_limit = fee_limit
        self._clock = clock

    def limit_fees(self, limit: Wei) -> None:
        """Has `limit` be the most wei per gas that is offered from now on."""
        self._fee_limit = lambda: limit

    def found(self, aim: Aim) -> Receipt | None:
        """The receipt of a mined transaction for an aim, if one is known by now."""
        return self._look_up(self._under_way(aim))

    def under_way(self, aim: Aim) -> bool:
        """Whether a transaction for an aim may still be mined."""
        return bool(self._alive(self._under_way(aim)))

    def deliver(self, aim: Aim, call: Call, intend: Callable[[Transaction], object] | None = None) -> Receipt:
        """The receipt of the one transaction that was mined for an aim, which may have been reverted.

        `intend` writes a signed transaction down (default: only as a transaction). Raises TransactionTimeoutError while
        none is mined, ContractRevertError if the contract would refuse the call now, FeeLimitError,
        UnfundedAccountError and whatever else the chain raises.
        """
        with self._sending():
            group = self._under_way(aim)
            if (receipt := self._look_up(group)) is not None:
                return receipt
            newest = self._go_on(aim, call, intend, self._alive(group))
        try:
            return self._kept(newest, self._client.wait(newest.hash, self._patience))
        except TransactionTimeoutError:
            receipt = self.found(aim)  # one that it replaced may have been mined
            if receipt is None:
                raise
            return receipt

    def tend(self, wanted: Callable[[Aim], bool]) -> None:
        """Looks after transactions for aims that nobody pursues any more: notes what they cost, and frees their nonce.

        One that waits at too low a fee holds up all that come after it, so its nonce is used for nothing at all.
        """
        open_aims = dict.fromkeys(one.aim for one in self._ledger.transactions(self._deployment, Fate.SIGNED))
        for aim in open_aims:
            if wanted(aim) or self._look_up(self._under_way(aim)) is not None:
                continue
            with self._sending():
                for newest in self._alive(self._under_way(aim))[-1:]:
                    if not self._client.knows(newest.hash):
                        self._ledger.change_fate(self._deployment, newest, Fate.REPLACED)
                    elif self._is_outbid(newest, ""):
                        self._replace(newest, EncodedCall(Address(self._client.signer.address), b"", Wei(0)), None)

    # ---- inside

    def _under_way(self, aim: Aim) -> list[Transaction]:
        return self._ledger.transactions(self._deployment, Fate.SIGNED, aim=aim)

    def _look_up(self, group: list[Transaction]) -> Receipt | None:
        for transaction in group:
            if (receipt := self._client.receipt(transaction.hash)) is not None:
                return self._kept(transaction, receipt)
        return None

    def _kept(self, transaction: Transaction, receipt: Receipt) -> Receipt:
        self._ledger.mined(
            self._deployment, transaction, succeeded=receipt.succeeded, block=receipt.block,
            gas_used=receipt.gas_used, gas_price=receipt.gas_price,
        )  # fmt: skip
        return receipt

    def _alive(self, group: list[Transaction]) -> list[Transaction]:
        """Those whose nonce is free; of the others none can be mined any more, and they are given up."""
        if not group:
            return []
        used = self._client.used_nonce()
        for transaction in group:
            if transaction.nonce < used:
                if self._client.knows(transaction.hash):
                    raise TransactionTimeoutError(
                        f"transaction 0x{transaction.hash.hex()} is mined, and the node has no receipt of it yet: "
                        "looking again"
                    )
                self._ledger.change_fate(self._deployment, transaction, Fate.REPLACED)
        return [transaction for transaction in group if transaction.nonce >= used]

    def _go_on(
        self, aim: Aim, call: Call, intend: Callable[[Transaction], object] | None, alive: list[Transaction]
    ) -> Transaction:
        """Sends what is to be sent now; the transaction that is waited for then."""
        if not alive:
            return self._sign(aim, call, intend)
        newest = alive[-1]
        if self._client.knows(newest.hash):
            return self._replace(newest, call, intend) if self._is_outbid(newest, "") else newest
        try:
            self._client.send(_signed(newest))
        except ContractRevertError:
            raise
        except TransactionFailedError as error:
            if self._is_outbid(newest, str(error)):
                return self._replace(newest, call, intend)
            raise
        return newest

    def _is_outbid(self, transaction: Transaction, refusal: str) -> bool:
        """Whether a waiting transaction should offer more: the chain asks for more, or cannot mean what it asks for."""
        if any(words in refusal.lower() for words in _TOO_LOW):
            return True
        # One from the future was signed by a clock that was ahead: how long it waits nobody knows, so it is overdue.
        age = self._clock() - transaction.time
        if not refusal and 0 <= age < REPLACE_SECONDS:
            return False
        return not 0 <= age < _OVERDUE * REPLACE_SECONDS or self._client.fee_market().asks_more_than(
            Fees.of(transaction.raw)
        )

    def _replace(
        self, former: Transaction, call: Call | EncodedCall, intend: Callable[[Transaction], object] | None
    ) -> Transaction:
        try:
            return self._sign(former.aim, call, intend, former)
        except FeeLimitError:
            if self._client.knows(former.hash):
                return former  # it stays as it is, and may be mined when the chain asks for less
            raise

    def _sign(
        self,
        aim: Aim,
        call: Call | EncodedCall,
        intend: Callable[[Transaction], object] | None,
        former: Transaction | None = None,
    ) -> Transaction:
        """Signs, writes down and sends; in the place of `former`, of two with one nonce only one can ever be mined."""
        before = None if former is None else Fees.of(former.raw)
        fees = self._client.fee_market().offer(self._fee_limit(), before)
        if former is not None and before is not None and fees.highest <= before.highest:
            return former  # where gas is free, no node takes another one in its place
        signed = self._client.sign(call, nonce=None if former is None else former.nonce, fees=fees)
        transaction = Transaction(signed.hash, aim, signed.nonce, signed.raw, self._clock())
        if intend is None:
            self._ledger.intend(self._deployment, transaction)
        else:
            intend(transaction)
        self._client.send(signed)
        return transaction


def _signed(transaction: Transaction) -> SignedTransaction:
    return SignedTransaction(transaction.raw, transaction.hash, transaction.nonce)
