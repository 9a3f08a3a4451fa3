"""The audit of a campaign, which needs no key: from chain and store, with the Capsule's word on where to look."""

from capsule.client import CapsuleClient, CapsuleError, CapsuleRefusedError
from sonar.audit import Report, audit_campaign
from sonar.chain.client import SonarClient
from sonar.storage.base import ContentStore
from sonar.units import CampaignId, Cid, Digest

__all__ = ["audit"]


def audit(
    client: SonarClient,
    store: ContentStore,
    campaign: CampaignId,
    *,
    start_block: int,
    capsule: CapsuleClient | None = None,
    allow_insecure_small_key: bool = False,
) -> Report:
    """As `sonar.audit.audit_campaign`; a Capsule is asked where it published the gradients that it kept.

    What it says is a hint, as every artifact must have the digest that the chain commits to; without it, gradients
    beyond 256 KiB are not found in a store that cuts contents into blocks.
    """

    answers = capsule is not None

    def places(number: int) -> dict[Digest, Cid]:
        nonlocal answers
        if capsule is None or not answers:
            return {}
        try:
            report = capsule.round(campaign, number)
        except CapsuleRefusedError:  # a gradient that is not found is told of as such
            return {}
        except CapsuleError:
            answers = False  # to wait for one that is down, or answers nonsense, takes the auditor's time
            return {}
        return {one.digest: one.cid for one in report.published if one is not None}

    return audit_campaign(
        client, store, campaign, start_block=start_block, places=places,
        allow_insecure_small_key=allow_insecure_small_key,
    )  # fmt: skip
