"""One campaign as its owner sees it: state, history, result, money."""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from capsule.client import CapsuleRefusedError, CapsuleUnavailableError
from pysonar._inputs import address, wei
from pysonar.errors import NotOverError, NotOwnerError, TermsError, UnknownCampaignError
from pysonar.history import Gradient, History, Payout, Round, RoundState
from sonar.chain import calls
from sonar.chain.cursor import EventCursor
from sonar.chain.events import BountyRaised, CampaignClosed, CampaignCreated
from sonar.chain.records import NATIVE, CampaignRecord, Entry, RoundRecord, Status
from sonar.chain.token import ensure_allowance
from sonar.protocol.payloads import decode_weights
from sonar.protocol.sealing import BoxContext, Purpose, SealingKeyPair, open_box_for
from sonar.protocol.spec import MAX_SPEC_BYTES, Spec
from sonar.storage.base import Artifact
from sonar.units import PPM, Address, CampaignId, Wei, format_ppm

if TYPE_CHECKING:
    from pysonar.linear import LinearModel
    from pysonar.session import Sonar

__all__ = ["Campaign"]

_RETRY_SECONDS = 0.5


class _ShownId(bytes):
    """A campaign's id that prints as people and commands write it."""

    def __repr__(self) -> str:
        return "0x" + self.hex()

    __str__ = __repr__


