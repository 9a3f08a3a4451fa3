"""Why this mine's gradients were judged as they were, noted down in the ledger: by the chain's events where they say
it, else by their Capsule, once it has told it.
"""

from typing import TYPE_CHECKING

from mine.ledger import Ledger
from mine.policy.finding import many
from mine.records import JUDGED, State, Submission
from sonar.chain.client import SonarClient
from sonar.chain.records import Verdict
from sonar.config import Network
from sonar.protocol.messages import Domain

if TYPE_CHECKING:
    from capsule.reasons import Reasons

__all__ = ["explain", "reasons_of", "shortage"]


def reasons_of(network: Network, client: SonarClient) -> "Reasons | None":
    """What asks the network's Capsule; None where the network does not say where that is."""
    if network.capsule_url is None:
        return None
    from capsule.client import CapsuleClient
    from capsule.reasons import Reasons

    return Reasons(CapsuleClient(network.capsule_url, Domain(client.chain_id, client.address)))


def shortage(ledger: Ledger, submission: Submission) -> str | None:
    """That a judged gradient was left out because too few came into its round, however good it was; None if enough."""
    if submission.state not in JUDGED or submission.verdict is not Verdict.LEFT_OUT:
        return None
    least = ledger.quorum(submission.campaign)
    came = ledger.gradients_in(submission.campaign, submission.round)
    if came >= least:
        return None
    return f"left out: too few mines took part, the round had {many(came, 'gradient')} of the {least} it needs"


def explain(ledger: Ledger, reasons: "Reasons | None", submission: Submission) -> Submission:
    """The submission, if it is judged with why as its note; the Capsule is asked where the chain does not say it."""
    if submission.state not in JUDGED or submission.note:
        return submission
    if (few := shortage(ledger, submission)) is not None:
        return ledger.note(submission, few)
    if submission.state is not State.SETTLED or reasons is None or submission.index is None:
        return submission
    assert submission.verdict is not None
    reason = reasons.why(submission.campaign, submission.round, submission.index, submission.verdict)
    return ledger.note(submission, reason) if reason else submission
