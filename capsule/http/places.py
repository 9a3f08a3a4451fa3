"""The service's blocking calls in threads: so many at once, and an answer in time even where one hangs."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from fastapi.concurrency import run_in_threadpool

from capsule.errors import CapsuleUnavailableError

__all__ = ["Places"]

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Places:
    """At most `most` calls run at once, each answered within `seconds`; one event loop's.

    `most` stays below the threads that there are (40), so that who asks for health finds one.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self._free, self._seconds = most, seconds

    async def run(
        self, call: Callable[Arguments, Result], *arguments: Arguments.args, **named: Arguments.kwargs
    ) -> Result:
        """The call's result; raises CapsuleUnavailableError where no place is free or no result comes in time.

        A call that is late goes on, and holds its place until it ends: a thread cannot be stopped.
        """
        if self._free <= 0:
            raise CapsuleUnavailableError("the Capsule is busy: try again in some seconds")
        self._free -= 1
        task = asyncio.ensure_future(run_in_threadpool(call, *arguments, **named))
        task.add_done_callback(self._end)
        done, _ = await asyncio.wait({task}, timeout=self._seconds)
        if not done:
            raise CapsuleUnavailableError(f"the Capsule found no answer within {self._seconds:g} s: try again later")
        return task.result()

    def _end(self, task: "asyncio.Task[Result]") -> None:
        self._free += 1
        if not task.cancelled():
            task.exception()  # who asked has read it, or is gone
