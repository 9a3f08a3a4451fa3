"""Getting a trained gradient on chain exactly once, whatever stops the process and whenever.

The signed transaction is in the ledger before it is sent. After a crash the chain is asked in this order: is it mined,
has this account submitted to the round, was its nonce used for something else. Only then is anything sent again; and
the contract takes one gradient per account and round in any case.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager

from mine.ledger import Ledger
from mine.records import State, Submission
from sonar.chain.calls import Call, submit_gradient
from sonar.chain.client import Receipt, SignedTransaction, SonarClient
from sonar.chain.errors import ContractRevertError, TransactionFailedError, TransactionTimeoutError
from sonar.chain.events import GradientSubmitted
from sonar.units import Address

__all__ = ["Poster"]

_TOO_LATE = {"Sonar_RoundClosed", "Sonar_WrongRound", "Sonar_DeadlinePassed", "Sonar_WrongStatus"}
"""The contract's words for: the round went on without this gradient."""


class Poster:
    """Moves submissions of one account from `prepared` to `posted` or `missed`."""

    def __init__(
        self,
        client: SonarClient,
        ledger: Ledger,
        mine: Address,
        sending: Callable[[], AbstractContextManager[None]],
        patience: float,
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._mine = mine
        self._sending = sending
        self._patience = patience

    def advance(self, submission: Submission) -> Submission:
        """One attempt; returns the submission as it stands then, `posted` or `missed` when it is decided.

        Raises TransactionTimeoutError while the transaction waits to be mined, and whatever the chain raises.
        """
        if submission.state is State.SIGNED:
            settled = self._look_up(submission)
            if settled is not None:
                return settled
        if self._client.last_submission(submission.campaign, self._mine) == submission.round:
            return submission  # its event is on the way, and says at which position
        present = self._client.round(submission.campaign)
        if present.number != submission.round or not present.open:
            return self._too_late(submission)
        return self._send(submission)

    def _look_up(self, submission: Submission) -> Submission | None:
        """The outcome of a transaction that may have been sent, or None if it is not mined."""
        assert submission.hash is not None
        receipt = self._client.receipt(submission.hash)
        return None if receipt is None else self._mined(submission, receipt)

    def _too_late(self, submission: Submission) -> Submission:
        """Nothing can be sent any more; a transaction that is out there may still be mined, and then reverts."""
        if submission.state is State.PREPARED or self._nonce_used(submission):
            return self._ledger.miss(submission, "the round closed before it was posted")
        return submission

    def _send(self, submission: Submission) -> Submission:
        with self._sending():
            try:
                if not self._send_again(submission):
                    submission = self._send_new(submission)
            except ContractRevertError as error:
                return self._refused(submission, error)
        return self._await(submission)

    def _send_again(self, submission: Submission) -> bool:
        """Sends what was signed before, the same bytes; False if there is nothing that could still be mined."""
        if submission.state is State.PREPARED or self._nonce_used(submission):
            return False
        try:
            self._client.send(_signed(submission))
        except ContractRevertError:
            raise
        except TransactionFailedError:  # refused, e.g. because fees have risen since
            return False
        return True

    def _send_new(self, submission: Submission) -> Submission:
        # An unused nonce is taken again: of two transactions with one nonce only one can ever be mined.
        again = submission.state is State.SIGNED and not self._nonce_used(submission)
        signed = self._client.sign(_call(submission), nonce=submission.nonce if again else None)
        submission = self._ledger.sign(submission, raw=signed.raw, hash=signed.hash, nonce=signed.nonce)
        self._client.send(signed)
        return submission

    def _await(self, submission: Submission) -> Submission:
        signed = _signed(submission)
        try:
            receipt = self._client.wait(signed.hash, self._patience)
        except TransactionTimeoutError as error:
            if self._nonce_used(submission) and self._client.receipt(signed.hash) is None:
                raise TransactionTimeoutError(
                    f"another transaction of {self._mine} took nonce {signed.nonce}: the gradient is signed again"
                ) from error
            raise
        return self._mined(submission, receipt)

    def _mined(self, submission: Submission, receipt: Receipt) -> Submission:
        if not receipt.succeeded:
            return self._ledger.miss(submission, "the transaction reverted: the round went on without it")
        for event in receipt.events:
            if isinstance(event, GradientSubmitted) and event.mine == self._mine and event.id == submission.campaign:
                return self._ledger.post(submission, event.index)
        raise TransactionFailedError(
            f"transaction 0x{receipt.hash.hex()} succeeded without a submission: is the contract's address right?"
        )

    def _refused(self, submission: Submission, error: ContractRevertError) -> Submission:
        if error.name == "Sonar_AlreadySubmitted":
            return submission
        if error.name in _TOO_LATE:
            return self._ledger.miss(submission, str(error))
        raise error

    def _nonce_used(self, submission: Submission) -> bool:
        assert submission.nonce is not None
        return self._client.used_nonce() > submission.nonce


def _call(submission: Submission) -> Call:
    return submit_gradient(
        submission.campaign,
        submission.round,
        submission.artifact.digest,
        submission.gradient,
        submission.artifact.cid,
        submission.bond,
    )


def _signed(submission: Submission) -> SignedTransaction:
    assert submission.raw is not None
    assert submission.hash is not None
    assert submission.nonce is not None
    return SignedTransaction(submission.raw, submission.hash, submission.nonce)
