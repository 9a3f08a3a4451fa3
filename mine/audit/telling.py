"""What the audit log tells of a gradient at each station of its life: who asked, what was released, what it brought."""

from collections.abc import Mapping
from typing import Any, Final

from mine.records import State, Submission, token_or_none
from sonar.units import Address

__all__ = ["KINDS", "TAKEN_BACK", "facts_of", "kind_of"]

KINDS: Final[Mapping[State, str]] = {
    State.TRAINED: "trained",
    State.SENT: "posted",
    State.SETTLED: "judged",
    State.EXPIRED: "expired",
    State.MISSED: "missed",
}
"""The kind of entry with which a submission comes into a state; other states are the ledger's own affair."""


TAKEN_BACK: Final = "taken back"
"""The kind of entry for a posted gradient whose block the chain took back."""


def kind_of(before: State | None, after: State) -> str | None:
    """The kind of entry that tells of a change of state; None for one that is not told."""
    if before is State.SENT and after is State.SIGNED:
        return TAKEN_BACK
    return None if before is after else KINDS.get(after)


def facts_of(submission: Submission, owner: Address, token: Address) -> dict[str, Any]:
    """The facts of a submission that has just come into its state, in a campaign of `owner` that pays in `token`."""
    facts: dict[str, Any] = {"campaign": submission.campaign, "round": submission.round}
    match submission.state:
        case State.TRAINED:
            facts |= {
                "owner": owner, "version": submission.version, "dataset": submission.dataset,
                "gradient": submission.gradient, "artifact": submission.artifact.digest, "bond_wei": submission.bond,
            }  # fmt: skip
        case State.SENT | State.SIGNED:
            facts |= {
                "owner": owner, "gradient": submission.gradient, "index": submission.index,
                "transaction": submission.hash,
            }  # fmt: skip
        case State.SETTLED:
            assert submission.verdict is not None
            facts |= {
                "verdict": submission.verdict.name.lower(), "share_ppm": submission.share,
                "payout_wei": submission.payout, "token": token_or_none(token),
                "bond_returned_wei": submission.bond_returned, "bond_lost_wei": submission.bond_lost,
            }  # fmt: skip
        case State.EXPIRED:
            facts |= {"bond_returned_wei": submission.bond_returned}
        case State.MISSED:
            facts |= {"reason": submission.note}
    return facts
