"""Reading ahead: the same items, errors where they belong, and no thread left behind."""

import threading

import pytest

from mine.data.ahead import ahead


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "reading ahead"]


@pytest.mark.parametrize("depth", [1, 3])
def test_items_come_in_their_order_and_the_thread_ends(depth):
    with ahead(iter(range(100)), depth) as items:
        assert list(items) == list(range(100))
    assert threads() == []


def test_an_error_comes_where_its_item_would_have_been():
    def broken():
        yield 1
        yield 2
        raise ValueError("torn")

    taken = []
    with pytest.raises(ValueError, match="torn"), ahead(broken()) as items:
        taken.extend(items)
    assert taken == [1, 2]
    assert threads() == []


def test_who_stops_early_ends_the_thread_and_the_iterator():
    closed = threading.Event()

    def endless():
        try:
            number = 0
            while True:
                yield number
                number += 1
        finally:
            closed.set()

    with ahead(endless(), depth=2) as items:
        assert [next(items) for _ in range(3)] == [0, 1, 2]
    assert closed.is_set()
    assert threads() == []


def test_no_more_is_fetched_than_was_asked_for():
    fetched, second = [], threading.Event()

    def counting():
        for number in range(100):
            fetched.append(number)
            if number == 2:
                second.set()
            yield number

    with ahead(counting(), depth=1) as items:
        assert next(items) == 0
        assert second.wait(10)
        # One taken, one that waits, and one that the thread holds until there is room.
        assert fetched == [0, 1, 2]
