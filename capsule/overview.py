"""The campaigns of a Capsule as its database has them, for its operator. Nothing here needs the passphrase."""

from typing import Any

from capsule.notes import missed_problem, noted_problems
from capsule.state import State

__all__ = ["campaign_rows"]

_OFF_CHAIN = (
    "the chain was rolled back to before the campaign was created: it comes back with the blocks that create it again"
)


def campaign_rows(state: State) -> list[dict[str, Any]]:
    """A row for each campaign on chain, the oldest first; times are Unix seconds, scores in ppm.

    After them come, as `off chain`, those that the chain took back although rounds of theirs are signed. `round` is the
    last round that was signed, `unsettled` how many signed settlements are not final, `problem` what stopped the worker
    at the campaign when it last looked, and `since` when that began.
    """
    problems, missed = noted_problems(state), state.missed()
    waiting = [campaign for campaign, _ in state.unsettled()]
    states = {
        known.campaign: "delivered" if known.delivered is not None else known.state for known in state.campaigns()
    }
    off_chain = {campaign: "off chain" for campaign in waiting if campaign not in states}
    rows = []
    for campaign, shown in (states | off_chain).items():
        version, signed = state.version(campaign), state.rounds(campaign)
        problem, since = problems.get(campaign.hex(), (None, None))
        if campaign in missed:  # also where no worker has noted it yet
            problem = missed_problem(missed[campaign])
        elif campaign in off_chain:
            problem = _OFF_CHAIN
        rows.append({
            "campaign": "0x" + campaign.hex(),
            "state": shown,
            "version": None if version is None else version.number,
            "score_ppm": None if version is None else version.score,
            "round": max((stored.round for stored in signed), default=None),
            "unsettled": waiting.count(campaign),
            "problem": problem,
            "since": None if since is None else int(since),
        })  # fmt: skip
    return rows
