"""One campaign as anybody sees it: its present, its past, and whether it was what it promised."""

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from pysonar.errors import NotOverError, UnknownCampaignError
from pysonar.history import Gradient, History, Payout, Round
from sonar.chain.cursor import EventCursor
from sonar.chain.errors import ChainError
from sonar.chain.events import CampaignCreated
from sonar.chain.records import CampaignRecord, RoundRecord, Status
from sonar.protocol.spec import MAX_SPEC_BYTES, Spec
from sonar.storage.base import Artifact
from sonar.units import PPM, Address, CampaignId

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

    from pysonar.session import Sonar
    from sonar.audit import Report

__all__ = ["CampaignView", "left_unsettled"]


class _ShownId(bytes):
    """A campaign's id that prints as people and commands write it."""

    def __repr__(self) -> str:
        return "0x" + self.hex()

    __str__ = __repr__


class CampaignView:
    """What the contract, the store and the Capsule tell everybody of a campaign; `Campaign` is the whole of it."""

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
        from pysonar.showing import html, html_of_none

        name = "Sonar campaign" if self._spec is None else self._spec.name
        try:
            return html(self.record, name, self.history().rounds)
        except ChainError as error:  # a notebook would show a traceback in the place of the campaign
            return html_of_none(self.id, name, str(error))

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
        """The campaign's metric of the present model on the validation set, 0 to 1, as the Capsule attested it."""
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

    def earnings(self) -> tuple[Payout, ...]:
        """What every mine that posted has earned, the best paid first: exact amounts, bonds not counted."""
        return self.history().payouts

    def payouts(self) -> "DataFrame":
        """The same as a data frame: mine, gradients, kept, part of all pay, amount in the smallest unit, ether.

        Raises MissingExtraError where pandas is not installed.
        """
        from pysonar.showing import frame

        return frame(self.earnings(), self.record)

    def plot(self, axes: "Axes | None" = None) -> "Axes":
        """The score over the model's versions, and what each round paid to which mine.

        Draws on `axes`, or on a new figure; raises MissingExtraError where matplotlib is not installed.
        """
        from pysonar.showing import plot

        return plot(self.history().rounds, self.record, self.spec.metric, axes)

    # ---- waiting

    def watch(self, *, poll: float = 1.0, timeout: float | None = None) -> Self:
        """Shows progress until the campaign is over: live on a terminal or notebook, line by line in a pipe (stderr).

        Asks the chain every `poll` seconds. Interrupting it harms nothing, the campaign goes on. Raises NotOverError
        after `timeout` seconds (None: never), or when a round past the deadline was left unsettled.
        """
        from pysonar.watch import watch

        watch(self, poll=poll, timeout=timeout)
        return self

    # ---- whether it holds

    def audit(self) -> "Report":
        """Everything that can be computed again from chain and store without a key, compared with what was said.

        `report.differences` are what is not as it must be, `report.unchecked` what is not to be had; `print(*
        report.lines(), sep="\\n")` tells both. Raises ChainError where the node cannot be read.
        """
        from pysonar.auditing import audit

        sonar = self._sonar
        return audit(
            sonar.client, sonar.store, self.id, start_block=sonar.network.start_block, capsule=sonar.capsule,
            allow_insecure_small_key=sonar._small,
        )  # fmt: skip

    def now(self) -> int:
        """The present in Unix seconds, by the session's clock or the chain's, whichever is ahead."""
        return self._sonar.now()

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

    def _creation(self) -> CampaignCreated:
        self.history()
        if self._created is None:
            raise UnknownCampaignError(
                f"no block from {self._sonar.network.start_block} on creates campaign 0x{self.id.hex()}: "
                "check start_block in the network file"
            )
        return self._created

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, CampaignView) and (self.id, self._sonar.domain) == (other.id, other._sonar.domain)

    def __hash__(self) -> int:
        return hash((self.id, self._sonar.domain))


def left_unsettled(record: CampaignRecord, present: RoundRecord, now: int) -> NotOverError | None:
    """What to raise of a campaign that runs although it is past its deadline and nobody settles its last round."""
    past = now >= record.terms.deadline and present.count > 0 and now >= present.expires_at
    if record.status is not Status.RUNNING or not past:
        return None
    return NotOverError(
        f"round {present.number} of campaign 0x{record.id.hex()} was not settled in time and the deadline is past: "
        "campaign.expire() gives its bonds back, then close the campaign"
    )
