"""A cursor that reads the contract's events in order, each once, and can be resumed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from web3.types import FilterParams, LogReceipt

from sonar.chain._rpc import rpc
from sonar.chain.errors import RpcTooMuchError, RpcUnavailableError, TransactionFailedError
from sonar.chain.events import Event
from sonar.chain.logs import decode_log, event_topics
from sonar.units import CampaignId

if TYPE_CHECKING:
    from sonar.chain.client import SonarClient

__all__ = ["EventCursor", "Page", "campaign_events"]

_MANY = 8
"""After how many pages that a node gave at once it is asked for larger ones again."""


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
    of the newest blocks. `page` is how many blocks are asked for at once; a node that finds this too much, or whose
    answer would be too large or take too long, is asked for fewer: anybody may fill blocks with events.
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
        self._page = self._longest = page
        self._given = 0

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
        """The page from `start` to `end`, or as much of it as the node gives at once."""
        logs, end = self._as_much_as_given(start, end)
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

    def _as_much_as_given(self, start: int, end: int) -> tuple[list[LogReceipt], int]:
        """The logs from `start` on, and the block up to which they are; it is asked for less until the node gives any.

        So much is asked for next time as well, and twice as much after some pages: what was too much may be over.
        """
        while True:
            try:
                logs = self._logs(start, end)
            except (TransactionFailedError, RpcTooMuchError) as error:
                if start == end:
                    raise
                # One that does not answer in time is not to be waited for too often.
                self._page = max((end - start + 1) // (4 if isinstance(error, RpcTooMuchError) else 2), 1)
                self._given = 0
                end = start + self._page - 1
            else:
                self._given += 1
                if self._given % _MANY == 0:
                    self._page = min(2 * self._page, self._longest)
                return logs, end

    def _logs(self, start: int, end: int) -> list[LogReceipt]:
        wanted: dict[str, Any] = {
            "address": self._client.address,
            "fromBlock": start,
            "toBlock": end,
            "topics": self._topics,
        }
        with rpc(self._client.web3):
            return list(self._client.web3.eth.get_logs(FilterParams(**wanted)))  # type: ignore[typeddict-item]


def campaign_events(client: "SonarClient", campaign: CampaignId, start_block: int) -> list[Event]:
    """All events of one campaign from `start_block` to the latest block."""
    return EventCursor(client, start_block, campaign=campaign).read()
