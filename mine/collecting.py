"""Withdrawing what the contract owes by itself: native coin once it is enough, tokens that the owner lists each day."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from mine.records import Aim, Purpose, hexed, token_or_none
from mine.reporting import Report
from mine.sending import Sender
from sonar.chain.calls import withdraw
from sonar.chain.client import Receipt, SonarClient
from sonar.chain.errors import ChainError, TransactionFailedError
from sonar.chain.events import Withdrawn
from sonar.chain.records import NATIVE
from sonar.units import Address, Wei, address_of

__all__ = ["Collector", "withdrawn_by"]

_TOKEN_SECONDS: Final = 24 * 3600


class Collector:
    """Withdraws to the mine's own account, and nowhere else; `since` tells when a withdrawal was signed last."""

    def __init__(
        self,
        client: SonarClient,
        mine: Address,
        sender: Sender,
        report: Report,
        since: Callable[[Aim], float | None],
    ) -> None:
        self._client = client
        self._mine = mine
        self._sender = sender
        self._report = report
        self._since = since

    def step(self, threshold: Wei, tokens: Iterable[str], now: float) -> None:
        """Withdraws all native coin that is owed if it is `threshold` or more (0: never), and what is owed in `tokens`.

        A token has no price here, so each is fetched once in 24 hours at most. What was begun is gone on with. A token
        that does not move, because it is paused perhaps, keeps no other from being withdrawn. Raises ChainError.
        """
        refused: list[ChainError] = []
        for token in self._due(threshold, tokens, now):
            try:
                self._withdraw(token)
            except TransactionFailedError as error:
                refused.append(error)
        if refused:
            raise refused[0]

    def _due(self, threshold: Wei, tokens: Iterable[str], now: float) -> Iterator[Address]:
        if threshold and self._client.credit(self._mine) >= threshold:
            yield NATIVE
        for token in map(address_of, tokens):
            last = self._since(Aim(Purpose.WITHDRAW, token=token))
            if self._client.credit(self._mine, token) and (last is None or not 0 <= now - last < _TOKEN_SECONDS):
                yield token

    def _withdraw(self, token: Address) -> None:
        aim = Aim(Purpose.WITHDRAW, token=token)
        receipt = self._sender.deliver(aim, withdraw(self._mine, token))
        event = withdrawn_by(receipt)
        self._report("withdrawn", {
            "amount_wei": event.amount, "token": token_or_none(token), "to": event.to,
            "transaction": hexed(receipt.hash),
        })  # fmt: skip


def withdrawn_by(receipt: Receipt) -> Withdrawn:
    """What a mined withdrawal paid; raises TransactionFailedError for one that was reverted."""
    found = [event for event in receipt.events if isinstance(event, Withdrawn)]
    if not receipt.succeeded or not found:
        raise TransactionFailedError(
            f"transaction {hexed(receipt.hash)} was reverted: it was withdrawn before, or can be tried again"
        )
    return found[0]
