"""Why this mine's gradients were judged as they were, noted down in the ledger once their Capsule has told it."""

from typing import TYPE_CHECKING

from mine.ledger import Ledger
from mine.records import State, Submission
from sonar.chain.client import SonarClient
from sonar.config import Network
from sonar.protocol.messages import Domain

if TYPE_CHECKING:
    from capsule.reasons import Reasons

__all__ = ["explain", "reasons_of"]


def reasons_of(network: Network, client: SonarClient) -> "Reasons | None":
    """What asks the network's Capsule; None where the network does not say where that is."""
    if network.capsule_url is None:
        return None
    from capsule.client import CapsuleClient
    from capsule.reasons import Reasons

    return Reasons(CapsuleClient(network.capsule_url, Domain(client.chain_id, client.address)))


def explain(ledger: Ledger, reasons: "Reasons | None", submission: Submission) -> Submission:
    """The submission, if it is judged with the Capsule's sentence as its note, unless that cannot be had now."""
    if submission.state is not State.SETTLED or submission.note or reasons is None:
        return submission
    assert submission.verdict is not None
    if submission.index is None:
        return submission
    reason = reasons.why(submission.campaign, submission.round, submission.index, submission.verdict)
    return ledger.note(submission, reason) if reason else submission
