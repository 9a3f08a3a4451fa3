"""One campaign as its owner has it: what anybody sees, the result, and money."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pysonar._terms import address, wei
from pysonar.delivery import receive
from pysonar.errors import NotOwnerError, TermsError
from pysonar.history import RoundState
from pysonar.viewing import CampaignView
from sonar.chain import calls
from sonar.chain.events import BountyRaised, CampaignClosed
from sonar.chain.records import NATIVE, CampaignRecord, Entry
from sonar.chain.token import ensure_allowance
from sonar.protocol.payloads import decode_weights
from sonar.protocol.sealing import Purpose
from sonar.units import Address, Wei

if TYPE_CHECKING:
    from pysonar.attribution import Attribution
    from pysonar.results import TrainedModel

__all__ = ["Campaign"]


class Campaign(CampaignView):
    """A campaign on the contract. Every property asks the chain, so it is always the present.

    The questions are open to everybody; `result`, `close` and `transfer` are the owner's. Scores are parts of 1, or in
    records and histories whole ppm; amounts are in wei, or the smallest unit of the bounty's token; times are Unix
    seconds.

    >>> campaign = sonar.create_campaign(
    ...     pysonar.LinearClassifier(4, 3), (X_val, y_val), bounty=pysonar.ether(1), target=0.9, deadline="2h")
    >>> campaign.status.name, round(campaign.score, 2), campaign.rounds()
    ('RUNNING', 0.33, ())
    >>> pysonar.format_ether(campaign.close())
    '1'
    """

    # ---- the result

    def result(self, *, timeout: float = 30.0) -> "TrainedModel":
        """The trained model, a torch.nn.Module, delivered by the Capsule in a box that only this call can open.

        A Capsule that has not seen the campaign's end yet, or is down, is asked again for `timeout` seconds. Raises
        NotOwnerError, NotOverError while the campaign runs, CapsuleError when the Capsule refuses or stays down,
        ProtocolError when what it delivers is not this campaign's model.
        """
        from pysonar.results.delivered import delivered

        payload = receive(
            self, Purpose.DELIVERY, lambda capsule, key: capsule.deliver(self.id, key), what="result", timeout=timeout
        )
        return delivered(self, decode_weights(payload, self.spec))

    def attribution(self, *, timeout: float = 330.0) -> "Attribution":
        """Each mine's share of what the campaign changed on the validation set: the same, however often it is asked.

        It takes about as long as opening all kept gradients once more; a Capsule that is busy, or down, is asked again
        for `timeout` seconds. Raises as `result` does, and NotOpenError for a network, which does not split. Print it.
        """
        from pysonar.attribution import attribution_of

        return attribution_of(self, timeout=timeout)

    # ---- its owner

    def transfer(self, to: Address | str | None) -> None:
        """Offers the campaign to another account, which owns it once it accepts (`Sonar.accept`); None: to nobody.

        Credits that this account has stay its own. Raises NotOwnerError, TermsError for what is no address.
        """
        self._own("it is handed over by")
        receiver = NATIVE if to is None else address(to, "the new owner")
        self._sonar.client.transact(calls.transfer_campaign(self.id, receiver))

    # ---- money

    def top_up(self, amount: int) -> Wei:
        """Adds to the bounty, for what is still to be earned; returns what it is since.

        Anybody may, before the deadline; what is not paid in the end goes to the campaign's owner. `amount` is in wei,
        or in the smallest unit of the bounty's token, of which the contract is allowed to take exactly that.

        Raises TermsError, UnfundedAccountError, and ContractRevertError that says why the contract refuses.
        """
        token, added = self.record.terms.token, wei(amount, "amount")
        if added == 0:
            raise TermsError("the amount is zero: add something")
        ensure_allowance(self._sonar.client, token, added)
        receipt = self._sonar.client.transact(calls.top_up(self.id, added, token))
        return next(event.bounty for event in receipt.events if isinstance(event, BountyRaised))

    def close(self) -> Wei:
        """Ends the campaign and credits what is left of the bounty to its owner; returns that amount in wei.

        `withdraw` then sends it. Possible once the campaign is over, or as long as no round has paid. Raises
        NotOwnerError, and ContractRevertError that says why the contract refuses.
        """
        self._own("it is closed by")
        receipt = self._sonar.client.transact(calls.close_campaign(self.id))
        return Wei(sum(event.refund for event in receipt.events if isinstance(event, CampaignClosed)))

    def withdraw(self, to: Address | str | None = None) -> Wei:
        """Withdraws what the contract owes this account in the bounty's token; returns the amount.

        It covers all campaigns of the account in that token. Slashed bonds are native coin: with a token's bounty they
        are withdrawn too, and not counted here. Raises TermsError for what is no address.
        """
        token = self.record.terms.token
        if token != NATIVE:
            self._sonar.withdraw(NATIVE, to)
        return self._sonar.withdraw(token, to)

    def expire(self) -> None:
        """Gives up the present round when its settlement window has passed: bonds go back, the model stays.

        Anybody may do it. Raises ContractRevertError that says why not.
        """
        number = self.present_round.number
        self._sonar.client.transact(calls.expire_round(self.id, number, self._entries(number)))

    def _entries(self, number: int) -> Sequence[Entry]:
        return [
            Entry(gradient.mine, gradient.artifact, gradient.gradient)
            for held in self.history().rounds
            if held.number == number and held.state is RoundState.PENDING
            for gradient in held.gradients
        ]

    def _own(self, what: str) -> CampaignRecord:
        record = self.record
        if record.owner != self._sonar.address:
            raise NotOwnerError(
                f"campaign 0x{self.id.hex()} belongs to {record.owner}: {what} its owner, not {self._sonar.address}"
            )
        return record
