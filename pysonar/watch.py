"""Following a campaign to its end, on stderr: a live table on a terminal or in a notebook, plain lines in a pipe."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pysonar.errors import NotOverError
from pysonar.history import Gradient, Round, RoundState
from pysonar.refusals import why_none
from pysonar.viewing import left_unsettled
from sonar.chain.errors import RpcUnavailableError
from sonar.chain.records import CampaignRecord, RoundRecord, Status, Terms, Verdict
from sonar.units import format_ppm, round_ether

if TYPE_CHECKING:
    from pysonar.viewing import CampaignView

__all__ = ["watch"]

_MOST_SHOWN = 16
"""How many gradients of the last round a terminal has room for."""


def watch(
    campaign: "CampaignView",
    *,
    poll: float,
    timeout: float | None,
    console: Console | None = None,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Shows the campaign until it is over; raises NotOverError as `Campaign.watch` says."""
    console = console or Console(stderr=True)
    # Without ipywidgets rich shows nothing live in a notebook.
    notebook = console.is_jupyter and find_spec("ipywidgets") is not None
    live = (console.is_terminal and not console.is_dumb_terminal) or notebook
    view: _View = _LiveView(console) if live else _LineView(console)
    began = monotonic()
    limit = None if timeout is None else began + timeout
    with view.shown():
        while True:
            try:
                if _step(campaign, view, monotonic() - began):
                    return
            except RpcUnavailableError as error:
                # The chain keeps the campaign; whoever watches need not start again because a node restarts.
                view.trouble(f"{error}; trying again")
            if limit is not None and monotonic() >= limit:
                raise NotOverError(
                    f"campaign 0x{campaign.id.hex()} is not over after {timeout:g} s of watching: it goes on, watch "
                    "again"
                )
            sleep(poll)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A campaign at one moment."""

    record: CampaignRecord
    present: RoundRecord
    rounds: tuple[Round, ...]
    now: int
    hints: tuple[str, ...] = ()

    @property
    def past(self) -> bool:
        return self.now >= self.record.terms.deadline

    @property
    def over(self) -> bool:
        return self.record.status is not Status.RUNNING or (self.past and self.present.count == 0)


def _step(campaign: "CampaignView", view: "_View", waited: float) -> bool:
    """Reads and shows once, after so many seconds of watching; whether the campaign is over."""
    # The record is read before the events: what comes in between shows a step late, and no round is ever left out.
    record, present, now = campaign.record, campaign.present_round, campaign.now()
    rounds = campaign.rounds()
    seen = _Seen(record, present, rounds, now, () if rounds else why_none(campaign, record, waited=waited))
    view.show(seen)
    if not seen.over and (left := left_unsettled(record, present, now)):
        raise left
    return seen.over


class _View(Protocol):
    def shown(self) -> AbstractContextManager[object]: ...

    def trouble(self, text: str) -> None: ...

    def show(self, seen: _Seen) -> None: ...


class _LineView:
    """One line for each thing that happens, nothing while nothing does."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said: set[str] = set()
        self._judged: set[int] = set()

    def shown(self) -> AbstractContextManager[object]:
        return nullcontext()

    def trouble(self, text: str) -> None:
        self._say(text)

    def show(self, seen: _Seen) -> None:
        record, terms = seen.record, seen.record.terms
        self._say(
            f"campaign 0x{record.id.hex()}: start {format_ppm(record.start_score)}, target {format_ppm(terms.target)}, "
            f"bounty {terms.show(terms.bounty)}"
        )
        for held in seen.rounds:
            for gradient in held.gradients:
                self._say(f"round {held.number}: gradient {gradient.position} by {gradient.mine}")
            if held.state is not RoundState.PENDING:
                self._say(f"round {held.number}: {_told(held, terms)}")
                self._tell_gradients(held, terms)
        if not seen.over and seen.present.open:
            self._say(f"round {seen.present.number} {_closing(seen)}")
            for hint in seen.hints:
                self._say(hint)
        if seen.over:
            self._say(_ending(record))

    def _tell_gradients(self, held: Round, terms: Terms) -> None:
        """Each gradient's verdict, once: a reason that comes later is not worth a second line."""
        if held.number not in self._judged and held.state is not RoundState.EXPIRED:
            self._judged.add(held.number)
            for gradient in held.gradients:
                self._say(f"round {held.number}: gradient {gradient.position}: {_verdict(gradient, terms)}")

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._console.print(text, soft_wrap=True, markup=False, highlight=False)


