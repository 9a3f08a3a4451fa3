"""Jobs as bad as an artifact could make them, for tests of what contains them; and the real ones when told to wait."""

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from capsule.sandbox.jobs import Jobs
from capsule.sandbox.meter import Meter
from sonar.sandbox.frames import Frame

SECRET = "the prime is 1299709"


def burn_time() -> None:
    while True:
        sum(range(1000))


def burn_memory() -> None:
    held = []
    while True:
        held.append(bytearray(64 << 20))


class Hostile(Jobs):
    """The real jobs; a gradient that says so burns time or memory, and a JOB waits while a file `hold-JOB` is there."""

    def do(self, request: Frame) -> Frame:
        payload = request.blobs[-1] if request.body["job"] == "open" else b""
        if payload == b"burn time":
            burn_time()
        if payload == b"burn memory":
            burn_memory()
        if payload == b"crash":
            os.abort()
        self._wait_while_held(request.body["job"])
        return super().do(request)

    @staticmethod
    def _wait_while_held(job: str) -> None:
        place = Path(os.environ.get("TMPDIR", "/nowhere"))
        hold = place / f"hold-{job}"
        if hold.exists():
            (place / f"held-{os.getpid()}").touch()
            while hold.exists():
                time.sleep(0.01)


class FalseMeter(Meter):
    """Tells what it likes."""

    def __init__(self, spent: Any) -> None:
        super().__init__()
        self.spent = spent

    def microseconds(self) -> Any:
        return self.spent


class Burning(Jobs):
    """Named badness, one job each."""

    def do(self, request: Frame) -> Frame:
        found = getattr(self, "job_" + request.body["job"])(request)
        return found if isinstance(found, Frame) else Frame({})

    def job_echo(self, request: Frame) -> Frame:
        return Frame(request.body, request.blobs)

    def job_turn(self, request: Frame) -> Frame:
        """Says how many of these the process had begun before; one that is given a folder waits while `hold` is there.

        When it has begun, `begun` is there too.
        """
        self.turns = getattr(self, "turns", -1) + 1
        if "folder" in request.body:
            folder = Path(request.body["folder"])
            (folder / "begun").touch()
            while (folder / "hold").exists():
                time.sleep(0.01)
        return Frame({"turn": self.turns})

    def job_time(self, _: Frame) -> None:
        burn_time()

    def job_memory(self, _: Frame) -> None:
        burn_memory()

    def job_abort(self, _: Frame) -> None:
        os.abort()

    def job_killed(self, _: Frame) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def job_leave(self, _: Frame) -> None:
        os._exit(3)

    def job_close(self, _: Frame) -> None:
        """What a process that was taken over can do: close its pipe, and live on."""
        os.closerange(3, 64)
        burn_time()

    def job_raise(self, _: Frame) -> None:
        raise ValueError(SECRET)

    def job_large(self, request: Frame) -> Frame:
        return Frame({}, (bytes(request.body["size"]),))

    def job_print(self, _: Frame) -> None:
        print(SECRET)
        os.write(1, b"\xff" * 4096)
        sys.stdout.flush()
        with suppress(BlockingIOError):
            while True:  # what nobody reads is dropped, and holds no job up
                os.write(2, b"MemoryError\n" * 1000)

    def job_starve(self, _: Frame) -> None:
        """OpenBLAS ends a process itself, holding little, where it gets no memory for its buffers."""
        import resource

        import numpy as np

        factor = np.ones((600, 600))
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (8 << 20),) * 2)
        np.dot(factor, factor.T + 1)

    def job_garbage(self, _: Frame) -> None:
        """What a process that was taken over can do: write to the pipe whatever it likes."""
        for descriptor in range(3, 16):
            try:
                os.write(descriptor, b"\xff" * 64)
            except OSError:
                continue

    def job_unheard(self, _: Frame) -> Frame:
        return Frame({"anything": [1, 2]})

    def job_spent(self, request: Frame) -> None:
        """Tells of times as it was told to."""
        self.meter = FalseMeter(request.body["spent"])

    def job_facts(self, _: Frame) -> Frame:
        import resource

        facts: dict[str, Any] = {
            "environment": dict(os.environ),
            "arguments": sys.argv,
            "nice": os.nice(0),
            "memory": resource.getrlimit(resource.RLIMIT_AS)[0],
            "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
            "files": resource.getrlimit(resource.RLIMIT_FSIZE)[0],
            "stdin": str(Path("/proc/self/fd/0").readlink()),
            "stdout": str(Path("/proc/self/fd/1").readlink()),
        }
        return Frame(facts)
