"""Reads on while what was read before is still being worked on: the two take a core each."""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["ahead"]

Item = TypeVar("Item")


@contextmanager
def ahead(items: Iterator[Item], depth: int = 1) -> Iterator[Iterator[Item]]:
    """The same items in the same order, up to `depth` of them fetched beforehand by a thread of its own.

    None of them is None. What fetching raises is raised where its item would have come. The thread has ended when the
    context is left, and the items' iterator with it.
    """
    ready: queue.Queue[tuple[Item | None, BaseException | None]] = queue.Queue(depth)
    stop, over = threading.Event(), threading.Event()

    def fetch() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                ready.put((item, None))
                if stop.is_set():
                    break
        except BaseException as raised:  # noqa: BLE001  (raised again by who takes the items)
            error = raised
        ready.put((None, error))

    def take() -> Iterator[Item]:
        while not over.is_set():
            item, error = ready.get()
            if item is not None:
                yield item
                continue
            over.set()
            if error is not None:
                raise error

    thread = threading.Thread(target=fetch, name="reading ahead", daemon=True)
    thread.start()
    try:
        yield take()
    finally:
        stop.set()
        while not over.is_set():  # makes room for what the thread still holds, up to its last word
            if ready.get()[0] is None:
                over.set()
        thread.join()
        close = getattr(items, "close", None)
        if close is not None:
            close()
