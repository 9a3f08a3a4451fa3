"""Whether gradients stand in the database as their events told them, with CID and block, which no head binds."""

from collections.abc import Iterable

from capsule.errors import CapsuleError
from capsule.state import Submission
from sonar.chain.client import SonarClient
from sonar.chain.cursor import EventCursor
from sonar.chain.events import GradientSubmitted
from sonar.chain.records import Entry
from sonar.units import CampaignId

__all__ = ["check_on_chain", "submission_of"]


def submission_of(event: GradientSubmitted) -> Submission:
    """What an event tells of a gradient."""
    entry = Entry(event.mine, event.artifact, event.gradient)
    return Submission(event.round, event.index, entry, event.cid, event.block)


def check_on_chain(chain: SonarClient, campaign: CampaignId, submissions: Iterable[Submission]) -> None:
    """Raises CapsuleError unless the chain has just these gradients in their blocks, which it is asked for one by one.

    Whoever writes to the database could have a gradient sought where nobody put it otherwise, and its mine fined for
    that, or choose the block whose hash is the round's seed.
    """
    told: dict[int, set[Submission]] = {}
    for one in submissions:
        if one.block not in told:
            page = EventCursor(chain, one.block, campaign=campaign).read_page(one.block)
            events = () if page is None else page.events
            told[one.block] = {submission_of(event) for event in events if isinstance(event, GradientSubmitted)}
        if one not in told[one.block]:
            raise CapsuleError(
                f"gradient {one.index} of round {one.round} of campaign 0x{campaign.hex()} is not on chain as it is in "
                "the database: the chain took it back, or the database was changed; if this stays, restore a backup"
            )
