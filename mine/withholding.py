"""Why a gradient that is trained and not signed yet is given up: its owner thought better of it, or of the data."""

from mine.data import Dataset
from mine.ledger import Ledger
from mine.policy import Policy
from mine.records import Submission

__all__ = ["agreement", "withheld"]


def agreement(policy: Policy, dataset: Dataset) -> str:
    """What a gradient is trained under, in two words: the rules, and the data set as its owner added it."""
    return f"{policy.release_digest} {dataset.digest}"


def withheld(ledger: Ledger, submission: Submission, policy: Policy) -> str | None:
    """Why a gradient is not to be posted any more; None where all is as it was when it was trained."""
    word = ledger.approval(submission.campaign)
    if word is not None and not word.approved:
        return "the campaign was denied after it was trained"
    name = submission.dataset
    dataset = next((one for one in ledger.datasets() if one.name == name), None)
    if dataset is None:
        return f"the data set {name!r} was removed after it was trained"
    rules, _, data = submission.rules.partition(" ")
    if rules != policy.release_digest:
        return "what the policy says of campaigns, data or privacy was changed after it was trained"
    if data != dataset.digest:
        return f"the data set {name!r} is another one since it was trained"
    return None
