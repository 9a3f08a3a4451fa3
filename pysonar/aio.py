"""The same for programs with an event loop: `await` in front of what asks chain, store or Capsule.

    async with pysonar.aio.connect() as sonar:
        campaign = await sonar.create_campaign(model, (X_val, y_val), pysonar.ether(1), 0.92, "2h")
        async for progress in campaign.follow():
            print(progress.score)
        model = await campaign.result()

Each session has one thread of its own, in which its calls run one after another: its connections are not shared between
threads, and the loop is never blocked. A call that is cancelled goes on in its thread to its end, as a transaction that
was sent does, and those that come after it wait for that; one that has not begun yet never does.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

from pysonar.campaign import Campaign
from pysonar.connecting import connect as _connect
from pysonar.errors import CampaignError, NotOverError
from pysonar.history import Round
from pysonar.session import Sonar
from pysonar.viewing import left_unsettled
from sonar.chain.records import CampaignRecord, RoundRecord
from sonar.units import PPM, CampaignId

if TYPE_CHECKING:
    from pysonar.estimating.estimate import Estimate
    from pysonar.results import TrainedModel
    from sonar.protocol.spec import Spec

__all__ = ["AsyncCampaign", "AsyncSonar", "Progress", "connect"]

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Progress:
    """A campaign at one moment, as `AsyncCampaign.follow` tells it.

    `record` are its terms and state as the contract holds them, `present_round` the round that takes gradients or
    waits, `rounds` all that have held one, `is_over` whether no gradient will be taken or judged any more.

    >>> async def last(number):
    ...     async with pysonar.aio.connect(network_file, account=account) as sonar:
    ...         return [progress async for progress in (await sonar.campaign(number)).follow()][-1]
    >>> progress = asyncio.run(last(closed.id))
    >>> progress.is_over, round(progress.score, 2), progress.record.status.name, progress.rounds
    (True, 0.33, 'CLOSED', ())
    """

    record: CampaignRecord
    present_round: RoundRecord
    rounds: tuple[Round, ...]
    is_over: bool

    @property
    def score(self) -> float:
        """The present model's metric on the validation set, 0 to 1."""
        return self.record.score / PPM


class connect:  # noqa: N801  (it is called, and awaited or entered)
    """A session, as `pysonar.connect` makes one of the same arguments: `await connect(...)`, or `async with` it.

    Raises ConfigError for files, ChainError when the chain is not the network's.

    >>> async def mine():
    ...     async with pysonar.aio.connect(network_file, account=account) as sonar:
    ...         return await sonar.campaigns()
    >>> asyncio.run(mine())
    [AsyncCampaign(0x...)]
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._make = lambda: _connect(*arguments, **options)
        self._session: AsyncSonar | None = None

    def __await__(self) -> Any:
        return self._open().__await__()

    async def __aenter__(self) -> "AsyncSonar":
        self._session = await self._open()
        return self._session

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def _open(self) -> "AsyncSonar":
        thread = ThreadPoolExecutor(1, thread_name_prefix="pysonar")
        try:
            return AsyncSonar(await asyncio.get_running_loop().run_in_executor(thread, self._make), thread)
        except BaseException:
            thread.shutdown(wait=False)
            raise


class _Threaded:
    """What has its calls run in the session's thread."""

    def __init__(self, thread: ThreadPoolExecutor) -> None:
        self._thread = thread

    async def _run(self, call: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        try:
            answer = loop.run_in_executor(self._thread, lambda: call(*arguments, **options))
        except RuntimeError as error:  # its thread takes nothing any more
            raise CampaignError("this session is closed: connect a new one") from error
        return await answer


def _awaited(call: Callable[Concatenate[Sonar, P], T]) -> "Callable[Concatenate[AsyncSonar, P], Awaitable[T]]":
    """A session's method, awaited."""

    @wraps(call)
    async def awaited(self: "AsyncSonar", /, *arguments: P.args, **options: P.kwargs) -> T:
        return await self._run(call, self.sync, *arguments, **options)

    return awaited


def _making(
    call: Callable[Concatenate[Sonar, P], Campaign],
) -> "Callable[Concatenate[AsyncSonar, P], Awaitable[AsyncCampaign]]":
    """A session's method that gives a campaign, awaited."""

    @wraps(call)
    async def awaited(self: "AsyncSonar", /, *arguments: P.args, **options: P.kwargs) -> "AsyncCampaign":
        return AsyncCampaign(await self._run(call, self.sync, *arguments, **options), self._thread)

    return awaited


def _listing(
    call: Callable[[Sonar], list[Campaign]],
) -> "Callable[[AsyncSonar], Awaitable[list[AsyncCampaign]]]":
    """A session's method that gives campaigns, awaited."""

    @wraps(call)
    async def awaited(self: "AsyncSonar", /) -> "list[AsyncCampaign]":
        return [AsyncCampaign(found, self._thread) for found in await self._run(call, self.sync)]

    return awaited


def _asked(call: Callable[Concatenate[Campaign, P], T]) -> "Callable[Concatenate[AsyncCampaign, P], Awaitable[T]]":
    """A campaign's method, awaited."""

    @wraps(call)
    async def awaited(self: "AsyncCampaign", /, *arguments: P.args, **options: P.kwargs) -> T:
        return await self._run(call, self.sync, *arguments, **options)

    return awaited


def _spec(campaign: Campaign) -> "Spec":
    """The public spec, from the store and checked against digest and terms on chain."""
    return campaign.spec


class AsyncSonar(_Threaded):
    """A session of `pysonar.Sonar`, whose methods are awaited, with their arguments, units and errors.

    `sync` is the session itself, for what needs no chain; `connect` makes it.

    >>> async def money():
    ...     async with pysonar.aio.connect(network_file, account=account) as sonar:
    ...         return await sonar.credit(), sonar.sync.address == account.address
    >>> asyncio.run(money())
    (1000000000000000000, True)
    """

    def __init__(self, session: Sonar, thread: ThreadPoolExecutor) -> None:
        super().__init__(thread)
        self.sync = session
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *reason: object) -> None:
        await self.close()

    async def close(self) -> None:
        """As `Sonar.close`, and ends the session's thread; what was asked before is still answered."""
        if not self._closed:
            self._closed = True
            await self._run(self.sync.close)
            self._thread.shutdown(wait=False)

    async def estimate(self, *arguments: Any, **options: Any) -> "Estimate":
        """As `pysonar.estimate` of the same arguments, with this session's chain and Capsule."""
        from pysonar.estimating.estimate import estimate

        return await self._run(estimate, *arguments, sonar=self.sync, **options)

    create_campaign = _making(Sonar.create_campaign)
    campaign = _making(Sonar.campaign)
    accept = _making(Sonar.accept)
    campaigns = _listing(Sonar.campaigns)
    resume = _listing(Sonar.resume)
    balance = _awaited(Sonar.balance)
    credit = _awaited(Sonar.credit)
    withdraw = _awaited(Sonar.withdraw)


