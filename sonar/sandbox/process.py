"""One process that works apart, seen from outside: started with nothing of ours, asked one job at a time, ended.

What it answers is as hostile as what it was given last.
"""

import contextlib
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, TypeVar

from sonar.sandbox.errors import FrameError, JobLostError, Loss, ProcessError
from sonar.sandbox.frames import Frame, encode, read

__all__ = ["Process"]

_START_SECONDS: Final = 60.0
_END_SECONDS: Final = 5.0
"""How long a process may live on that has closed its pipe: its memory was given back before."""
_LOOK_SECONDS: Final = 0.01
_PIECE: Final = 1 << 20
"""At most so much is written or read at once; no pipe of who is not root holds more."""
_NO_MEMORY: Final = (b"emory allocation still failed", b"annot allocate memory", b"std::bad_alloc", b"MemoryError")
"""What OpenBLAS, GMP and the loader, C++ and Python print of an allocation that failed before they end a process."""
Answer = TypeVar("Answer")


class Process:
    """A process that waits for a job; raises `failed` where it cannot be started. For one thread at a time.

    `command` is a program that begins with `sonar.sandbox.inside`, `memory` the bytes of address space that it gives
    itself. It gets `environment` and no descriptor but its pipes. Linux ends it together with the thread that made it.
    """

    called: ClassVar[str] = "process"
    """What errors call it."""
    failed: ClassVar[type[ProcessError]] = ProcessError
    lost: ClassVar[type[JobLostError]] = JobLostError

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], memory: int) -> None:
        pipe = subprocess.PIPE
        # What it prints is never shown, since it may be of the job. Once the pipe is full, more of it is dropped.
        try:
            self._prints, printing = os.pipe()
        except OSError as error:
            raise self.failed(f"no {self.called} can be started: {error.strerror}") from error
        os.set_blocking(self._prints, False)
        os.set_blocking(printing, False)
        try:
            self._popen = subprocess.Popen(  # noqa: S603  (our own program)
                command, stdin=pipe, stdout=pipe, stderr=printing, env=environment, bufsize=0,
            )  # fmt: skip
        except OSError as error:
            os.close(self._prints)
            raise self.failed(f"no {self.called} can be started: {error.strerror}") from error
        finally:
            os.close(printing)
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._sink, self._source = self._popen.stdin.fileno(), self._popen.stdout.fileno()
        os.set_blocking(self._sink, False)
        os.set_blocking(self._source, False)
        self._memory = memory
        # Its own highest count begins at what this process, from which it was forked, holds.
        self._inherited = _most_held(resource.getrusage(resource.RUSAGE_SELF))
        self._reaping = threading.Lock()
        self.jobs_done = 0
        self.greeting = self._greet()

    @property
    def pid(self) -> int:
        """Its number."""
        return self._popen.pid

    @property
    def alive(self) -> bool:
        """Whether it can take a job."""
        return self._popen.returncode is None

    def ask(
        self,
        request: Frame,
        understand: Callable[[Frame], Answer],
        *,
        seconds: float,
        most: int,
        tell: Callable[[Any], None] | None = None,
    ) -> Answer:
        """What `understand` makes of the answer; `tell` gets what the process tells before that.

        Raises `lost`, after which the process has ended, where there is no answer within `seconds` of at most `most`
        bytes in its blobs, or one of which `understand` raises FrameError.
        """
        pieces = encode(request)
        self.jobs_done += 1
        self._printed()  # of earlier jobs
        deadline = time.monotonic() + seconds
        try:
            # One that ended while it was being told may have said why.
            with contextlib.suppress(BrokenPipeError):
                self._send(pieces, deadline)
            while True:
                answer = read(lambda count: self._take(count, deadline), most)
                if tell is None or answer.body.keys() != {"told"} or answer.blobs:
                    return understand(self._opened(answer))
                tell(answer.body["told"])
        except FrameError as error:
            raise self._lost(Loss.LIE, f"its answer makes no sense: {error}") from error
        except TimeoutError as error:
            raise self._lost(Loss.TIME, f"it took more than {seconds:.0f} seconds") from error
        except EOFError as error:
            raise self._lost(*self._epitaph()) from error
        except BaseException:
            # Of ours, perhaps in the middle of an answer: the next job must not get the rest of it.
            self.end()
            raise

    def end(self) -> None:
        """Ends the process, whatever it does."""
        if self.alive:
            self.interrupt()
            self._reap()

    def interrupt(self) -> None:
        """Kills the process, from any thread; whoever asked it something gets `lost`."""
        with self._reaping:
            if self.alive:  # nobody has reaped it, so that the number is its own; Popen.kill would, and leave no usage
                os.kill(self.pid, signal.SIGKILL)

    def _greet(self) -> dict[str, Any]:
        deadline = time.monotonic() + _START_SECONDS
        try:
            hello = read(lambda count: self._take(count, deadline), 0)
        except (FrameError, TimeoutError) as error:
            self.end()
            raise self.failed(f"a {self.called} does not start: {error}") from error
        except EOFError as error:
            raise self.failed(f"a {self.called} does not start: {self._epitaph()[1]}") from error
        if "problem" in hello.body:
            self.end()
            raise self.failed(f"a {self.called} does not start: {hello.body['problem']!s:.500}")
        return hello.body

    def _opened(self, answer: Frame) -> Frame:
        body = answer.body
        if body.keys() == {"lost", "where"} and body["lost"] in ("memory", "failure"):
            where = "it needs more memory than it may have" if body["lost"] == "memory" else f"{body['where']!r:.500}"
            raise self._lost(Loss(body["lost"]), where)
        if "done" not in body or not isinstance(body["done"], dict):
            raise FrameError("it has neither an answer nor a reason")
        return answer

    def _send(self, pieces: list[bytes], deadline: float) -> None:
        for piece in pieces:
            view = memoryview(piece)
            while view:
                self._wait(self._sink, select.POLLOUT, deadline)
                with contextlib.suppress(BlockingIOError):
                    view = view[os.write(self._sink, view[:_PIECE]) :]

    def _take(self, count: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < count:
            self._wait(self._source, select.POLLIN, deadline)
            piece = os.read(self._source, min(count - len(data), _PIECE))
            if not piece:
                raise EOFError
            data += piece
        return bytes(data)

    @staticmethod
    def _wait(descriptor: int, event: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(descriptor, event)
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise TimeoutError(f"no answer in time from descriptor {descriptor}")

    def _lost(self, loss: Loss, why: str) -> JobLostError:
        self.end()
        return self.lost(loss, f"{self.called} {self.pid} was lost at a job: {why}")

    def _epitaph(self) -> tuple[Loss, str]:
        """Why it ended by itself. GMP and BLAS end it where they get no memory, and the system kills the largest."""
        if not self.alive:
            return Loss.CRASH, "it was ended"
        if not self._ends():
            self.end()
            return Loss.CRASH, "it closed its pipe and did not end"
        status, usage, printed = self._reap()
        if any(words in printed for words in _NO_MEMORY):
            return Loss.MEMORY, f"it needs more memory than the {self._memory >> 20} MiB that it may have"
        if usage > self._inherited and usage * 4 > self._memory * 3:
            return (
                Loss.MEMORY,
                f"it ended holding {usage >> 20} MiB, and may have {self._memory >> 20} of address space",
            )
        if os.WIFSIGNALED(status):
            return Loss.CRASH, f"it was ended by {signal.Signals(os.WTERMSIG(status)).name}"
        return Loss.CRASH, f"it ended with {os.waitstatus_to_exitcode(status)}"

    def _ends(self) -> bool:
        """Whether it comes to an end by itself, now that its pipe is closed."""
        deadline = time.monotonic() + _END_SECONDS
        while os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK_SECONDS)
        return True

    def _printed(self) -> bytes:
        """What it printed since this was asked, as far as the pipe held it; what is being printed is not waited for."""
        try:
            return os.read(self._prints, _PIECE)
        except BlockingIOError:
            return b""

    def _reap(self) -> tuple[int, int, bytes]:
        """Its exit status, the most memory that it held, in bytes, and what it printed."""
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        with self._reaping:  # from here on the number may be another process's
            _, status, usage = os.wait4(self.pid, 0)
            self._popen.returncode = os.waitstatus_to_exitcode(status)
        for stream in (self._popen.stdin, self._popen.stdout):
            assert stream is not None
            stream.close()
        printed = self._printed()
        os.close(self._prints)
        return status, _most_held(usage), printed


def _most_held(usage: resource.struct_rusage) -> int:
    """The most memory that a process held, in bytes."""
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
