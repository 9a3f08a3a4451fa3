"""The campaigns of a Capsule as its database has them, for its operator. Nothing here needs the passphrase."""

from typing import Any

from capsule.notes import missed_problem, noted_problems
from capsule.state import State

__all__ = ["campaign_rows"]


def campaign_rows(state: State) -> list[dict[str, Any]]:
    """A row for each campaign on chain, the oldest first; times are Unix seconds, scores in ppm.

    `round` is the last round that was signed, `unsettled` how many signed settlements are not final, `problem` what
    stopped the worker at the campaign when it last looked, and `since` when that began.
    """
    problems, missed = noted_problems(state), state.missed()
    waiting = [campaign for campaign, _ in state.unsettled()]
    rows = []
    for known in state.campaigns():
        version, signed = state.version(known.campaign), state.rounds(known.campaign)
        problem, since = problems.get(known.campaign.hex(), (None, None))
        if known.campaign in missed:  # also where no worker has noted it yet
            problem = missed_problem(missed[known.campaign])
        rows.append({
            "campaign": "0x" + known.campaign.hex(),
            "state": "delivered" if known.delivered is not None else known.state,
            "version": None if version is None else version.number,
            "score_ppm": None if version is None else version.score,
            "round": max((stored.round for stored in signed), default=None),
            "unsettled": waiting.count(known.campaign),
            "problem": problem,
            "since": None if since is None else int(since),
        })  # fmt: skip
    return rows
