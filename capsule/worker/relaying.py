"""Brings signed settlements on chain: one account, one stream of nonces, several transactions under way at once.

A transaction is stored before it is sent, and a stored one decides what happens next, whoever reads it after which
crash: mined, it is done; its nonce used by another one, it is void; unknown to the node, it is sent again as it is; too
long unmined, it is replaced under the same nonce at a higher fee. So each settlement has at most one transaction that
can still be mined, and the contract takes each settlement once in any case.
"""

import logging
from collections.abc import Sequence
from itertools import groupby

from capsule.parts import Capsule
from capsule.state import Relay, StoredRound
from capsule.wire import RoundReply
from capsule.worker.basis import continues
from capsule.worker.patience import Patience
from capsule.worker.tally import Tally
from sonar.chain.calls import Call, EncodedCall, settle_round
from sonar.chain.client import Receipt, SignedTransaction, entries_head
from sonar.chain.errors import (
    ChainError,
    ContractRevertError,
    FeeLimitError,
    RpcUnavailableError,
    TransactionFailedError,
    UnfundedAccountError,
)
from sonar.chain.events import RoundSettled
from sonar.chain.fees import Fees
from sonar.chain.records import Settlement
from sonar.units import CampaignId, Wei

__all__ = ["Relayer"]

_log = logging.getLogger("capsule.worker.relaying")

_RACES = {"Sonar_WrongRound", "Sonar_WrongStatus", "Sonar_RoundOpen", "Sonar_RoundEmpty", "Sonar_CampaignUnknown"}
"""The contract's refusals of a settlement that mean that somebody was faster, or that the chain's clock is behind."""
_ALIVE = {"intent", "sent", "mined"}
_LOOKS = 3
"""How often a nonce must be found used by an unknown transaction: receipts come a little after the nonce."""
_FIRST_WAIT, _LONGEST_WAIT = 30.0, 3600.0
"""Seconds before a settlement that was reverted is tried again, doubled each time."""

_Place = tuple[CampaignId, int, bytes]
"""A settlement's campaign, round and head."""


