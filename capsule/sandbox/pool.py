"""A few judge processes that many campaigns share: who is next, and what becomes of a process that was lost.

Every campaign has a lane, and the lanes take turns, so whoever posts much or slow work waits behind its own. A lane
whose last job was lost gets one process at a time, until it answers again.
"""

import logging
import queue
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final, TypeVar

from capsule.sandbox.errors import JobLostError, SandboxError
from capsule.sandbox.limits import Limits
from capsule.sandbox.process import Process
from sonar.sandbox import Loss
from sonar.sandbox.frames import Frame

__all__ = ["Pool"]

_log = logging.getLogger("capsule.sandbox")
_MOST_JOBS: Final = 10_000
"""Jobs of one process: a leak in a library, or what an artifact may have broken in it, does not last for ever."""
_RETRY_SECONDS: Final = (1.0, 30.0)

Answer = TypeVar("Answer")


@dataclass(slots=True, eq=False)
class _Ticket:
    """A job that waits for a process."""

    lane: str
    process: Future[Process] = field(default_factory=Future)


class Pool:
    """`limits.size` processes that do the jobs of `jobs`, a class named as module:name. Safe in threads."""

    def __init__(self, limits: Limits, jobs: str, *, allow_insecure_small_key: bool = False) -> None:
        self.limits = limits
        self._jobs, self._allow = jobs, allow_insecure_small_key
        self._changed = threading.Condition()
        self._lanes: OrderedDict[str, deque[_Ticket]] = OrderedDict()
        self._idle: list[Process] = []
        self._busy: dict[Process, str] = {}
        self._suspects: set[str] = set()
        self._wanted: queue.SimpleQueue[Future[Process] | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._problem: str | None = None
        self._keeper: threading.Thread | None = None
        self.spent: Counter[str] = Counter()
        self.losses: Counter[str] = Counter()

    def start(self) -> None:
        """Starts all processes, and returns once they wait for jobs; raises SandboxError where one does not start."""
        self._keeper = threading.Thread(target=self._keep, name="judges", daemon=True)
        self._keeper.start()
        first = [self._want() for _ in range(self.limits.size)]
        failures = []
        for wanted in first:
            error = wanted.exception()
            if error is None:
                self._add(wanted.result())
            else:
                failures.append(error)
                self._stopping.set()
        if failures:
            self.stop()
            raise failures[0]

    def stop(self) -> None:
        """Ends all processes; jobs that run or wait raise SandboxError."""
        with self._changed:
            self._stopping.set()
            waiting = [ticket for lane in self._lanes.values() for ticket in lane]
            self._lanes.clear()
            idle, self._idle = self._idle, []
            for process in self._busy:
                process.interrupt()
        for ticket in waiting:
            ticket.process.set_exception(_stopped())
        for process in idle:
            process.end()
        with self._changed:
            self._changed.wait_for(lambda: not self._busy)
        self._wanted.put(None)
        if self._keeper is not None:
            self._keeper.join()

    @property
    def problem(self) -> str | None:
        """Why a process is missing, if one is."""
        return self._problem

    @property
    def pids(self) -> list[int]:
        """The present processes."""
        with self._changed:
            return [process.pid for process in (*self._idle, *self._busy)]

    @property
    def waiting(self) -> int:
        """How many jobs wait for a process."""
        with self._changed:
            return sum(len(tickets) for tickets in self._lanes.values())

    def run(
        self,
        lane: str,
        request: Frame,
        understand: Callable[[Frame], Answer],
        *,
        seconds: float,
        most: int = 0,
        fresh: bool = False,
    ) -> Answer:
        """What `understand` makes of the answer to a job, which waits for its lane's turn first.

        It raises FrameError for an answer that no such job gives. `fresh` has a new process do the job. Raises
        JobLostError where there is no answer within `seconds` and of at most `most` bytes in its blobs, and
        SandboxError where there are no processes.
        """
        process = self._acquire(lane, fresh=fresh)
        try:
            answer, spent = process.judge(request, understand, seconds=seconds, most=most)
        except JobLostError as error:
            if self._stopping.is_set():
                raise _stopped() from error
            self._count_loss(lane, error.loss)
            raise
        else:
            with self._changed:
                self._suspects.discard(lane)
                self.spent.update(spent)
                self.spent["jobs"] += 1
            return answer
        finally:
            self._release(process)

    # ---- turns

    def _acquire(self, lane: str, *, fresh: bool) -> Process:
        ticket = _Ticket(lane)
        with self._changed:
            if self._stopping.is_set() or self._keeper is None:
                raise _stopped()
            self._lanes.setdefault(lane, deque()).append(ticket)
            self._hand_out()
            self._check_hope()
        process = ticket.process.result()
        if not fresh or process.jobs_done == 0:
            return process
        # The used one makes room for a new one, whose turn it is.
        process.end()
        wanted = self._want()
        try:
            replacement = wanted.result()
        except SandboxError:
            self._release(process)
            raise
        with self._changed:
            del self._busy[process]
            self._busy[replacement] = lane
            if not self._stopping.is_set():
                return replacement
        self._release(replacement)
        raise _stopped()

    def _hand_out(self) -> None:
        """Gives idle processes to the lanes in turn; the caller holds the lock."""
        for lane in list(self._lanes):
            if not self._idle:
                return
            tickets = self._lanes[lane]
            if not tickets:
                del self._lanes[lane]
                continue
            if lane in self._suspects and lane in self._busy.values():
                continue
            process = self._idle.pop()
            self._busy[process] = lane
            ticket = tickets.popleft()
            self._lanes.move_to_end(lane)
            ticket.process.set_result(process)
        if self._idle and any(self._may_take(lane) for lane in self._lanes):
            self._hand_out()

    def _may_take(self, lane: str) -> bool:
        return bool(self._lanes[lane]) and not (lane in self._suspects and lane in self._busy.values())

    def _release(self, process: Process) -> None:
        with self._changed:
            self._busy.pop(process, None)
            if self._stopping.is_set():
                process.end()
            elif process.alive and process.jobs_done < _MOST_JOBS:
                self._idle.append(process)
                self._hand_out()
            else:
                process.end()
                self._want().add_done_callback(self._replace)
            self._changed.notify_all()

    def _count_loss(self, lane: str, loss: Loss) -> None:
        with self._changed:
            self._suspects.add(lane)
            self.losses[loss.value] += 1

    # ---- processes

    def _want(self) -> Future[Process]:
        future: Future[Process] = Future()
        self._wanted.put(future)
        return future

    def _add(self, process: Process) -> None:
        with self._changed:
            if self._stopping.is_set():
                process.end()
                return
            self._idle.append(process)
            self._hand_out()

    def _replace(self, wanted: Future[Process]) -> None:
        """Takes a new process for a lost one, or asks again for as long as none starts."""
        error = wanted.exception()
        if error is None:
            self._add(wanted.result())
        elif not self._stopping.is_set():
            self._want().add_done_callback(self._replace)

    def _check_hope(self) -> None:
        """Nobody waits for processes that do not start; the caller holds the lock."""
        if self._problem is None or self._idle or self._busy:
            return
        for tickets in self._lanes.values():
            for ticket in tickets:
                ticket.process.set_exception(SandboxError(self._problem))
        self._lanes.clear()

    def _keep(self) -> None:
        """Makes processes for as long as the pool lasts: Linux ends each with the thread that made it."""
        pause = _RETRY_SECONDS[0]
        while (wanted := self._wanted.get()) is not None:
            if self._stopping.is_set():
                wanted.set_exception(_stopped())
                continue
            made = self._make()
            if isinstance(made, Process):
                self._problem, pause = None, _RETRY_SECONDS[0]
                wanted.set_result(made)
                continue
            _log.error("%s", made)
            with self._changed:
                self._problem = str(made)
                self._check_hope()
            self._stopping.wait(pause)
            pause = min(2 * pause, _RETRY_SECONDS[1])
            wanted.set_exception(made)

    def _make(self) -> Process | SandboxError:
        try:
            return Process(self.limits, self._jobs, allow_insecure_small_key=self._allow)
        except SandboxError as error:
            return error
        except Exception as error:  # noqa: BLE001  (whatever it is, somebody waits, and others will)
            return SandboxError(f"no judge process can be started: {type(error).__name__}: {error}")


def _stopped() -> SandboxError:
    return SandboxError("the judge processes are stopped: start the Capsule again")
