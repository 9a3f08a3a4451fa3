"""The hash chain over a round's gradients, whose head the contract keeps and a settlement names."""

from collections.abc import Iterable

from eth_utils.crypto import keccak

from sonar.chain.records import Entry
from sonar.units import CampaignId

__all__ = ["entries_head"]

_WORD = 32


def entries_head(campaign: CampaignId, round: int, entries: Iterable[Entry]) -> bytes:  # noqa: A002
    """The head of a round's hash chain over its entries, as the contract computes it.

    Each link is Keccak-256 over words of 32 bytes, as the ABI writes them: (campaign, round), then for each entry (head
    so far, mine, artifact, gradient). Raises ValueError for what is of another length: other words could join to the
    same bytes.
    """
    head = _link(campaign, round.to_bytes(32, "big"))
    for entry in entries:
        mine = bytes.fromhex(entry.mine.removeprefix("0x"))
        head = _link(head, bytes(12) + mine, entry.artifact, entry.gradient)
    return head


def _link(*words: bytes) -> bytes:
    if any(len(word) != _WORD for word in words):
        raise ValueError(f"a word of the ABI has {_WORD} bytes, and these have {[len(word) for word in words]}")
    return keccak(b"".join(words))
