"""What the chain says about all campaigns together: for `sonar campaigns`, `sonar stats` and short ids."""

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
from sonar.errors import ConfigError
from sonar.units import Address, CampaignId

__all__ = ["campaign_rows", "find_campaign", "totals"]

_SHORTEST = 4
_WHOLE = 64
"""Hexadecimal digits of an id."""


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


def find_campaign(client: SonarClient, start_block: int, text: str) -> CampaignId:
    """The campaign whose id is `text`, or begins with it, 4 digits at least; raises ConfigError for none and several.

    A whole id is not looked for.
    """
    digits = text.lower().removeprefix("0x")
    if set(digits) - set("0123456789abcdef") or not _SHORTEST <= len(digits) <= _WHOLE:
        raise ConfigError(
            f"{text!r:.100} is not a campaign's id: give 0x and its 64 hexadecimal digits, or the first "
            f"{_SHORTEST} or more (`sonar campaigns`)"
        )
    if len(digits) == _WHOLE:
        return CampaignId(bytes.fromhex(digits))
    created = (event for event in EventCursor(client, start_block).read() if isinstance(event, CampaignCreated))
    found = list(dict.fromkeys(event.id for event in created if event.id.hex().startswith(digits)))
    if len(found) == 1:
        return found[0]
    if not found:
        raise ConfigError(
            f"the id of no campaign on contract {client.address} begins with 0x{digits}: `sonar campaigns` lists them"
        )
    some = ", ".join(f"0x{one.hex()[: len(digits) + 8]}" for one in found[:4]) + (", ..." if len(found) > 4 else "")
    raise ConfigError(f"the ids of {len(found)} campaigns begin with 0x{digits} ({some}): give more digits")


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
