"""An audit from beginning to end: read the chain at one block, fold it, fetch and compute again."""

from sonar.audit.artifacts import Places, check_artifacts
from sonar.audit.chain import fold
from sonar.audit.report import Notes, Report
from sonar.audit.story import Story, read_story
from sonar.chain.client import SonarClient
from sonar.storage.base import ContentStore
from sonar.units import CampaignId

__all__ = ["audit_campaign", "audit_story"]


def audit_campaign(
    client: SonarClient,
    store: ContentStore,
    campaign: CampaignId,
    *,
    start_block: int,
    places: Places | None = None,
    allow_insecure_small_key: bool = False,
) -> Report:
    """Audits one campaign (its id, 32 bytes) as it stands, from the events since `start_block` and what `store` has.

    No key is needed, and `client` needs no account. `places` says where published gradients are, by the round's number,
    for those beyond `cids.RAW_BLOCK` bytes, which their digest does not locate; small keys are for tests.
    What the store has not, or has otherwise, is a finding. Raises ChainError where the node cannot be read.

    >>> report = audit_campaign(
    ...     sonar.client, sonar.store, closed.id, start_block=sonar.network.start_block, allow_insecure_small_key=True)
    >>> [finding.check for finding in report.differences]
    []
    """
    story = read_story(client, campaign, start_block)
    return audit_story(story, store, places=places, allow_insecure_small_key=allow_insecure_small_key)


def audit_story(
    story: Story, store: ContentStore, *, places: Places | None = None, allow_insecure_small_key: bool = False
) -> Report:
    """The same of what a node told."""
    notes = Notes()
    created, rounds = fold(story, notes)
    if created is not None:
        check_artifacts(created, rounds, store, notes, places=places, allow_insecure_small_key=allow_insecure_small_key)
    return Report(story.campaign, story.block, tuple(notes.findings), None if created is None else created.oracle)
