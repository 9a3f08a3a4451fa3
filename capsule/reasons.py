"""Why gradients were judged as they were, as a Capsule tells it: for people to read, and for nothing else.

No signature covers these sentences, and parts of some come out of a mine's own box, so what is shown is short and
printable, and only where it goes with a verdict that the chain has. Money never depends on them: a Capsule that does
not answer leaves a verdict without its reason, and is left alone for a while.
"""

import logging
import time
from collections.abc import Callable

from capsule.client import CapsuleClient
from capsule.errors import CapsuleError, CapsuleUnavailableError
from sonar.chain.records import Verdict
from sonar.units import CampaignId

__all__ = ["LONGEST_REASON", "Reasons"]

LONGEST_REASON = 300
_PATIENCE = 5.0
_PAUSE = 60.0
"""Seconds for which a Capsule that did not answer is not asked again."""
_CACHED = 1_000

_log = logging.getLogger("capsule.reasons")
_Told = tuple[tuple[Verdict, str], ...]


class Reasons:
    """The sentences of one Capsule, each round asked for once. `clock` is for tests."""

    def __init__(self, client: CapsuleClient, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._rounds: dict[tuple[CampaignId, int], _Told] = {}
        self._not_before: dict[tuple[CampaignId, int] | None, float] = {}

    def why(self, campaign: CampaignId, number: int, index: int, verdict: Verdict) -> str:
        """The sentence on the gradient at `index` of a settled round; empty if the Capsule gives this verdict none."""
        told = self._round(campaign, number)
        if index >= len(told):
            return ""
        said, reason = told[index]
        return reason if said is verdict else ""

    def close(self) -> None:
        """Closes the connections to the Capsule."""
        self._client.close()

    def _round(self, campaign: CampaignId, number: int) -> _Told:
        key, now = (campaign, number), self._clock()
        if key in self._rounds:
            return self._rounds[key]
        if any(now < self._not_before.get(place, now) for place in (None, key)):
            return ()
        try:
            report = self._client.round(campaign, number, seconds=_PATIENCE)
        except CapsuleError as error:
            _log.info("no reasons for round %d of 0x%s: %s", number, campaign.hex(), error)
            self._not_before[None if isinstance(error, CapsuleUnavailableError) else key] = now + _PAUSE
            return ()
        settlement = report.settlement
        if (settlement.campaign, settlement.round) != key:
            _log.info("no reasons for round %d of 0x%s: the Capsule told those of another", number, campaign.hex())
            self._not_before[key] = now + _PAUSE
            return ()
        while len(self._rounds) >= _CACHED:
            del self._rounds[next(iter(self._rounds))]
        self._rounds[key] = tuple(
            (outcome.verdict, _shown(reason))
            for outcome, reason in zip(settlement.outcomes, report.reasons, strict=True)
        )
        return self._rounds[key]


def _shown(text: str) -> str:
    """A stranger's sentence as one line: a terminal is told nothing but letters."""
    line = "".join(character if character.isprintable() else "?" for character in text[:LONGEST_REASON])
    return line if len(text) <= LONGEST_REASON else line[:-3] + "..."
