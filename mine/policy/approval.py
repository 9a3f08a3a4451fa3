"""The owner's own word on one campaign, given by `mine approve` or `mine deny`."""

from dataclasses import dataclass

from sonar.units import Address, CampaignId

__all__ = ["Approval"]


@dataclass(frozen=True, slots=True)
class Approval:
    """Whether this mine's owner wants the campaign, why, and whose it was then; `time` is Unix time."""

    campaign: CampaignId
    approved: bool
    reason: str
    owner: Address
    time: float
