"""Errors of the data scientist's library; the tree is drawn here.

CampaignError
|-- ModelError             a model's description or start weights cannot be used
|-- ValidationSetError     the validation set does not fit the model
|-- TermsError             bounty, target or deadline cannot be kept
|-- AdmissionMismatchError the Capsule did not sign what it was asked to admit
|-- UnknownCampaignError   no such campaign on this contract
|-- NotOwnerError          the call is its owner's, and this account is another
|-- NotOpenError           the campaign does not say that much of its mines' parts
|-- NotOverError           the campaign still runs, or a round still waits for its settlement
`-- MissingExtraError      a library is not installed that only data frames and plots need

The first three are ValueErrors too, as numpy and scikit-learn have them.

Warnings, which are no errors:

FewRecordsWarning    the validation set is too small to tell mines apart
ColdStartWarning     the start model knows nothing, so the first round takes nearly all of the pay
"""

from sonar.errors import SonarError

__all__ = [
    "AdmissionMismatchError", "CampaignError", "ColdStartWarning", "FewRecordsWarning", "MissingExtraError",
    "ModelError", "NotOpenError", "NotOverError", "NotOwnerError", "TermsError", "UnknownCampaignError",
    "ValidationSetError",
]  # fmt: skip


class CampaignError(SonarError):
    """What the data scientist asked for cannot be done: her input, or the state of her campaign.

    >>> import pysonar
    >>> try:
    ...     pysonar.LinearClassifier(features=4, classes=1)
    ... except pysonar.CampaignError as error:
    ...     print(error)
    a model of 1 classes cannot be trained: give 2 to 256
    """

    exit_code = 10


class ModelError(CampaignError, ValueError):
    """A model's description or its start weights cannot be used."""


class ValidationSetError(CampaignError, ValueError):
    """The validation set does not fit the model, or cannot be scored."""


class TermsError(CampaignError, ValueError):
    """A bounty, target, deadline or other term cannot be kept."""


class AdmissionMismatchError(CampaignError):
    """The Capsule's admission is not about what was sent, or not signed by the Capsule of this network."""


class UnknownCampaignError(CampaignError):
    """The contract holds no campaign with this id."""


class NotOwnerError(CampaignError):
    """Only the campaign's owner may do this."""


class NotOpenError(CampaignError):
    """The campaign does not say that much of its mines' parts: its spec does not open them, or it has none."""


class NotOverError(CampaignError):
    """The campaign still runs, or a round still waits for its settlement."""


class MissingExtraError(CampaignError):
    """A library is not installed that only data frames and plots need."""


class FewRecordsWarning(UserWarning):
    """The validation set is so small that mines which raise the score by several points may go unpaid."""


class ColdStartWarning(UserWarning):
    """The start model knows nothing, so the first round takes nearly all of the pay."""
