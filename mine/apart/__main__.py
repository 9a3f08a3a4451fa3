"""A process that reads records or trains: `python -m mine.apart` takes one word on what it may open, and then jobs.

Its parent has started it and speaks to it over its pipes alone.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any, Final

from sonar.hardening import harden
from sonar.sandbox.errors import ProcessError
from sonar.sandbox.frames import Frame
from sonar.sandbox.inside import Pipes, confine, serve
from sonar.sandbox.kernel import Dialling, drop_capabilities, forbid_files, forbid_network

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
    drop_capabilities()
    harden()  # no other process of this user may read the records in this one's memory
    state: dict[str, Any] = {}

    def work(request: Frame) -> Frame:
        if "desk" not in state:
            # The first word, while there is one thread: what numpy and DuckDB start later inherits it all.
            kept = _restrict(request)
            from mine.apart.jobs import Desk

            state["desk"] = Desk(lambda told: pipes.send(Frame({"told": told})))
            return Frame({"done": kept})
        answer: Frame = state["desk"].do(request)
        return answer

    serve(pipes, {}, work)


def _restrict(request: Frame) -> dict[str, Any]:
    """What this process could not be kept from, in words; None for what it is.

    The blobs are the paths that may be read and those that may be listed, each ended by a zero byte. `server` in the
    body is None where there is no network at all.
    """
    readable, listed = ([Path(os.fsdecode(path)) for path in blob.split(b"\0")[:-1]] for blob in request.blobs)
    server = request.body["server"]
    files = forbid_files(readable, None if server is None else server["ports"], listed=listed)
    if server is None:
        return {"files": files, "network": forbid_network()}
    network = forbid_network(Dialling(tcp=bool(server["ports"]), unix=server["unix"]))
    if network is None:
        _shut_behind_the_connection()
    return {"files": files, "network": network}


def _shut_behind_the_connection() -> None:
    """Has nothing be connected to any more once a reader has its database, before it reads the first record."""
    from mine.data.rowtable import PostgresTable

    def shut() -> None:
        if (why := forbid_network(connected=True)) is not None:
            raise ProcessError(f"the network cannot be forbidden once the database is there: {why}")

    PostgresTable.when_connected.append(shut)


if __name__ == "__main__":
    main(sys.argv[1:])
