"""Giving up a round that nobody settled within its window, so that the bonds in it come back and the next one opens."""

from mine.records import Aim, KnownCampaign, Purpose
from mine.sending import Sender
from sonar.chain.calls import expire_round
from sonar.chain.client import SonarClient, entries_head
from sonar.chain.cursor import campaign_events
from sonar.chain.errors import ChainError, ContractRevertError
from sonar.chain.events import GradientSubmitted
from sonar.chain.records import Entry

__all__ = ["expire"]

_OVERTAKEN = {"Sonar_WrongRound", "Sonar_RoundEmpty", "Sonar_WrongStatus"}
"""The contract's words for: somebody settled or expired it meanwhile."""


def expire(client: SonarClient, sender: Sender, campaign: KnownCampaign) -> bool:
    """Whether the campaign's present round was given up; raises ChainError."""
    present = client.round(campaign.id)
    if present.number != campaign.round or not 0 < present.expires_at <= client.now():
        return False
    entries = [
        Entry(event.mine, event.artifact, event.gradient)
        for event in campaign_events(client, campaign.id, campaign.block)
        if isinstance(event, GradientSubmitted) and event.round == present.number
    ]
    if entries_head(campaign.id, present.number, entries) != present.head:
        raise ChainError(f"the events of round {present.number} do not make its head: is the node in sync?")
    aim = Aim(Purpose.EXPIRE, campaign.id, present.number)
    try:
        sender.deliver(aim, expire_round(campaign.id, present.number, entries))
    except ContractRevertError as error:
        if error.name in _OVERTAKEN:
            return False
        raise
    return True
