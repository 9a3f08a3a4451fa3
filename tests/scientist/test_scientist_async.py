"""The same campaigns from an event loop: nothing blocks it, and every call is the session's own."""

import asyncio
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pysonar import aio
from pysonar.campaign import Campaign
from pysonar.errors import CampaignError, NotOverError
from pysonar.session import Sonar


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 120))


def opened(stage, **lies):
    return aio.AsyncSonar(stage.session(**lies), ThreadPoolExecutor(1))


def test_a_campaign_is_made_followed_and_paid_from_a_loop(stage):
    async def play():
        async with opened(stage) as sonar:
            campaign = await sonar.create_campaign(**arguments(stage))
            assert [found.id for found in await sonar.campaigns()] == [campaign.id]
            assert (await sonar.campaign(campaign.id)).sync == campaign.sync
            seen = []
            async for progress in campaign.follow(poll=0.01):
                seen.append((progress.score, len(progress.rounds), progress.is_over))
                if len(seen) == 1:
                    await asyncio.to_thread(post_and_settle, stage, campaign.sync)
            assert seen[-1] == (0.95, 1, True)
            assert seen[0][1:] == (0, False)
            assert len(await campaign.earnings()) == 3
            assert len(await campaign.payouts()) == 3
            refund = await campaign.close()
            assert await sonar.credit() >= refund
            assert await campaign.withdraw() >= refund
            assert await sonar.balance() > 0

    run(play())


def test_calls_run_in_one_thread_of_the_sessions_own_and_the_loop_goes_on(stage, monkeypatch):
    threads, ticks, busy, loose = set(), [], threading.Event(), threading.Event()

    def slow(self):
        threads.add(threading.current_thread().name)
        busy.set()
        assert loose.wait(60)
        return 7

    monkeypatch.setattr(aio.AsyncSonar, "balance", aio._awaited(slow))

    async def play():
        async with opened(stage) as sonar:
            calls = [asyncio.ensure_future(sonar.balance()) for _ in range(3)]
            while not busy.is_set():
                await asyncio.sleep(0)
            ticks.extend([await asyncio.sleep(0, 1) for _ in range(100)])  # the loop turns while the thread waits
            loose.set()
            assert await asyncio.gather(*calls) == [7, 7, 7]

    run(play())
    assert len(ticks) == 100
    assert len(threads) == 1
    assert threading.main_thread().name not in threads


def test_following_stops_with_a_sentence_when_its_time_is_over(stage):
    async def play():
        async with opened(stage) as sonar:
            campaign = await sonar.create_campaign(**arguments(stage))
            with pytest.raises(NotOverError, match="is not over after 0"):
                async for _ in campaign.follow(poll=0.01, timeout=0.05):
                    pass

    run(play())


def test_following_ends_with_what_to_do_where_a_last_round_is_left_unsettled(stage, advance_time):
    campaign = stage.campaign(deadline=1000, rounds={"round_size": 3, "round_seconds": 60, "settlement_seconds": 600})
    stage.submit(campaign, stage.new_account())
    advance_time(1000 + 601)

    async def play():
        async with opened(stage) as sonar:
            found, seen = await sonar.campaign(campaign.id), []
            with pytest.raises(NotOverError, match=r"was not settled in time .*campaign\.expire\(\)"):
                await followed(found, seen)
            assert [progress.is_over for progress in seen] == [False]
            await found.expire()
            assert await found.is_over()
            assert (await found.spec()) == campaign.spec

    run(play())


def test_a_call_that_is_cancelled_leaves_the_session_as_it_was(stage, monkeypatch):
    begun, loose, calls = threading.Event(), threading.Event(), []

    def slow(self):
        calls.append(self.address)
        begun.set()
        assert loose.wait(60)

    monkeypatch.setattr(aio.AsyncSonar, "balance", aio._awaited(slow))

    async def play():
        async with opened(stage) as sonar:
            first, second = (asyncio.ensure_future(sonar.balance()) for _ in range(2))
            while not begun.is_set():
                await asyncio.sleep(0)
            for call in (first, second):
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
            loose.set()
            assert await sonar.credit() == 0
        assert len(calls) == 1, "what had not begun never does"

    run(play())


def test_a_session_is_closed_once_and_then_says_so(stage):
    async def play():
        async with opened(stage) as sonar:
            await sonar.close()
            with pytest.raises(CampaignError, match="this session is closed: connect a new one"):
                await sonar.balance()

    run(play())


def test_many_campaigns_are_asked_at_once(stage):
    campaigns = [stage.campaign() for _ in range(3)]

    async def play():
        async with opened(stage) as sonar:
            found = await asyncio.gather(*(sonar.campaign(one.id) for one in campaigns * 5))
            told = await asyncio.gather(*(one.earnings() for one in found), return_exceptions=True)
            wrong = await asyncio.gather(sonar.campaign(bytes(32)), sonar.credit("0x12"), return_exceptions=True)
            return told, wrong

    told, wrong = run(play())
    assert told == [()] * 15
    assert [type(error).__name__ for error in wrong] == ["UnknownCampaignError", "TermsError"]


def test_an_estimate_is_asked_of_the_sessions_chain(stage):
    async def play():
        async with opened(stage) as sonar:
            given = {name: value for name, value in arguments(stage).items() if name != "rounds"}
            told = await sonar.estimate(*given.values(), mines=8, rounds_run=2)
            assert told.key_bits == stage.capsule._info(b"").key_bits

    run(play())


def test_a_session_that_cannot_be_made_leaves_no_thread(tmp_path, monkeypatch):
    monkeypatch.setenv("SONAR_NETWORK", str(tmp_path / "none.json"))

    async def play():
        async with aio.connect():
            pass

    with pytest.raises(Exception, match=r"none\.json"):
        run(play())
    for thread in threading.enumerate():
        if thread.name.startswith("pysonar"):
            thread.join(30)
            assert not thread.is_alive()


@pytest.mark.parametrize(
    ("kind", "variant", "left"),
    [
        (Sonar, aio.AsyncSonar, {"now"}),
        (Campaign, aio.AsyncCampaign, {"watch", "plot", "history", "now"}),
    ],
)
def test_every_call_has_an_awaited_variant_of_the_same_signature(kind, variant, left):
    names = {name for name, value in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}
    assert names - left <= {name for name in dir(variant) if not name.startswith("_")}
    for name in names - left - {"close"}:
        assert inspect.signature(getattr(variant, name)) == inspect.signature(getattr(kind, name))
        assert getattr(variant, name).__doc__ == getattr(kind, name).__doc__


async def followed(campaign, seen):
    async for progress in campaign.follow(poll=0.01, timeout=60):
        seen.append(progress)


def arguments(stage):
    from pysonar import LinearClassifier
    from sonar.units import ether

    return {
        "model": LinearClassifier(4, 3), "validation": stage.validation, "bounty": ether(1), "target": 0.9,
        "deadline": "2h", "rounds": {"round_size": 3, "round_seconds": 600},
    }  # fmt: skip


def post_and_settle(stage, campaign):
    for _ in range(3):
        stage.submit(campaign, stage.new_account())
    stage.settle(campaign, 950_000, [500_000, 300_000, 200_000])
