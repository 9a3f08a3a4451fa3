"""What a process that works apart does first, and its loop: reads jobs on stdin and answers on stdout, one at a time.

It ends when its stdin does; on Linux also at once when its parent dies, whatever it is at.
"""

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from sonar.sandbox.frames import Frame, encode, read

__all__ = ["Pipes", "confine", "serve"]

_PR_SET_PDEATHSIG: Final = 1


class Pipes:
    """Copies of stdin and stdout for frames alone: what a library prints or reads goes nowhere."""

    def __init__(self) -> None:
        self._source, self._sink = os.dup(0), os.dup(1)
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, 0)
        os.dup2(nowhere, 1)
        os.close(nowhere)

    def send(self, frame: Frame) -> None:
        """Writes a frame."""
        for piece in encode(frame):
            view = memoryview(piece)
            while view:
                view = view[os.write(self._sink, view) :]

    def read(self) -> Frame:
        """The next frame; raises EOFError where there is none."""
        return read(self._take)

    def _take(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            piece = os.read(self._source, min(count - len(data), 1 << 20))
            if not piece:
                raise EOFError
            data += piece
        return bytes(data)


def confine(memory: int, *, niceness: int, open_files: int) -> None:
    """Limits this process to `memory` bytes of address space and `open_files`; it writes no file, nor a core dump.

    Signals that end the parent are for the parent, which ends this process when it may. Raises OSError where the system
    refuses.
    """
    os.umask(0o077)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if os.name != "posix":
        return
    import resource

    os.nice(niceness)  # whoever asks the parent something goes first
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))
    if sys.platform == "linux":
        library = ctypes.CDLL(None, use_errno=True)
        if library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "the process cannot be made to end with its parent")


def serve(pipes: Pipes, greeting: Mapping[str, Any], work: Callable[[Frame], Frame]) -> None:
    """Answers requests until there are no more; `work` gives a frame whose body has the answer under `done`."""
    pipes.send(Frame(dict(greeting)))
    while True:
        try:
            request = pipes.read()
            answer = work(request)
            pipes.send(answer)
            del request, answer
        except EOFError:
            return
        except MemoryError:
            # Nothing that is in memory now can be trusted to work: the parent starts another process.
            pipes.send(Frame({"lost": "memory", "where": ""}))
            return
        except Exception as error:  # noqa: BLE001  (told to the parent, whose log shows it)
            # Where, and never what: a message may hold what the job was about.
            pipes.send(Frame({"lost": "failure", "where": _place(error)}))
            return


def _place(error: BaseException) -> str:
    """The kind of an error and the places in code that it came from."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    places = " < ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in reversed(frames))
    return f"{type(error).__name__} at {places}"
