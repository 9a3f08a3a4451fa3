"""The hash chain over a round's gradients, whose head the contract keeps and a settlement names."""

from collections.abc import Iterable

from eth_utils.crypto import keccak

from sonar.chain.records import Entry
from sonar.units import CampaignId

__all__ = ["entries_head"]


def entries_head(campaign: CampaignId, round: int, entries: Iterable[Entry]) -> bytes:  # noqa: A002
    """The head of a round's hash chain over its entries, as the contract computes it.

    Each link is Keccak-256 over words of 32 bytes, as the ABI writes them: (campaign, round), then for each entry (head
    so far, mine, artifact, gradient).
    """
    head = keccak(campaign + round.to_bytes(32, "big"))
    for entry in entries:
        head = keccak(head + bytes(12) + bytes.fromhex(entry.mine[2:]) + entry.artifact + entry.gradient)
    return head