class Campaign:
    """A campaign on the contract. Every property asks the chain, so it is always the present.

    The questions are open to everybody; `result`, `close` and `transfer` are the owner's.
    """

    def __init__(self, sonar: "Sonar", campaign: CampaignId, *, spec: Spec | None = None) -> None:
        self.id = CampaignId(_ShownId(campaign))
        self._sonar = sonar
        self._spec = spec
        self._created: CampaignCreated | None = None
        self._history = History()
        self._cursor = EventCursor(sonar.client, sonar.network.start_block, campaign=campaign)

    def __repr__(self) -> str:
        return f"Campaign(0x{self.id.hex()})"

    def _repr_html_(self) -> str:
        record = self.record
        return (
            f"<b>Sonar campaign</b> <code>0x{self.id.hex()}</code>: {record.status.name.lower()}, "
            f"score {format_ppm(record.score)} of {format_ppm(record.terms.target)}, "
            f"paid {record.terms.show(record.paid)} of {record.terms.show(record.terms.bounty)}"
        )

    # ---- the present

    @property
    def record(self) -> CampaignRecord:
        """Terms and state as the contract holds them: scores in ppm, amounts in wei, times in Unix seconds."""
        return self._sonar.client.campaign(self.id)

    @property
    def present_round(self) -> RoundRecord:
        """The round that takes gradients or waits for its settlement."""
        return self._sonar.client.round(self.id)

    @property
    def status(self) -> Status:
        """RUNNING, FINISHED or CLOSED."""
        return self.record.status

    @property
    def score(self) -> float:
        """The model's accuracy on the validation set, 0 to 1, as the Capsule attested it."""
        return self.record.score / PPM

    @cached_property
    def spec(self) -> Spec:
        """The public spec, from the store and checked against digest and terms on chain."""
        created = self._creation()
        if self._spec is None:
            data = self._sonar.store.get(Artifact(created.spec_cid, created.admission.spec), max_bytes=MAX_SPEC_BYTES)
            self._spec = Spec.parse(data)
        self._spec.check_terms(created.terms)
        return self._spec

    @property
    def pending_owner(self) -> Address | None:
        """To whom the campaign is offered, or None."""
        return self._sonar.client.pending_owner(self.id)

    def is_over(self) -> bool:
        """Whether no gradient will be taken or judged any more: finished, closed, or past its deadline."""
        record = self.record
        if record.status is not Status.RUNNING:
            return True
        return self._sonar.now() >= record.terms.deadline and self.present_round.count == 0

    # ---- the past

    def history(self) -> History:
        """All that has happened, from the chain's events."""
        for event in self._cursor.read():
            if isinstance(event, CampaignCreated):
                self._created = event
            self._history.add(event)
        return self._history

    def rounds(self) -> tuple[Round, ...]:
        """Every round that has held a gradient: number, state, score in ppm, payout in wei, gradients.

        The gradients' reasons are asked of the Capsule; while it does not answer they are empty.
        """
        return tuple(self._with_reasons(held) for held in self.history().rounds)

    def gradients(self) -> tuple[Gradient, ...]:
        """Every gradient in the order of submission: mine, verdict and its reason, share in ppm, payout in wei."""
        return tuple(gradient for held in self.rounds() for gradient in held.gradients)

    def payouts(self) -> tuple[Payout, ...]:
        """What every mine that posted has earned, the best paid first."""
        return self.history().payouts

    # ---- waiting, and the result

    def watch(self, *, poll: float = 1.0, timeout: float | None = None) -> "Campaign":
        """Shows progress until the campaign is over: live on a terminal or notebook, line by line in a pipe (stderr).

        Asks the chain every `poll` seconds. Interrupting it harms nothing, the campaign goes on. Raises NotOverError
        after `timeout` seconds (None: never), or when a round past the deadline was left unsettled.
        """
        from pysonar.watch import watch

        watch(self, poll=poll, timeout=timeout)
        return self

    def result(self, *, timeout: float = 30.0) -> "LinearModel":
        """The trained model, a torch.nn.Module, delivered by the Capsule in a box that only this call can open.

        A Capsule that has not seen the campaign's end yet, or is down, is asked again for `timeout` seconds. Raises
        NotOwnerError, NotOverError while the campaign runs, CapsuleError when the Capsule refuses or stays down,
        ProtocolError when what it delivers is not this campaign's model.
        """
        from pysonar.linear import LinearModel

        record = self._own("its result is delivered to")
        if not self.is_over():
            waiting = self.present_round.count
            raise NotOverError(
                f"campaign 0x{self.id.hex()} is not over: it runs until {record.terms.deadline} (Unix seconds) and its "
                f"round holds {waiting} gradients; campaign.watch() waits for its end"
            )
        pair = SealingKeyPair.generate()
        box = self._delivered(pair.public, timeout)
        domain = self._sonar.domain
        expected = BoxContext(
            Purpose.DELIVERY, domain.chain_id, domain.contract, record.owner, self.id.hex(), record.version
        )
        return LinearModel.from_encoded(self.spec, decode_weights(open_box_for(box, pair, expected), self.spec))

    def _delivered(self, sealing_key: bytes, timeout: float) -> bytes:
        limit = time.monotonic() + timeout
        while True:
            try:
                return self._sonar.capsule.deliver(self.id, sealing_key)
            except CapsuleUnavailableError:
                if time.monotonic() >= limit:
                    raise
            except CapsuleRefusedError as error:
                # The chain told us of the end already; the Capsule reads it a moment later.
                if error.code != "not_over" or time.monotonic() >= limit:
                    raise
            time.sleep(min(_RETRY_SECONDS, max(0.0, limit - time.monotonic())))

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

    def now(self) -> int:
        """The present in Unix seconds, by the session's clock or the chain's, whichever is ahead."""
        return self._sonar.now()

    def _entries(self, number: int) -> Sequence[Entry]:
        return [
            Entry(gradient.mine, gradient.artifact, gradient.gradient)
            for held in self.history().rounds
            if held.number == number and held.state is RoundState.PENDING
            for gradient in held.gradients
        ]

    def _with_reasons(self, held: Round) -> Round:
        gradients = tuple(
            gradient
            if gradient.verdict is None
            else replace(
                gradient, reason=self._sonar.reasons.why(self.id, held.number, gradient.position, gradient.verdict)
            )
            for gradient in held.gradients
        )
        return replace(held, gradients=gradients)

    def _own(self, what: str) -> CampaignRecord:
        record = self.record
        if record.owner != self._sonar.address:
            raise NotOwnerError(
                f"campaign 0x{self.id.hex()} belongs to {record.owner}: {what} its owner, not {self._sonar.address}"
            )
        return record

    def _creation(self) -> CampaignCreated:
        self.history()
        if self._created is None:
            raise UnknownCampaignError(
                f"no block from {self._sonar.network.start_block} on creates campaign 0x{self.id.hex()}: "
                "check start_block in the network file"
            )
        return self._created

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Campaign) and (self.id, self._sonar.domain) == (other.id, other._sonar.domain)

    def __hash__(self) -> int:
        return hash((self.id, self._sonar.domain))
