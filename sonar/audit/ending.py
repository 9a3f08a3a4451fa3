"""Where a campaign stands after its last event: the contract's own record, and the conservation of bounty and bonds."""

from dataclasses import replace
from typing import TYPE_CHECKING

from sonar.audit.money import due_of
from sonar.chain.events import GradientJudged
from sonar.chain.heads import entries_head
from sonar.chain.records import NATIVE, Entry, Status

if TYPE_CHECKING:
    from sonar.audit.chain import Fold

__all__ = ["check_end"]


def check_end(state: "Fold") -> None:
    """Compares what the events make with what the contract holds, and what went in with what came out."""
    _check_record(state)
    _check_round(state)
    _check_conservation(state)
    for key, times in state.keys.items():
        if times > 1:
            state.notes.differs("key", "campaign", f"the key 0x{key.hex()} serves more than one model version")


def _check_record(state: "Fold") -> None:
    notes, story, record, escrow = state.notes, state.story, state.story.record, state.escrow
    pairs = {
        "id": (record.id, story.campaign),
        "owner": (record.owner, state.owner),
        "offer to another owner": (story.pending_owner or NATIVE, state.offered_to),
        "oracle": (record.oracle, state.created.oracle),
        "status": (record.status.name, state.status.name),
        "start score": (record.start_score, state.created.admission.start_score),
        "score": (record.score, escrow.score),
        "base of the pay": (record.base, escrow.base),
        "version": (record.version, state.version),
        "bounty": (record.terms.bounty, escrow.bounty),
        "paid": (record.paid, escrow.paid),
    }
    for name, (holds, computed) in pairs.items():
        notes.compare("record", "campaign", f"the contract's {name}", holds, computed)
    terms = replace(state.created.terms, bounty=escrow.bounty)
    notes.require("record", "campaign", record.terms == terms, "the contract holds the terms of the start",
                  f"since the start, {_first_difference(record.terms, terms)}")  # fmt: skip


def _check_round(state: "Fold") -> None:
    """The round that takes gradients, or waits."""
    notes, held, pending = state.notes, state.story.round, state.pending
    pairs = {
        "round": (held.number, state.round),
        "settled rounds": (held.settled, state.settled),
        "gradients pending": (held.count, len(pending)),
    }
    if pending:
        entries = [Entry(one.mine, one.artifact, one.gradient) for one in pending]
        closes = state.closes_at()
        pairs |= {
            "first gradient's time": (held.opened_at, state.story.times[pending[0].block]),
            "end of the round": (held.closes_at, closes),
            "end of the time to settle": (held.expires_at, closes + state.created.terms.settlement_seconds),
        }
        head = entries_head(state.story.campaign, state.round, entries)
        notes.compare("entries", f"round {state.round}", "the head of the pending round", held.head, head)
    for name, (holds, computed) in pairs.items():
        notes.compare("record", "campaign", f"the contract's {name}", holds, computed)


def _check_conservation(state: "Fold") -> None:
    notes, story, terms = state.notes, state.story, state.created.terms
    pending = terms.bond * len(state.pending)
    notes.compare("conservation", "campaign", "what was returned, lost, given back and is still held of the bonds",
                  state.returned + state.lost + state.expired + pending, state.posted)  # fmt: skip
    earned = sum(event.payout for event in story.events if isinstance(event, GradientJudged))
    notes.compare("conservation", "campaign", "what mines were credited", earned, state.escrow.paid)
    # What mines and owners are credited for this and all other campaigns comes to it.
    rest = 0 if state.status is Status.CLOSED else state.escrow.bounty - state.escrow.paid
    for token, due in due_of(terms.token, rest, pending).items():
        held = story.held.get(token, 0)
        notes.require("conservation", "campaign", held >= due,
                      f"the contract has what this campaign must still pay, {_amount(due, token)}",
                      f"the contract has {_amount(held, token)}, and this campaign alone must still pay "
                      f"{_amount(due, token)}")  # fmt: skip


def _amount(amount: int, token: str) -> str:
    return f"{amount} wei" if token == NATIVE else f"{amount} of token {token}"


def _first_difference(found: object, wanted: object) -> str:
    for name in getattr(found, "__dataclass_fields__", {}):
        if getattr(found, name) != getattr(wanted, name):
            return f"{name} is {getattr(found, name)}, was {getattr(wanted, name)}"
    return "none"
