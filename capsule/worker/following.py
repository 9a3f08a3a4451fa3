"""Follows the chain: reads events behind enough confirmations, and forgets what the chain takes back.

What was read is stored with the hashes of the blocks that it was read at. Before each read the newest of them is
compared with the chain's; where it differs, everything since the last block that both share is forgotten and read
again, however long ago that was. Settlements that were signed stay signed.

A head that is lower than what was read is no change: a node that lags behind another one, or gives an old answer now
and then, is waited for. Blocks with other hashes are, and so is a chain that stays too short while nobody reads on,
because a node may once have shown blocks that no other has. A node that leaves out or invents events does no more than
stop the campaigns that it lies about: a round is judged only if its gradients make the head that the contract computed.
"""

import logging
import time
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

from capsule.parts import Capsule
from capsule.state import Final, Position, Submission, Told, Version
from capsule.state.posted import posted_head
from capsule.wire import RoundReply
from capsule.worker.anchor import DEVELOPMENT_CHAINS, check_anchor, held_fast
from capsule.worker.posted import submission_of
from capsule.worker.tally import Tally
from sonar.chain.cursor import EventCursor, Page
from sonar.chain.errors import RpcUnavailableError
from sonar.chain.events import (
    CampaignClosed,
    CampaignCreated,
    CampaignFinished,
    GradientSubmitted,
    RoundExpired,
    RoundSettled,
)
from sonar.chain.lookups import Block, find_block
from sonar.storage import Artifact
from sonar.units import CampaignId

__all__ = ["Follower", "confirmations_for"]

_log = logging.getLogger("capsule.worker.following")

_CONFIRMATIONS = 12
"""Deeper than any reorganisation of Ethereum since its merge, and of its Beacon chain before (7 blocks, May 2022), and
2.4 minutes, a small part of the shortest settlement window. Deeper ones cost work, not truth."""
_GONE_SECONDS = 600.0
"""How long a chain must have been shorter than what was read of it, while no worker read on, to count as changed. A
worker whose node stalls must not take back, again and again, what the others read from theirs."""
_CHECKPOINTS = 4096
"""How many blocks back checkpoints are kept; a history that changed before is read again from the contract's first."""


def confirmations_for(chain_id: int, wanted: int | None) -> int:
    """How many blocks must follow one before it is believed: as `wanted`, or what suits the chain."""
    if wanted is not None:
        return wanted
    return 0 if chain_id in DEVELOPMENT_CHAINS else _CONFIRMATIONS  # which take nothing back unless they are told to


