"""A cursor that reads the contract's events in order, each once, and can be resumed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from web3.types import FilterParams, LogReceipt

from sonar.chain._rpc import rpc
from sonar.chain.errors import RpcUnavailableError, TransactionFailedError
from sonar.chain.events import Event, decode_log, event_topics
from sonar.units import CampaignId

if TYPE_CHECKING:
    from sonar.chain.client import SonarClient

__all__ = ["EventCursor", "Page", "campaign_events"]


@dataclass(frozen=True, slots=True)
class Page:
    """The events of blocks `first` to `last` in the chain's order, and the hashes of the blocks that they are in."""

    first: int
    last: int
    events: tuple[Event, ...]
    hashes: Mapping[int, bytes]


class EventCursor:
    """Reads the contract's events from `next_block` on, each once, in the chain's order.

    `next_block` moves only after a complete read, so whoever stores it after acting on the events repeats at most the
    last read. With `campaign` only that campaign's events come (no withdrawals). `confirmations` leaves out that many
    of the newest blocks. `page` is how many blocks are asked for at once; a node that finds this too much is asked
    for less.
    """

    def __init__(
        self,
        client: "SonarClient",
        next_block: int,
        *,
        campaign: CampaignId | None = None,
        confirmations: int = 0,
        page: int = 2000,
    ) -> None:
        self.next_block = next_block
        self._client = client
        self._topics: list[Any] = [["0x" + topic.hex() for topic in event_topics()]]
        if campaign is not None:
            self._topics.append("0x" + campaign.hex())
        self._confirmations = confirmations
        self._page = page

    def read(self) -> list[Event]:
        """The events that came since the last read; empty if there is no new block."""
        # Never past the head: Ganache answers nothing there, Anvil and others raise.
        head = self._client.block_number() - self._confirmations
        events: list[Event] = []
        start = self.next_block
        while start <= head:
            page = self._read(start, min(start + self._page - 1, head))
            events += page.events
            start = page.last + 1
        self.next_block = max(self.next_block, head + 1)
        return events

    def read_page(self, last: int) -> Page | None:
        """The next page, up to block `last`, which must not be past the head; None if that was read already."""
        if self.next_block > last:
            return None
        page = self._read(self.next_block, min(self.next_block + self._page - 1, last))
        self.next_block = page.last + 1
        return page

    def _read(self, start: int, end: int) -> Page:
        logs = self._logs(start, end)
        events = [event for log in logs if (event := decode_log(log)) is not None]
        hashes: dict[int, bytes] = {}
        for log in logs:
            number, block_hash = int(log["blockNumber"]), bytes(log["blockHash"])
            if (
                not start <= number <= end
                or str(log["address"]).lower() != self._client.address.lower()
                or hashes.setdefault(number, block_hash) != block_hash
            ):
                raise RpcUnavailableError(
                    f"the node was asked for the contract's logs of the blocks {start} to {end}, and gave one of block "
                    f"{number} by {log['address']!s:.50} that does not fit: is it in sync, and honest?"
                )
        return Page(start, end, tuple(sorted(events, key=lambda event: (event.block, event.log_index))), hashes)

    def _logs(self, start: int, end: int) -> list[LogReceipt]:
        wanted: dict[str, Any] = {
            "address": self._client.address,
            "fromBlock": start,
            "toBlock": end,
            "topics": self._topics,
        }
        try:
            with rpc(self._client.web3):
                return list(self._client.web3.eth.get_logs(FilterParams(**wanted)))  # type: ignore[typeddict-item]
        except TransactionFailedError:
            if start == end:
                raise
            middle = (start + end) // 2
            self._page = middle - start + 1
            return self._logs(start, middle) + self._logs(middle + 1, end)


def campaign_events(client: "SonarClient", campaign: CampaignId, start_block: int) -> list[Event]:
    """All events of one campaign from `start_block` to the latest block."""
    return EventCursor(client, start_block, campaign=campaign).read()
