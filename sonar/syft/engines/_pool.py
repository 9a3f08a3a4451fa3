"""The processes beside this one that compute maps: started once, when the first large map comes, and kept.

They are `_worker` programs at the other end of pipes rather than `multiprocessing` children: nothing is forked beside
threads, nobody's `__main__` is imported again, and nothing is pickled.
"""

import atexit
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import Future

import numpy as np

from sonar.syft.engines import _worker
from sonar.syft.engines._checks import not_coprime
from sonar.syft.engines._subset_map import raw_map
from sonar.syft.engines.base import Exponents, Progress
from sonar.syft.errors import EngineError

__all__ = ["MapPool"]


_POOLS: "weakref.WeakSet[MapPool]" = weakref.WeakSet()


class MapPool:
    """Splits maps over this process and `helpers` others. One map at a time; safe in threads."""

    def __init__(self, helpers: int) -> None:
        self._count = helpers
        self._helpers: list[_Helper] = []
        self._lock = threading.Lock()
        _POOLS.add(self)

    def raw_map(
        self, bases: Sequence[int], exponents: Exponents, n: int, bits: int, progress: Progress | None
    ) -> list[int]:
        """`_subset_map.raw_map`, each process taking some of the bases; raises EngineError where one ends too early."""
        shares = self._count + 1
        cuts = [slice(len(bases) * share // shares, len(bases) * (share + 1) // shares) for share in range(shares)]
        mine, others = cuts[0], cuts[1:]
        with self._lock:
            try:
                self._start()
                parts = [
                    helper.submit(list(bases[cut]), exponents[:, cut], n, bits)
                    for helper, cut in zip(self._helpers, others, strict=True)
                ]
                own = raw_map(bases[mine], exponents[:, mine], n, bits, progress and _capped(progress))
                results = [own, *(part.result() for part in parts)]
            except BaseException:
                # Whatever a helper is still doing is for nobody any more; the next map starts new ones.
                self._end()
                raise
        n_squared = n * n
        products = results[0]
        for part in results[1:]:
            products = [a * b % n_squared for a, b in zip(products, part, strict=True)]
        if progress is not None:
            progress(1.0)
        return products

    def close(self) -> None:
        """Ends the processes; the next map starts new ones."""
        with self._lock:
            self._end()

    def forget(self) -> None:
        """For a forked child: it must neither use its parent's pipes nor end what answers there."""
        for helper in self._helpers:
            helper.forget()
        self._helpers, self._lock = [], threading.Lock()  # a thread that the child lacks may have held the lock
        atexit.unregister(self.close)

    def _start(self) -> None:
        if not self._helpers:
            self._helpers = [_Helper() for _ in range(self._count)]
            atexit.register(self.close)

    def _end(self) -> None:
        atexit.unregister(self.close)
        helpers, self._helpers = self._helpers, []
        for helper in helpers:
            helper.end()


class _Helper:
    """One process."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "sonar.syft.engines._worker"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe)  # noqa: S603  (our own program)

    def submit(self, bases: list[int], exponents: Exponents, n: int, bits: int) -> Future[list[int]]:
        """Has a part of a map computed."""
        future: Future[list[int]] = Future()
        job = (bases, np.array(exponents), n, bits)
        threading.Thread(target=self._run, args=(future, job), name="map", daemon=True).start()
        return future

    def end(self) -> None:
        """Ends the process, whatever it does."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            try:
                stream.close()
            except BrokenPipeError:
                continue  # what was not sent any more

    def forget(self) -> None:
        """Closes this process's ends of the pipes; the other process belongs to another one."""
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            # Not closed: what the parent was sending would go into the pipe once more.
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
            stream.close()
        self._process.returncode = 0  # not this process's to wait for

    def _run(self, future: Future[list[int]], job: tuple[list[int], Exponents, int, int]) -> None:
        try:
            future.set_result(self._ask(*job))
        except Exception as error:  # noqa: BLE001  (whoever asks for the result gets it)
            future.set_exception(error)

    def _ask(self, bases: list[int], exponents: Exponents, n: int, bits: int) -> list[int]:
        source, sink = self._process.stdout, self._process.stdin
        assert source is not None
        assert sink is not None
        try:
            size = _worker.send_job(sink, bases, exponents, n, bits)
            answer = _worker.read_frame(source)
        except (OSError, EOFError, ValueError) as error:
            raise self._lost() from error
        if answer is None:
            raise self._lost()
        if answer[:1] == _worker.NOT_COPRIME:
            raise not_coprime()
        return _worker.unpack(answer[1:], size)

    def _lost(self) -> EngineError:
        return EngineError(
            f"process {self._process.pid}, which computed a part of a map, has ended: is there enough memory? "
            "SONAR_ENGINE_WORKERS=1 does without other processes"
        )


def _forget_pools() -> None:
    for pool in list(_POOLS):
        pool.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pools)


def _capped(progress: Progress) -> Progress:
    """All but the end, which is reached when the others are done too."""
    return lambda done: progress(min(done, 0.99))