class Relayer:
    """Relays what is signed and not final. Only one of all workers may step at a time."""

    def __init__(self, capsule: Capsule, tally: Tally) -> None:
        self._capsule, self._tally = capsule, tally
        self._used_by_others: dict[int, int] = {}
        self._gap_looks = 0
        self._refused: dict[_Place, Patience] = {}
        self._problems: dict[str, str] = {}

    @property
    def problems(self) -> dict[str, str]:
        """What keeps settlements from the chain, by campaign, or `fees` and `funds` for all of them."""
        return dict(self._problems)

    def step(self) -> None:
        """Looks after every transaction that is under way, and sends those that are missing.

        Raises RpcUnavailableError where the chain does not answer.
        """
        state = self._capsule.state
        waiting = state.unsettled()
        self._tally.unsettled.value = len(waiting)
        self._problems = {}
        self._reopen(waiting)
        open_relays = state.open_relays()
        if open_relays:
            used = self._capsule.chain.used_nonce()
            self._close_gap(open_relays, used)
            for nonce, group in groupby(open_relays, key=lambda relay: relay.nonce):
                self._look_after(nonce, list(group), used)
        self._refused = {place: self._refused[place] for place in map(_place, waiting) if place in self._refused}
        self._send_missing(waiting)

    # ---- what is under way

    def _reopen(self, waiting: Sequence[tuple[CampaignId, StoredRound]]) -> None:
        """Mined transactions whose block the chain took back may be mined again."""
        for campaign, stored in waiting:
            for relay in self._relays(campaign, stored):
                if relay.state == "mined" and self._capsule.chain.receipt(relay.hash) is None:
                    _log.warning(
                        "the settlement of round %d of %s is not on chain any more", stored.round, _short(campaign)
                    )
                    self._capsule.state.set_relay(relay.hash, "sent")

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
        if not chain.knows(newest.hash):
            if self._call((newest.campaign, newest.round, newest.head)) is not None:
                if not self._send(newest, group) and self._is_old(newest):
                    self._replace(newest)
            else:  # nobody has it, and the chain does not want it any more: its nonce is free
                self._void(group)
        elif self._is_old(newest):
            self._replace(newest)
        elif newest.state == "intent":
            self._capsule.state.set_relay(newest.hash, "sent")

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
        where = {"campaign": relay.campaign.hex(), "round": relay.round}
        if settled:
            tally.rounds_settled.add()
            _log.info("settled round %d of %s in block %d", relay.round, _short(relay.campaign), receipt.block,
                      extra=where)  # fmt: skip
        elif not receipt.succeeded:
            tally.relay_failures.add()
            _log.warning("the settlement of round %d of %s was reverted in block %d: somebody may have been faster",
                         relay.round, _short(relay.campaign), receipt.block, extra=where)  # fmt: skip

    def _look_for_another(self, nonce: int, group: Sequence[Relay]) -> None:
        """The nonce is used, and by none of these as far as the node knows; after a few looks that is believed."""
        looks = self._used_by_others.get(nonce, 0) + 1
        self._used_by_others[nonce] = looks
        if looks < _LOOKS:
            return
        del self._used_by_others[nonce]
        self._tally.relay_failures.add()
        _log.warning("nonce %d was used by a transaction that this Capsule did not send: signing another one", nonce)
        self._void(group)

    def _is_old(self, relay: Relay) -> bool:
        return self._capsule.clock() - relay.time >= self._capsule.policy.replace_seconds

    def _send(self, relay: Relay, group: Sequence[Relay] = ()) -> bool:
        """Sends a stored transaction; False where the node refuses it, and it may need a higher fee."""
        capsule = self._capsule
        try:
            capsule.chain.send(SignedTransaction(relay.raw, relay.hash, relay.nonce))
        except UnfundedAccountError as error:
            self._problems["funds"] = str(error)
            return False
        except TransactionFailedError as error:
            self._tally.relay_failures.add()
            self._problems[relay.campaign.hex()] = str(error)
            never_sent = relay.state == "intent" and len(group) <= 1
            if never_sent and capsule.chain.next_nonce() > relay.nonce:
                _log.warning(
                    "nonce %d waits in a transaction that this Capsule did not send: taking the next", relay.nonce
                )
                self._void([relay])
                return True
            return False
        capsule.state.set_relay(relay.hash, "sent")
        return True

    def _replace(self, former: Relay) -> None:
        """Stores and sends another transaction with the same nonce: the settlement, or nothing if it came too late."""
        chain = self._capsule.chain
        try:
            fees = chain.fee_market().offer(self._capsule.policy.highest_fee, Fees.of(former.raw))
        except FeeLimitError as error:
            self._problems["fees"] = str(error)
            return
        place = (former.campaign, former.round, former.head)
        try:
            signed = self._sign_again(place, former.nonce, fees)
        except UnfundedAccountError as error:
            self._problems["funds"] = str(error)
            return
        except TransactionFailedError as error:
            self._problems[former.campaign.hex()] = str(error)
            return
        self._tally.replacements.add()
        _log.info("replacing transaction %s at up to %d wei per gas", former.hash.hex(), fees.highest)
        self._send(self._store(place, signed, fees), [former])

    def _sign_again(self, place: _Place, nonce: int, fees: Fees) -> SignedTransaction:
        chain, call = self._capsule.chain, self._call(place)
        if call is not None:
            try:
                return chain.sign(call, nonce=nonce, fees=fees)
            except ContractRevertError as error:
                _log.info("round %d of %s: %s", place[1], _short(place[0]), error)
        return chain.sign(EncodedCall(self._capsule.address, b"", Wei(0)), nonce=nonce, fees=fees)

    # ---- what is missing

    def _send_missing(self, waiting: Sequence[tuple[CampaignId, StoredRound]]) -> None:
        nonce: int | None = None
        for campaign, stored in waiting:
            if not self._is_due(campaign, stored):
                continue
            place = (campaign, stored.round, stored.head)
            call = self._call(place)
            if call is None:
                continue
            if nonce is None:
                nonce = self._next_nonce()
            try:
                fees = self._capsule.chain.fee_market().offer(self._capsule.policy.highest_fee)
                signed = self._capsule.chain.sign(call, nonce=nonce, fees=fees)
            except FeeLimitError as error:
                self._problems["fees"] = str(error)
                return
            except UnfundedAccountError as error:
                self._problems["funds"] = str(error)
                return
            except RpcUnavailableError:
                raise
            except ChainError as error:
                self._refuse(place, error)
                continue
            self._send(self._store(place, signed, fees))
            nonce += 1

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

    def _refuse(self, place: _Place, error: ChainError) -> None:
        """The contract or the node does not take it now."""
        if isinstance(error, ContractRevertError) and error.name in _RACES:
            _log.info("round %d of %s: %s", place[1], _short(place[0]), error)
            return
        self._refused.setdefault(place, Patience(_FIRST_WAIT, _LONGEST_WAIT)).fail(str(error))
        self._tally.relay_failures.add()
        self._problems[place[0].hex()] = str(error)
        _log.warning("the settlement of round %d of %s is refused: %s", place[1], _short(place[0]), error)

    def _call(self, place: _Place) -> Call | None:
        """The settlement as a call; None while the chain's present round is another one."""
        campaign, number, head = place
        try:
            present = self._capsule.chain.round(campaign)
        except ContractRevertError:
            return None  # the chain took back the campaign's creation
        entries = [submission.entry for submission in self._capsule.state.submissions(campaign, number)]
        stored = self._capsule.state.round(campaign, number, head)
        if (present.number, present.head) != (number, head) or stored is None:
            return None
        if entries_head(campaign, number, entries) != head:
            return None  # not read yet, or not any more
        settlement, signature = RoundReply.model_validate_json(stored.settlement).settlement()
        if self._rewound() and not self._continues(stored, settlement):
            self._problems[campaign.hex()] = (
                f"round {number} was signed on a version that the chain took back: it can only expire"
            )
            return None
        return settle_round(settlement, entries, signature)

    def _continues(self, stored: StoredRound, settlement: Settlement) -> bool:
        present = self._capsule.chain.campaign(settlement.campaign).version
        return continues(self._capsule.state, stored, settlement, present)

    def _rewound(self) -> bool:
        """Whether the chain ever took something back: only then may a head stand on another version."""
        position = self._capsule.state.position()
        return position is not None and position.rewinds > 0

    def _store(self, place: _Place, signed: SignedTransaction, fees: Fees) -> Relay:
        """The transaction as it must be in the database before it is sent."""
        campaign, number, head = place
        relay = Relay(
            signed.hash, campaign, number, head, signed.nonce, signed.raw, fees.highest, fees.tip or 0,
            "intent", self._capsule.clock(),
        )  # fmt: skip
        self._capsule.state.add_relay(relay)
        return relay

    def _next_nonce(self) -> int:
        """Behind everything that waits: this Capsule's own transactions, also those that the node has dropped."""
        own = [relay.nonce + 1 for relay in self._capsule.state.open_relays()]
        return max([self._capsule.chain.next_nonce(), *own])

    def _relays(self, campaign: CampaignId, stored: StoredRound) -> list[Relay]:
        return [relay for relay in self._capsule.state.relays(campaign, stored.round) if relay.head == stored.head]


def _place(waiting: tuple[CampaignId, StoredRound]) -> _Place:
    campaign, stored = waiting
    return campaign, stored.round, stored.head


def _short(campaign: CampaignId) -> str:
    return campaign.hex()[:16]
