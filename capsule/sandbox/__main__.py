"""A judge process: `python -m capsule.sandbox` reads jobs on stdin and answers on stdout, one at a time.

Its parent has started it and speaks to it through these pipes only. It ends when its stdin does; on Linux also at once
when its parent dies, whatever it is at. It opens no file for writing and no connection.
"""

import argparse
import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final

__all__ = ["main"]

_PR_SET_PDEATHSIG: Final = 1
_OPEN_FILES: Final = 64


def main(arguments: list[str]) -> None:
    """Serves until stdin ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--memory", type=int, required=True)
    parser.add_argument("--allow-insecure-small-key", action="store_true")
    parser.add_argument("--jobs", default="capsule.sandbox.jobs:Jobs")
    given = parser.parse_args(arguments)
    source, sink = _pipes()
    _confine(given.memory)
    _serve(given.jobs, given.allow_insecure_small_key, source, sink)


def _serve(jobs: str, allow: bool, source: int, sink: int) -> None:
    from importlib import import_module

    from capsule.sandbox.frames import Frame, encode, read
    from sonar.errors import SonarError
    from sonar.syft import get_engine

    def send(frame: Frame) -> None:
        for piece in encode(frame):
            _write(sink, piece)

    module, _, name = jobs.partition(":")
    try:
        engine = get_engine()
        work = getattr(import_module(module), name)(allow_insecure_small_key=allow)
    except SonarError as error:
        send(Frame({"problem": str(error)}))
        return
    send(Frame({"engine": engine.name}))
    take = _taker(source)
    while True:
        try:
            request = read(take)
            answer = work.do(request)
            send(Frame({"done": answer.body, "spent": work.meter.microseconds()}, answer.blobs))
            del request, answer
        except EOFError:
            return
        except MemoryError:
            # Nothing that is in memory now can be trusted to work: the parent starts another process.
            send(Frame({"lost": "memory", "where": ""}))
            return
        except Exception as error:  # noqa: BLE001  (told to the parent, whose log shows it)
            # Where, and never what: a message may hold what the job was about.
            send(Frame({"lost": "failure", "where": _place(error)}))
            return


def _pipes() -> tuple[int, int]:
    """Copies of stdin and stdout for frames alone: what a library prints or reads goes nowhere."""
    source, sink = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return source, sink


def _confine(memory: int) -> None:
    from capsule.secret import harden

    harden()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # for the parent, which ends this process when it may
    if os.name != "posix":
        return
    import resource

    os.nice(10)  # whoever asks the service something goes first
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))
    if sys.platform == "linux":
        library = ctypes.CDLL(None, use_errno=True)
        if library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "the process cannot be made to end with its parent")


def _taker(source: int) -> Callable[[int], bytes]:
    def take(count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            piece = os.read(source, min(count - len(data), 1 << 20))
            if not piece:
                raise EOFError
            data += piece
        return bytes(data)

    return take


def _write(sink: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(sink, view) :]


def _place(error: BaseException) -> str:
    """The kind of an error and the places in code that it came from."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    places = " < ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in reversed(frames))
    return f"{type(error).__name__} at {places}"


if __name__ == "__main__":
    main(sys.argv[1:])