class AsyncCampaign(_Threaded):
    """A campaign whose questions are awaited, with the arguments, units and errors of `pysonar.Campaign`.

    `sync` is that itself, whose properties are for the session's thread.

    >>> async def paid(number):
    ...     async with pysonar.aio.connect(network_file, account=account) as sonar:
    ...         campaign = await sonar.campaign(number)
    ...         return await campaign.earnings(), await campaign.gradients()
    >>> asyncio.run(paid(closed.id))
    ((), ())
    """

    def __init__(self, campaign: Campaign, thread: ThreadPoolExecutor) -> None:
        super().__init__(thread)
        self.sync = campaign

    def __repr__(self) -> str:
        return f"Async{self.sync!r}"

    @property
    def id(self) -> CampaignId:
        """The campaign's id, 32 bytes."""
        return self.sync.id

    async def follow(self, *, poll: float = 1.0, timeout: float | None = None) -> AsyncIterator[Progress]:
        """The campaign's state now and whenever it has changed, the last one once it is over.

        Asks every `poll` seconds. Raises NotOverError after `timeout` seconds (None: never), or when a round past the
        deadline was left unsettled, which `expire` ends; ChainError while the node does not answer: follow it again.
        """
        loop, last = asyncio.get_running_loop(), None
        limit = None if timeout is None else loop.time() + timeout
        while True:
            now, left = await self._run(self._progress)
            if now != last:
                last = now
                yield now
            if now.is_over:
                return
            if left is not None:
                raise left
            if limit is not None and loop.time() >= limit:
                raise NotOverError(f"campaign 0x{self.id.hex()} is not over after {timeout:g} s: it goes on, follow it")
            await asyncio.sleep(poll)

    async def result_when_over(self, *, poll: float = 1.0, timeout: float | None = None) -> "TrainedModel":
        """Waits for the campaign's end, and gives the trained model."""
        async for _ in self.follow(poll=poll, timeout=timeout):
            pass
        return await self.result()

    def _progress(self) -> tuple[Progress, NotOverError | None]:
        # The record first: what comes in between shows a step late, and no round is ever left out.
        record, present, now = self.sync.record, self.sync.present_round, self.sync.now()
        over = self.sync.is_over()
        left = None if over else left_unsettled(record, present, now)
        return Progress(record, present, self.sync.rounds(), over), left

    spec = _asked(_spec)
    is_over = _asked(Campaign.is_over)
    result = _asked(Campaign.result)
    rounds = _asked(Campaign.rounds)
    gradients = _asked(Campaign.gradients)
    earnings = _asked(Campaign.earnings)
    payouts = _asked(Campaign.payouts)
    audit = _asked(Campaign.audit)
    attribution = _asked(Campaign.attribution)
    top_up = _asked(Campaign.top_up)
    transfer = _asked(Campaign.transfer)
    expire = _asked(Campaign.expire)
    close = _asked(Campaign.close)
    withdraw = _asked(Campaign.withdraw)
