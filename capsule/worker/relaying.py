"""Brings signed settlements on chain: one account, one stream of nonces, several transactions under way at once.

A transaction is stored before it is sent, and a stored one decides what happens next, whoever reads it after which
crash: mined, it is done; its nonce used by another one, it is void; unknown to the node, it is sent again as it is; too
long unmined while the chain asks for more, it is replaced under the same nonce at a higher fee. So each settlement has
at most one transaction that can still be mined, and the contract takes each settlement once in any case.
"""

import logging
from collections.abc import Sequence
from itertools import groupby

from capsule.parts import Capsule
from capsule.state import Relay, StoredRound
from capsule.worker.apart import Apart
from capsule.worker.calling import Caller, Place
from capsule.worker.patience import Patience
from capsule.worker.sending import Sender, short
from capsule.worker.tally import Tally
from sonar.chain.client import Receipt
from sonar.chain.errors import ChainError, ContractRevertError, RpcUnavailableError
from sonar.chain.events import RoundSettled
from sonar.chain.lookups import Block
from sonar.units import CampaignId

__all__ = ["Relayer"]

_log = logging.getLogger("capsule.worker.relaying")

_RACES = {"Sonar_WrongRound", "Sonar_WrongStatus", "Sonar_RoundOpen", "Sonar_RoundEmpty", "Sonar_CampaignUnknown"}
"""The contract's refusals of a settlement that mean that somebody was faster, or that the chain's clock is behind."""
_ALIVE = {"intent", "sent", "mined"}
_LOOKS = 3
"""How often a nonce must be found used by an unknown transaction, or a transaction unwanted, until that is believed:
receipts come a little after the nonce, and one of several nodes at an address may lag behind."""
_FIRST_WAIT, _LONGEST_WAIT = 30.0, 3600.0
"""Seconds before a settlement that was reverted is tried again, doubled each time."""