class _LiveView:
    """A bar from start score to target above a table of the rounds, redrawn in place."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False)
        self._shown: RenderableType = Text("")

    def shown(self) -> AbstractContextManager[object]:
        return self._live

    def trouble(self, text: str) -> None:
        self._live.update(Group(self._shown, Text(text, style="yellow")), refresh=True)

    def show(self, seen: _Seen) -> None:
        record, terms = seen.record, seen.record.terms
        head = Table.grid(padding=(0, 1))
        head.add_row(
            Text(f"campaign 0x{record.id.hex()[:16]}", style="bold"),
            format_ppm(record.start_score),
            ProgressBar(
                total=terms.target - record.start_score,
                completed=min(record.score, terms.target) - record.start_score,
                width=24,
            ),
            format_ppm(terms.target),
            Text(f"now {format_ppm(record.score)}", style="bold"),
        )
        rounds = Table(box=None, padding=(0, 2, 0, 0))
        for title in ("round", "gradients", "kept"):
            rounds.add_column(title, justify="right")
        rounds.add_column("result")
        for held in seen.rounds[-10:]:
            kept = sum(gradient.verdict is Verdict.KEPT for gradient in held.gradients)
            told = _told(held, terms) if held.state is not RoundState.PENDING else _waiting(seen)
            rounds.add_row(str(held.number), str(len(held.gradients)), str(kept), told)
        judged = [held for held in seen.rounds if held.state in {RoundState.ADVANCED, RoundState.STAYED}]
        reasons = [
            Text(f"round {held.number}, gradient {gradient.position}: {_verdict(gradient, terms)}", style="dim")
            for held in judged[-1:]
            for gradient in held.gradients[:_MOST_SHOWN]
        ]
        hints = [] if seen.over else [Text(hint, style="yellow") for hint in seen.hints]
        left = max(0, terms.deadline - seen.now)
        state = (
            _ending(record)
            if seen.over
            else f"{terms.show(record.paid)} of {terms.show(terms.bounty)} paid, {_clock(left)} to the deadline"
        )
        self._shown = Group(head, rounds, *reasons, *hints, Text(state))
        self._live.update(self._shown, refresh=True)


def _told(held: Round, terms: Terms) -> str:
    if held.state is RoundState.EXPIRED or held.score is None:
        return "expired, bonds returned"
    if held.state is RoundState.STAYED:
        return f"no improvement, score stays {format_ppm(held.score)}"
    count = sum(gradient.payout > 0 for gradient in held.gradients)
    mines = "1 mine" if count == 1 else f"{count} mines"
    return f"score {format_ppm(held.score)}, paid {terms.show(held.payout)} to {mines}"


def _waiting(seen: _Seen) -> str:
    if seen.present.open and seen.now < seen.present.closes_at:
        return f"takes gradients for {_clock(seen.present.closes_at - seen.now)}, {_closing(seen)}"
    return "waits for the Capsule"


def _closing(seen: _Seen) -> str:
    """When the present round closes, by the clock on the wall and by what it holds."""
    size, count = seen.record.terms.round_size, seen.present.count
    full = "1 gradient" if size == 1 else f"{size} gradients"
    if count == 0:
        return f"closes {seen.record.terms.round_seconds} s after its first gradient, or at {full}"
    at, now = datetime.fromtimestamp(seen.present.closes_at), datetime.fromtimestamp(seen.now)
    return f"closes at {at:{'%H:%M' if at.date() == now.date() else '%Y-%m-%d %H:%M'}} or at {full}; {count} so far"


def _verdict(gradient: Gradient, terms: Terms) -> str:
    """What became of a gradient, why, and what it earned or cost."""
    word = "not judged" if gradient.verdict is None else gradient.verdict.name.lower().replace("_", " ")
    said = gradient.reason if gradient.reason.startswith(word) else word
    if gradient.reason and said is word:
        said = f"{word} ({gradient.reason})"
    if gradient.payout:
        said += f", {terms.show(gradient.payout)}"
    lost = terms.bond - gradient.bond_returned
    return f"{said}, {round_ether(lost)} ether of the bond lost" if lost else said


def _ending(record: CampaignRecord) -> str:
    how = {Status.FINISHED: "finished", Status.CLOSED: "closed"}.get(record.status, "past its deadline")
    paid, bounty = record.terms.show(record.paid), record.terms.show(record.terms.bounty)
    return f"{how}: score {format_ppm(record.score)}, paid {paid} of {bounty}"


def _clock(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
