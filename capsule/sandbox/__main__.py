"""A judge process: `python -m capsule.sandbox` reads jobs on stdin and answers on stdout, one at a time.

Its parent has started it and speaks to it through these pipes only. It opens no file for writing and no connection.
"""

import argparse
import sys
from typing import Final

from sonar.sandbox.inside import Pipes, confine, serve

__all__ = ["main"]

_OPEN_FILES: Final = 64
_NICENESS: Final = 10


def main(arguments: list[str]) -> None:
    """Serves until stdin ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--memory", type=int, required=True)
    parser.add_argument("--allow-insecure-small-key", action="store_true")
    parser.add_argument("--jobs", default="capsule.sandbox.jobs:Jobs")
    given = parser.parse_args(arguments)
    pipes = Pipes()
    from capsule.secret import harden

    harden()
    confine(given.memory, niceness=_NICENESS, open_files=_OPEN_FILES)
    _serve(pipes, given.jobs, given.allow_insecure_small_key)


def _serve(pipes: Pipes, jobs: str, allow: bool) -> None:
    from importlib import import_module

    from sonar.errors import SonarError
    from sonar.sandbox.frames import Frame
    from sonar.syft import get_engine

    module, _, name = jobs.partition(":")
    try:
        engine = get_engine()
        work = getattr(import_module(module), name)(allow_insecure_small_key=allow)
    except SonarError as error:
        pipes.send(Frame({"problem": str(error)}))
        return

    def answer(request: Frame) -> Frame:
        done = work.do(request)
        return Frame({"done": done.body, "spent": work.meter.microseconds()}, done.blobs)

    serve(pipes, {"engine": engine.name}, answer)


if __name__ == "__main__":
    main(sys.argv[1:])