class Relayer:
    """Relays what is signed and not final. Only one of all workers may step at a time."""

    def __init__(self, capsule: Capsule, tally: Tally) -> None:
        self._capsule, self._tally = capsule, tally
        self._used_by_others: dict[int, int] = {}
        self._unwanted: dict[int, int] = {}
        self._taken_back: set[int] = set()
        self._gap_looks = 0
        self._refused: dict[Place, Patience] = {}
        self._problems: dict[str, str] = {}
        self._caller = Caller(capsule, lambda campaign, problem: self._tell(campaign.hex(), problem))
        self._sender = Sender(capsule, tally, self._caller, self._tell)

    @property
    def problems(self) -> dict[str, str]:
        """What keeps settlements from the chain, by campaign, or `fees` and `funds` for all of them."""
        return dict(self._problems)

    def step(self, tip: Block) -> None:
        """Looks after every transaction that is under way, and sends those that are missing.

        `tip` is the block up to which events are read. Raises RpcUnavailableError where the chain does not answer,
        TransactionFailedError where the node refuses all that is sent: another worker's node may take it.
        """
        state = self._capsule.state
        waiting = state.unsettled()
        self._tally.unsettled.value = len(waiting)
        self._problems, apart = {}, Apart()
        self._sender.begin()
        self._reopen(waiting)
        open_relays = state.open_relays()
        if open_relays:
            used = self._capsule.chain.used_nonce()
            self._close_gap(open_relays, used)
            for nonce, group in groupby(open_relays, key=lambda relay: relay.nonce):
                with apart.each(f"nonce {nonce}"):
                    self._look_after(nonce, list(group), used)
        self._refused = {place: self._refused[place] for place in map(_place, waiting) if place in self._refused}
        self._send_missing(waiting, tip, apart)
        apart.tell()
        self._sender.check()

    # ---- what is under way

    def _reopen(self, waiting: Sequence[tuple[CampaignId, StoredRound]]) -> None:
        """Mined transactions whose block the chain took back may be mined again."""
        self._taken_back = set()
        for campaign, stored in waiting:
            for relay in self._relays(campaign, stored):
                if relay.state == "mined" and self._capsule.chain.receipt(relay.hash) is None:
                    _log.warning(
                        "the settlement of round %d of %s is not on chain any more", stored.round, short(campaign)
                    )
                    self._capsule.state.set_relay(relay.hash, "sent")
                    self._taken_back.add(relay.nonce)

    def _look_after(self, nonce: int, group: list[Relay], used: int) -> None:
        """`group` holds the transactions with this nonce, the last one offering the most."""
        chain, newest = self._capsule.chain, group[-1]
        for relay in group:
            if (receipt := chain.receipt(relay.hash)) is not None:
                self._mined(relay, receipt, group)
                return
        if nonce < used:
            self._look_for_another(nonce, group)
            return
        self._used_by_others.pop(nonce, None)
        if chain.knows(newest.hash):
            self._unwanted.pop(nonce, None)
            if self._sender.is_outbid(newest):
                self._sender.replace(newest)
            elif newest.state == "intent":
                self._capsule.state.set_relay(newest.hash, "sent")
        elif self._caller.call((newest.campaign, newest.round, newest.head)) is not None:
            self._unwanted.pop(nonce, None)
            refusal = self._sender.send(newest, group)
            if refusal is not None and self._sender.is_outbid(newest, refusal):
                self._sender.replace(newest)
        elif nonce in self._taken_back or self._is_believed(self._unwanted, nonce):
            self._void(group)  # nobody has it, and the chain does not want it any more: its nonce is free

    def _close_gap(self, open_relays: Sequence[Relay], used: int) -> None:
        """Gives up what waits behind a nonce that nobody will use: the chain took back what had it."""
        missing, nonces = used, {relay.nonce for relay in open_relays}
        while missing in nonces:
            missing += 1
        beyond = [relay for relay in open_relays if relay.nonce > missing]
        self._gap_looks = self._gap_looks + 1 if beyond and self._capsule.chain.next_nonce() <= missing else 0
        if self._gap_looks < _LOOKS:
            return
        self._gap_looks = 0
        _log.warning("nothing has nonce %d: signing the settlements behind it again", missing)
        self._void(beyond)

    def _void(self, relays: Sequence[Relay]) -> None:
        for relay in relays:
            self._capsule.state.set_relay(relay.hash, "replaced")

    def _mined(self, relay: Relay, receipt: Receipt, group: Sequence[Relay]) -> None:
        state, tally = self._capsule.state, self._tally
        settled = receipt.succeeded and any(
            isinstance(event, RoundSettled) and (event.id, event.round) == (relay.campaign, relay.round)
            for event in receipt.events
        )
        state.set_relay(relay.hash, "mined" if settled else "failed")
        self._void([other for other in group if other.hash != relay.hash])
        self._used_by_others.pop(relay.nonce, None)
        tally.gas_spent.add(receipt.gas_used)
        tally.wei_spent.add(receipt.gas_used * receipt.gas_price)
        where = {"campaign": "0x" + relay.campaign.hex(), "round": relay.round}
        if settled:
            tally.rounds_settled.add()
            _log.info("settled round %d of %s in block %d", relay.round, short(relay.campaign), receipt.block,
                      extra=where)  # fmt: skip
        elif not receipt.succeeded:
            tally.relay_failures.add()
            _log.warning("the settlement of round %d of %s was reverted in block %d: somebody may have been faster",
                         relay.round, short(relay.campaign), receipt.block, extra=where)  # fmt: skip

    def _look_for_another(self, nonce: int, group: Sequence[Relay]) -> None:
        """The nonce is used, and by none of these as far as the node knows; after a few looks that is believed."""
        if not self._is_believed(self._used_by_others, nonce):
            return
        self._tally.relay_failures.add()
        _log.warning("nonce %d was used by a transaction that this Capsule did not send: signing another one", nonce)
        self._void(group)

    @staticmethod
    def _is_believed(looks: dict[int, int], nonce: int) -> bool:
        """Whether that was found often enough by now, this time counted; it is counted anew then."""
        looks[nonce] = looks.get(nonce, 0) + 1
        return looks[nonce] >= _LOOKS and bool(looks.pop(nonce))

    # ---- what is missing

    def _send_missing(self, waiting: Sequence[tuple[CampaignId, StoredRound]], tip: Block, apart: Apart) -> None:
        for campaign, stored in waiting:
            with apart.each(f"round {stored.round} of {short(campaign)}"):
                if self._is_due(campaign, stored) and not self._send_first(campaign, stored, tip):
                    return

    def _send_first(self, campaign: CampaignId, stored: StoredRound, tip: Block) -> bool:
        """Signs, stores and sends it; False where no other settlement can be sent now either."""
        place = (campaign, stored.round, stored.head)
        call = self._caller.call(place)
        if call is None:
            self._let_go(campaign, stored, tip)
            return True
        try:
            return self._sender.first(place, call)
        except RpcUnavailableError:
            raise
        except ChainError as error:
            self._refuse(place, error)
            return True

    def _let_go(self, campaign: CampaignId, stored: StoredRound, tip: Block) -> None:
        """Waits no longer for the chain to take it where the campaign has gone on without it."""
        try:
            present = self._capsule.chain.round(campaign, block=tip.number)
        except ContractRevertError:
            return
        if present.number > stored.round and self._capsule.state.expire(
            campaign, stored.round, stored.head, tip.number
        ):
            _log.warning("round %d of %s was over before its settlement was signed", stored.round, short(campaign))

    def _is_due(self, campaign: CampaignId, stored: StoredRound) -> bool:
        relays = self._relays(campaign, stored)
        if any(relay.state in _ALIVE for relay in relays):
            return False
        refused = self._refused.get((campaign, stored.round, stored.head))
        if refused is not None and not refused.is_over:
            self._problems[campaign.hex()] = refused.problem
            return False
        failed = [relay for relay in relays if relay.state == "failed"]
        if not failed:
            return True
        wait = min(_FIRST_WAIT * 2.0 ** min(len(failed) - 1, 32), _LONGEST_WAIT)
        return self._capsule.clock() - failed[-1].time >= wait

    def _refuse(self, place: Place, error: ChainError) -> None:
        """The contract or the node does not take it now."""
        if isinstance(error, ContractRevertError) and error.name in _RACES:
            _log.info("round %d of %s: %s", place[1], short(place[0]), error)
            return
        self._refused.setdefault(place, Patience(_FIRST_WAIT, _LONGEST_WAIT)).fail(str(error))
        self._tally.relay_failures.add()
        self._problems[place[0].hex()] = str(error)
        _log.warning("the settlement of round %d of %s is refused: %s", place[1], short(place[0]), error)

    def _tell(self, what: str, problem: str) -> None:
        self._problems[what] = problem

    def _relays(self, campaign: CampaignId, stored: StoredRound) -> list[Relay]:
        return [relay for relay in self._capsule.state.relays(campaign, stored.round) if relay.head == stored.head]


def _place(waiting: tuple[CampaignId, StoredRound]) -> Place:
    campaign, stored = waiting
    return campaign, stored.round, stored.head
