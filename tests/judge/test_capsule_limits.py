"""Who asks too often is told when to come back, and nobody can make the Capsule remember without end."""

import asyncio
import threading

import pytest

from capsule.errors import CapsuleUnavailableError
from capsule.http.errors import LimitedError
from capsule.http.limits import Limit, Windows, group_of
from capsule.http.places import Places


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def limit(clock: Clock, per_minute: int, most: int = 100) -> Limit:
    return Limit("the address", per_minute, windows=Windows(most, clock))


def test_one_request_too_many_within_any_minute_is_refused(clock: Clock) -> None:
    three = limit(clock, 3)
    for _ in range(3):
        three.take("a")
        clock.now += 19
    with pytest.raises(LimitedError, match="3 times a minute: try again in 3 s") as caught:
        three.take("a")
    assert (caught.value.code, caught.value.retry_after) == ("too_many_requests", 3)
    clock.now += 3
    three.take("a")
    with pytest.raises(LimitedError):
        three.take("a")


def test_what_is_refused_is_not_counted(clock: Clock) -> None:
    two = limit(clock, 2)
    two.take("a")
    two.take("a")
    for _ in range(10):
        with pytest.raises(LimitedError):
            two.take("a")
    clock.now += 60
    two.take("a")


def test_one_name_does_not_count_for_another(clock: Clock) -> None:
    one = limit(clock, 1)
    one.take("a")
    one.take("b")
    with pytest.raises(LimitedError, match="the address a"):
        one.take("a")


def test_only_so_many_names_are_remembered(clock: Clock) -> None:
    windows = Windows(10, clock)
    many = Limit("the address", 1, windows=windows)
    for number in range(1000):
        many.take(str(number))
    assert len(windows) == 10
    with pytest.raises(LimitedError):
        many.take("999")


def test_threads_do_not_get_more_than_one_together(clock: Clock) -> None:
    hundred, taken = limit(clock, 100), []

    def ask() -> None:
        for _ in range(50):
            try:
                hundred.take("a")
                taken.append(1)
            except LimitedError:
                pass

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 100


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "unknown"),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_an_ipv6_customer_is_one_however_many_addresses_he_has(address: str | None, group: str) -> None:
    assert group_of(address) == group


def test_a_call_that_is_late_is_answered_in_time_and_keeps_its_place_until_it_ends() -> None:
    go, ended = threading.Event(), threading.Event()

    def hang() -> None:
        go.wait(30)
        ended.set()

    async def play() -> None:
        places = Places(1, 0.05)
        with pytest.raises(CapsuleUnavailableError, match="no answer within"):
            await places.run(hang)
        with pytest.raises(CapsuleUnavailableError, match="busy"):
            await places.run(int)
        go.set()
        await asyncio.to_thread(ended.wait, 30)
        deadline = asyncio.get_running_loop().time() + 10
        while asyncio.get_running_loop().time() < deadline:
            try:
                assert await places.run(int) == 0
            except CapsuleUnavailableError:
                await asyncio.sleep(0)
            else:
                return
        pytest.fail("the place was never given back")

    asyncio.run(play())


def test_a_calls_error_is_the_callers_and_gives_the_place_back() -> None:
    async def play() -> None:
        places = Places(1, 10)
        for _ in range(3):
            with pytest.raises(ValueError, match="invalid literal"):
                await places.run(int, "x")

    asyncio.run(play())
