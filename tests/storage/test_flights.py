"""Calls that may never come back: shared, counted, interrupted."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from sonar.storage._flights import Flights, FlightsFullError


class World:
    """Calls that wait until they are let go, and what was released."""

    def __init__(self, most: int) -> None:
        self.gate = threading.Event()
        self.released: list[object] = []
        self.calls = 0
        self.flights = Flights(most, release=self.released.append, interrupt=self.gate.set)

    def wait(self) -> str:
        self.calls += 1
        assert self.gate.wait(10)
        return "result"

    def join(self, key: str, timeout: float = 10) -> str:
        with self.flights.join(key, self.wait, timeout) as result:
            assert isinstance(result, str)
            return result


@pytest.fixture
def world() -> Iterator[World]:
    world = World(2)
    yield world
    world.gate.set()


def test_the_result_is_released_once_after_its_last_waiter(world: World) -> None:
    world.gate.set()
    with world.flights.join("key", world.wait, 10) as result:
        assert result == "result"
        assert world.released == []
    assert world.released == ["result"]


def test_waiters_for_the_same_key_share_one_call(world: World) -> None:
    with ThreadPoolExecutor(5) as pool:
        waiting = [pool.submit(world.join, "key") for _ in range(5)]
        while not all(each.running() for each in waiting):
            continue
        world.gate.set()
        assert {each.result(10) for each in waiting} == {"result"}
    assert len(world.released) == world.calls


def test_a_waiter_leaves_at_its_deadline_and_the_next_finds_the_call_under_way(world: World) -> None:
    with pytest.raises(TimeoutError):
        world.join("key", 0.01)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(world.join, "key")
        world.gate.set()
        assert waiting.result(10) == "result"
    assert world.calls <= 2


def test_abandoned_calls_are_interrupted_when_room_is_needed(world: World) -> None:
    for key in ("one", "two"):
        with pytest.raises(TimeoutError):
            world.join(key, 0.01)
    assert world.join("three") == "result"
    assert world.gate.is_set()
    assert world.released == ["result"] * 3


def test_calls_that_somebody_waits_for_are_not_interrupted(world: World) -> None:
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(world.join, key) for key in ("one", "two")]
        while world.calls < 2:
            continue
        with pytest.raises(FlightsFullError):
            world.join("three")
        assert not world.gate.is_set()
        world.gate.set()
        assert [each.result(10) for each in waiting] == ["result"] * 2


def test_an_error_reaches_the_waiter(world: World) -> None:
    def fail() -> None:
        raise ZeroDivisionError("as it was")

    with pytest.raises(ZeroDivisionError, match="as it was"), world.flights.join("key", fail, 10):
        pass
