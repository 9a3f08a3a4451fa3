"""What the chain says about all campaigns together: for `sonar campaigns` and `sonar stats`."""

from collections import Counter
from typing import Any

from sonar.chain.client import SonarClient
from sonar.chain.cursor import EventCursor
from sonar.chain.events import (
    BountyRaised,
    CampaignCreated,
    CampaignTransferred,
    CampaignTransferStarted,
    GradientJudged,
    GradientSubmitted,
    RoundSettled,
)
from sonar.chain.records import NATIVE
from sonar.units import Address, CampaignId

__all__ = ["campaign_rows", "totals"]


def campaign_rows(client: SonarClient, start_block: int) -> list[dict[str, Any]]:
    """One row a campaign in order of creation; amounts in the token's smallest unit (wei), scores in ppm."""
    offered: dict[CampaignId, Address | None] = {}
    for event in EventCursor(client, start_block).read():
        match event:
            case CampaignCreated() | CampaignTransferred():
                offered[event.id] = None
            case CampaignTransferStarted():
                offered[event.id] = None if event.pending_owner == NATIVE else event.pending_owner
    rows = []
    for campaign, pending_owner in offered.items():
        record = client.campaign(campaign)
        rows.append({
            "id": "0x" + campaign.hex(),
            "owner": record.owner,
            "pending_owner": pending_owner,
            "status": record.status.name.lower(),
            "start_score_ppm": record.start_score,
            "score_ppm": record.score,
            "target_ppm": record.terms.target,
            "token": None if record.terms.token == NATIVE else record.terms.token,
            "bounty_wei": record.terms.bounty,
            "paid_wei": record.paid,
            "deadline": record.terms.deadline,
            "version": record.version,
        })  # fmt: skip
    return rows


def totals(client: SonarClient, start_block: int) -> dict[str, int]:
    """Counts over all campaigns, and wei over those that pay native coin."""
    counts: Counter[str] = Counter()
    native = set()
    for event in EventCursor(client, start_block).read():
        match event:
            case CampaignCreated():
                counts["campaigns"] += 1
                if event.terms.token == NATIVE:
                    native.add(event.id)
                    counts["bounty_wei"] += event.terms.bounty
            case BountyRaised():
                counts["bounty_wei"] += event.amount if event.id in native else 0
            case GradientSubmitted():
                counts["gradients"] += 1
            case GradientJudged():
                counts[event.verdict.name.lower()] += 1
            case RoundSettled():
                counts["rounds"] += 1
                counts["rounds_advanced"] += int(event.advances)
                counts["paid_wei"] += event.payout if event.id in native else 0
    verdicts = ("kept", "left_out", "unavailable", "invalid", "copy")
    names = ("campaigns", "rounds", "rounds_advanced", "gradients", *verdicts, "bounty_wei", "paid_wei")
    return {name: counts[name] for name in names}
