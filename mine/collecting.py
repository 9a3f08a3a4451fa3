"""Withdrawing what the contract owes in native coin by itself, once it is as much as the owner wants it to be."""

from collections.abc import Callable
from typing import Any

from mine.records import Aim, Purpose, hexed
from mine.sending import Sender
from sonar.chain.calls import withdraw
from sonar.chain.client import Receipt, SonarClient
from sonar.chain.errors import TransactionFailedError
from sonar.chain.events import Withdrawn
from sonar.chain.records import NATIVE
from sonar.units import Address, Wei

__all__ = ["Collector", "withdrawn_by"]


class Collector:
    """Withdraws to the mine's own account, and nowhere else; tokens are the owner's to fetch."""

    def __init__(
        self, client: SonarClient, mine: Address, sender: Sender, report: Callable[[str, dict[str, Any]], None]
    ) -> None:
        self._client = client
        self._mine = mine
        self._sender = sender
        self._report = report

    def step(self, threshold: Wei) -> None:
        """Withdraws all that is owed if it is `threshold` or more (0: never), and goes on with what was begun.

        Raises ChainError.
        """
        if not threshold or self._client.credit(self._mine) < threshold:
            return
        receipt = self._sender.deliver(Aim(Purpose.WITHDRAW), withdraw(self._mine, NATIVE))
        event = withdrawn_by(receipt)
        self._report("withdrawn", {"amount_wei": event.amount, "to": event.to, "transaction": hexed(receipt.hash)})


def withdrawn_by(receipt: Receipt) -> Withdrawn:
    """What a mined withdrawal paid; raises TransactionFailedError for one that was reverted."""
    found = [event for event in receipt.events if isinstance(event, Withdrawn)]
    if not receipt.succeeded or not found:
        raise TransactionFailedError(
            f"transaction {hexed(receipt.hash)} was reverted: it was withdrawn before, or can be tried again"
        )
    return found[0]
