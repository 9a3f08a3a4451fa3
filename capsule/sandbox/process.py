"""One judge process, seen from the service: what it is started with, and the times that it tells with its answers."""

import sys
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from capsule.sandbox.errors import JobLostError, SandboxError
from capsule.sandbox.limits import Limits, cores
from capsule.sandbox.meter import read_spent
from sonar import sandbox
from sonar.sandbox import Frame, FrameError
from sonar.sandbox.environment import inherited_environment

__all__ = ["Process"]

_CLOCK_SECONDS: Final = 1.0
"""How far clocks of time and of processor time may disagree."""
Answer = TypeVar("Answer")

_THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Process(sandbox.Process):
    """A process that waits for a job; raises SandboxError where it cannot be started. For one thread at a time.

    Linux ends it together with the thread that made it.
    """

    called = "judge process"
    failed = SandboxError
    lost = JobLostError

    def __init__(self, limits: Limits, jobs: str, *, allow_insecure_small_key: bool = False) -> None:
        command = [sys.executable, "-P", "-m", "capsule.sandbox", "--memory", str(limits.memory), "--jobs", jobs]
        if allow_insecure_small_key:
            command.append("--allow-insecure-small-key")
        super().__init__(command, _environment(limits), limits.memory)

    def judge(
        self, request: Frame, understand: Callable[[Frame], Answer], *, seconds: float, most: int
    ) -> tuple[Answer, dict[str, int]]:
        """What `understand` makes of the answer, and the microseconds that were spent on what.

        Raises JobLostError as `ask` does.
        """
        started = time.monotonic()

        def read(answer: Frame) -> tuple[Answer, dict[str, int]]:
            if answer.body.keys() != {"done", "spent"}:
                raise FrameError("it has neither an answer nor a reason")
            most_spent = (time.monotonic() - started) * cores() + _CLOCK_SECONDS
            done: dict[str, Any] = answer.body["done"]
            return understand(Frame(done, answer.blobs)), read_spent(answer.body["spent"], most_spent)

        return self.ask(request, read, seconds=seconds, most=most)


def _environment(limits: Limits) -> dict[str, str]:
    single = dict.fromkeys(_THREADS, "1")
    # BLAS takes memory for every core and malloc address space for every thread, unless they are told their number.
    ours = {"SONAR_ENGINE_WORKERS": str(limits.threads), "MALLOC_ARENA_MAX": "2", "PYTHONDONTWRITEBYTECODE": "1"}
    return {**inherited_environment(), **single, **ours}
