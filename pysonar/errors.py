"""Errors of the data scientist's library; the tree is drawn here.

CampaignError
|-- ModelError             a model's description or start weights cannot be used
|-- ValidationSetError     the validation set does not fit the model
|-- TermsError             bounty, target or deadline cannot be kept
|-- AdmissionMismatchError the Capsule did not sign what it was asked to admit
|-- UnknownCampaignError   no such campaign on this contract
|-- NotOwnerError          the call is its owner's, and this account is another
`-- NotOverError           the campaign still runs, or a round still waits for its settlement

FewRecordsWarning is no error: the validation set is too small to tell mines apart.
"""

from sonar.errors import SonarError

__all__ = [
    "AdmissionMismatchError", "CampaignError", "FewRecordsWarning", "ModelError", "NotOverError", "NotOwnerError",
    "TermsError", "UnknownCampaignError", "ValidationSetError",
]  # fmt: skip


class CampaignError(SonarError):
    """What the data scientist asked for cannot be done: her input, or the state of her campaign."""

    exit_code = 10


class ModelError(CampaignError):
    """A model's description or its start weights cannot be used."""


class ValidationSetError(CampaignError):
    """The validation set does not fit the model, or cannot be scored."""


class TermsError(CampaignError):
    """A bounty, target, deadline or other term cannot be kept."""


class AdmissionMismatchError(CampaignError):
    """The Capsule's admission is not about what was sent, or not signed by the Capsule of this network."""


class UnknownCampaignError(CampaignError):
    """The contract holds no campaign with this id."""


class NotOwnerError(CampaignError):
    """Only the campaign's owner may do this."""


class NotOverError(CampaignError):
    """The campaign still runs, or a round still waits for its settlement."""


class FewRecordsWarning(UserWarning):
    """The validation set is so small that mines which raise the score by several points may go unpaid."""
