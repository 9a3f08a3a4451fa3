"""Getting a stored gradient on chain exactly once; the contract takes one per account and round in any case."""

from mine.ledger import Ledger
from mine.records import Aim, Purpose, State, Submission
from mine.sending import Sender
from sonar.chain.calls import Call, submit_gradient
from sonar.chain.client import Receipt, SonarClient
from sonar.chain.errors import ContractRevertError, TransactionFailedError
from sonar.chain.events import GradientSubmitted
from sonar.units import Address

__all__ = ["Poster", "aim_of"]

_TOO_LATE = {"Sonar_RoundClosed", "Sonar_WrongRound", "Sonar_DeadlinePassed", "Sonar_WrongStatus"}
"""The contract's words for: the round went on without this gradient."""


class Poster:
    """Moves submissions of one account from `stored` to `sent` or `missed`."""

    def __init__(self, client: SonarClient, ledger: Ledger, deployment: str, mine: Address, sender: Sender) -> None:
        self._client = client
        self._ledger = ledger
        self._deployment = deployment
        self._mine = mine
        self._sender = sender

    def advance(self, submission: Submission) -> Submission:
        """One attempt; returns the submission as it stands then, `sent` or `missed` when it is decided.

        Raises TransactionTimeoutError while the transaction waits to be mined, and whatever the chain raises.
        """
        aim = aim_of(submission)
        if submission.state is State.SIGNED and (receipt := self._sender.found(aim)) is not None:
            return self._mined(submission, receipt)
        if self._client.last_submission(submission.campaign, self._mine) == submission.round:
            return submission  # its event is on the way, and says at which position
        present = self._client.round(submission.campaign)
        if present.number != submission.round or not present.open:
            return self._too_late(submission)
        try:
            receipt = self._sender.deliver(
                aim, _call(submission), lambda signed: self._ledger.sign(submission, signed, self._deployment)
            )
        except ContractRevertError as error:
            return self._refused(submission, error)
        return self._mined(submission, receipt)

    def _too_late(self, submission: Submission) -> Submission:
        """Nothing can be sent any more; a transaction that is out there may still be mined, and then reverts."""
        if submission.state is State.STORED or not self._sender.under_way(aim_of(submission)):
            return self._ledger.miss(submission, "the round closed before it was posted")
        return submission

    def _mined(self, submission: Submission, receipt: Receipt) -> Submission:
        if not receipt.succeeded:
            return self._ledger.miss(submission, "the transaction reverted: the round went on without it")
        for event in receipt.events:
            if isinstance(event, GradientSubmitted) and event.mine == self._mine and event.id == submission.campaign:
                return self._ledger.send(submission, event.index)
        raise TransactionFailedError(
            f"transaction 0x{receipt.hash.hex()} succeeded without a submission: is the contract's address right?"
        )

    def _refused(self, submission: Submission, error: ContractRevertError) -> Submission:
        if error.name == "Sonar_AlreadySubmitted":
            return submission
        if error.name in _TOO_LATE:
            return self._ledger.miss(submission, str(error))
        raise error


def aim_of(submission: Submission) -> Aim:
    """What its transaction is for."""
    return Aim(Purpose.SUBMIT, submission.campaign, submission.round)


def _call(submission: Submission) -> Call:
    return submit_gradient(
        submission.campaign,
        submission.round,
        submission.artifact.digest,
        submission.gradient,
        submission.artifact.cid,
        submission.bond,
    )
