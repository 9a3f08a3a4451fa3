"""A process that reads records or trains: `python -m mine.apart` takes one word on what it may open, and then jobs.

Its parent has started it and speaks to it over its pipes alone.
"""

import argparse
import sys
from pathlib import Path
from typing import Any, Final

from sonar.hardening import harden
from sonar.sandbox.frames import Frame
from sonar.sandbox.inside import Pipes, confine, serve
from sonar.sandbox.kernel import forbid_files, forbid_network

__all__ = ["main"]

_OPEN_FILES: Final = 1024


def main(arguments: list[str]) -> None:
    """Serves until stdin ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--memory", type=int, required=True)
    parser.add_argument("--niceness", type=int, required=True)
    given = parser.parse_args(arguments)
    pipes = Pipes()
    confine(given.memory, niceness=given.niceness, open_files=_OPEN_FILES)
    harden()  # no other process of this user may read the records in this one's memory
    state: dict[str, Any] = {}

    def work(request: Frame) -> Frame:
        if "desk" not in state:
            # The first word, while there is one thread: numpy and DuckDB start others, which nothing would restrict.
            kept = _restrict(**request.body)
            from mine.apart.jobs import Desk

            state["desk"] = Desk(lambda told: pipes.send(Frame({"told": told})))
            return Frame({"done": kept})
        answer: Frame = state["desk"].do(request)
        return answer

    serve(pipes, {}, work)


def _restrict(readable: list[str], ports: list[int] | None) -> dict[str, Any]:
    """What this process could not be kept from, in words; None for what it is. `ports` None: no network at all."""
    files = forbid_files(map(Path, readable), ports)
    network = "it is to be used" if ports is not None else forbid_network()
    return {"files": files, "network": network}


if __name__ == "__main__":
    main(sys.argv[1:])