class Follower:
    """Reads the contract's events into the database; one call of `follow` reads all that can be believed now."""

    def __init__(
        self, capsule: Capsule, start_block: int, tally: Tally, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._capsule, self._start_block, self._tally, self._monotonic = capsule, start_block, tally, monotonic
        self._confirmations = confirmations_for(capsule.chain.chain_id, capsule.policy.confirmations)
        self._behind: tuple[Position, float] | None = None
        self._anchor: bytes | None = None

    def follow(self) -> Block | None:
        """Reads on, and returns the block up to which everything is known; None before there is one.

        Raises RpcUnavailableError where the node lags behind, or answers what does not fit together, WrongChainError
        where it serves another chain than before.
        """
        anchor, self._anchor = self._anchor, None  # looked at again after whatever goes wrong
        last = self._follow(anchored=anchor is not None and anchor == held_fast(self._capsule.state))
        if last is not None:
            self._anchor = held_fast(self._capsule.state)
        return last

    def _follow(self, *, anchored: bool) -> Block | None:
        chain, state = self._capsule.chain, self._capsule.state
        head = find_block(chain)
        if head is None:
            raise RpcUnavailableError("the node has no latest block: is it in sync?")
        self._tally.head_block.value = head.number
        if not anchored:
            check_anchor(self._capsule, self._start_block, head.number - self._confirmations)
        self._forget_what_was_taken_back(head)
        position = state.position()
        first = self._start_block if position is None else position.block
        number = max(head.number - self._confirmations, first - 1)
        last = head if number == head.number else self._block(number)
        if last is None:
            return None
        cursor = EventCursor(chain, first)
        while (page := cursor.read_page(last.number)) is not None:
            told = self._told(page, last)
            if not state.follow(told, position):
                return self._read_by_others(last)
            position = state.position()
        if cursor.next_block > first:
            state.forget_checkpoints(last.number - _CHECKPOINTS)
        self._tally.followed_block.value = last.number
        return last

    def _read_by_others(self, last: Block) -> Block | None:
        """The block, where another process that was faster has read up to it; what it has not is read next time."""
        position = self._capsule.state.position()
        return last if position is not None and position.block > last.number else None

    def _block(self, number: int) -> Block | None:
        if number < 0:
            return None
        found = find_block(self._capsule.chain, number)
        if found is None:
            raise RpcUnavailableError(f"the node does not have block {number}, which it told of before: does it lag?")
        return found

    # ---- a history that changed

    def _forget_what_was_taken_back(self, head: Block) -> None:
        """Rewinds to the last block that the chain shares with what was read.

        Raises RpcUnavailableError while the chain is only shorter than what was read.
        """
        state = self._capsule.state
        position, newest = state.position(), state.checkpoints(limit=1)
        if position is None or not newest:
            return
        ((number, known),) = newest
        if number <= head.number:
            self._behind = None
            if known == head.hash or self._is_on_chain(number, known):
                return
        shared = self._last_shared(head)
        if number > head.number and shared == self._newest_up_to(head.number):
            self._wait_for(head, number, position)
        self._behind = None
        if state.rewind(shared + 1, position):
            self._tally.reorganisations.add()
            _log.warning("the chain took back what was read up to block %d: reading on from %d", number, shared + 1)

    def _is_on_chain(self, number: int, known: bytes) -> bool:
        block = self._block(number)
        return block is not None and block.hash == known

    def _last_shared(self, head: Block) -> int:
        """The highest block read that the chain still has; the one before the first if there is none.

        Which of two chains a block belongs to changes once along them, so halving finds the place.
        """
        known = sorted(pair for pair in self._capsule.state.checkpoints(_CHECKPOINTS * 2) if pair[0] <= head.number)
        first_lost = bisect_left(known, True, key=lambda pair: not self._is_on_chain(*pair))
        return known[first_lost - 1][0] if first_lost else self._start_block - 1

    def _newest_up_to(self, number: int) -> int:
        known = [found for found, _ in self._capsule.state.checkpoints(_CHECKPOINTS * 2) if found <= number]
        return max(known, default=self._start_block - 1)

    def _wait_for(self, head: Block, number: int, position: Position) -> None:
        """Raises RpcUnavailableError until the chain has been too short for too long, with nobody reading on."""
        now = self._monotonic()
        if self._behind is None or self._behind[0] != position:
            self._behind = (position, now)
        if now - self._behind[1] < _GONE_SECONDS:
            raise RpcUnavailableError(
                f"the node is at block {head.number}, but {number} was read already: does it lag behind another one?"
            )

    # ---- what the chain tells

    def _told(self, page: Page, last: Block) -> Told:
        """What a page tells of this Capsule's campaigns; raises RpcUnavailableError if the chain changed meanwhile."""
        admitted: dict[CampaignId, bool] = {}
        ours = []
        for event in page.events:
            campaign = getattr(event, "id", None)
            if campaign is not None and campaign not in admitted:
                admitted[campaign] = self._capsule.state.knows(campaign)
            if campaign is not None and admitted[campaign]:
                ours.append(event)
        submissions = [(event.id, submission_of(event)) for event in ours if isinstance(event, GradientSubmitted)]
        reader = _FinalReader(self._capsule, submissions)
        settled = [(event, reader.read(event)) for event in ours if isinstance(event, RoundSettled)]
        return Told(
            page.last + 1,
            created=tuple((event.id, event.block) for event in ours if isinstance(event, CampaignCreated)),
            submitted=tuple(submissions),
            settled=tuple(final for _, final in settled if final is not None),
            missed=tuple(
                (event.id, event.round, event.block) for event, final in settled if final is None and event.advances
            ),
            expired=tuple((event.id, event.round, event.block) for event in ours if isinstance(event, RoundExpired)),
            over=tuple(
                (event.id, event.block) for event in ours if isinstance(event, CampaignFinished | CampaignClosed)
            ),
            checkpoints=self._checkpoints(page, last, {event.block for event in ours}),
            time=last.time,
        )

    def _checkpoints(self, page: Page, last: Block, told: set[int]) -> tuple[tuple[int, bytes], ...]:
        """The page's last block and those of its events; the chain must have them as the events said.

        A node shows one chain in an answer, so where the chain has the last of these blocks it has those before it.
        One that mixes two is found out where the gradients do not make the head that the contract computed, and a
        hash that is none has at most more read again than was taken back.
        """
        found = {number: page.hashes[number] for number in told}
        for number in {max(told, default=page.last), page.last}:
            block = self._block(number)
            expected = page.hashes.get(number, last.hash if number == last.number else None)
            if block is None or (expected is not None and block.hash != expected):
                raise RpcUnavailableError(f"block {number} changed while it was read: reading it again")
            found[number] = block.hash
        if last.number not in found and not self._is_on_chain(last.number, last.hash):
            raise RpcUnavailableError(f"block {last.number} changed while it was read: reading it again")
        return tuple(sorted(found.items()))


@dataclass
class _FinalReader:
    """Finds the signed settlement that a RoundSettled event is about, and the version that it brings."""

    capsule: Capsule
    page: list[tuple[CampaignId, Submission]]

    def __post_init__(self) -> None:
        self._versions: dict[CampaignId, int] = {}

    def read(self, event: RoundSettled) -> Final | None:
        """The settlement with its version; None for one that this database does not hold."""
        state = self.capsule.state
        head = self._head(event.id, event.round)
        stored = state.round(event.id, event.round, head)
        settlement = None if stored is None else RoundReply.model_validate_json(stored.settlement).settlement()[0]
        before = self._before(event.id)
        if stored is None or before is None or settlement is None or settlement.model != event.model:
            _log.error(
                "round %d of campaign %s was settled by what is not in this database: another Capsule has this "
                "account, or this is an old backup; there must never be two",
                event.round,
                event.id.hex(),
            )
            return None
        version = None
        if settlement.advances:
            model = Artifact(settlement.model_cid, settlement.model)
            version = Version(before + 1, settlement.score, settlement.key, model, stored.weights or b"")
            self._versions[event.id] = version.number
        return Final(event.id, event.round, stored.head, event.block, version)

    def _before(self, campaign: CampaignId) -> int | None:
        if campaign in self._versions:
            return self._versions[campaign]
        version = self.capsule.state.version(campaign)
        return None if version is None else version.number

    def _head(self, campaign: CampaignId, number: int) -> bytes:
        places = {one.index: one.entry for one in self.capsule.state.submissions(campaign, number)}
        places |= {one.index: one.entry for whose, one in self.page if whose == campaign and one.round == number}
        return posted_head(campaign, number, [places[index] for index in sorted(places)])
