"""`python -m sonar.storage.ipfs_node`: the embedded IPFS node as a server that answers the RPC verbs of Kubo we use.

Verbs: add, cat, pin/add, pin/rm, id, version, swarm/connect, swarm/peers. What is added is always pinned, and kept as
UnixFS nodes, also where raw leaves are asked for, because the library knows no other form; what one raw block could
have is found here by that block's CID as well.
"""

import argparse
import contextlib
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sonar.errors import SonarError
from sonar.storage._rpc_server import NodeServer
from sonar.storage.embedded import EmbeddedNode
from sonar.storage.errors import StorageError

__all__ = ["main", "run_node"]

_DRAIN_SECONDS = 1.0
_DEADLINE_SECONDS = 30.0


def run_node(
    repo: Path | str,
    port: int = 0,
    *,
    public: bool = False,
    swarm_port: int = 0,
    deadline: float = _DEADLINE_SECONDS,
    announce: Callable[[dict[str, Any]], None] | None = None,
) -> None:
    """Serves a node on 127.0.0.1 until SIGTERM or SIGINT; to be called in the main thread of a process of its own.

    `announce` gets {"api": URL, "peer": ID, "swarm": [ADDRESS, ...]} once requests are answered, and prints it as one
    line of JSON by default. Only with `public` does the node talk to the public IPFS network.
    """
    ended = threading.Event()
    _end_on_signals(ended)
    node = EmbeddedNode(Path(repo), public=public, swarm_port=swarm_port)
    _end_on_signals(ended)  # again: Kubo takes SIGTERM and SIGINT for itself when it starts
    try:
        with _serving(node, port, deadline) as server:
            (announce or _print_line)({"api": server.url, "peer": node.peer_id, "swarm": node.addresses()})
            ended.wait()
    finally:
        node.close()


@contextlib.contextmanager
def _serving(node: EmbeddedNode, port: int, deadline: float) -> Iterator[NodeServer]:
    try:
        server = NodeServer(node, port, deadline=deadline)
    except OSError as error:
        raise StorageError(f"port {port} cannot be used for the IPFS node: {error.strerror}: choose another") from error
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="ipfs-rpc", daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        node.close()  # before the connections: it is what ends the ones that wait
        server.drain(_DRAIN_SECONDS)
        server.server_close()


def _end_on_signals(ended: threading.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())


def _print_line(value: dict[str, Any]) -> None:
    print(json.dumps(value), flush=True)


def main() -> None:
    """The command line; `sonar ipfs` is the same with friendlier talk."""
    parser = argparse.ArgumentParser(prog="python -m sonar.storage.ipfs_node", description="An embedded IPFS node.")
    parser.add_argument("--repo", type=Path, required=True, help="directory of the IPFS repository, made when missing")
    parser.add_argument("--port", type=int, default=0, help="port of the RPC on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--swarm-port", type=int, default=0, help="port for other nodes; 0 takes a free one")
    parser.add_argument("--deadline", type=float, default=_DEADLINE_SECONDS, help="longest search for content, seconds")
    parser.add_argument("--public", action="store_true", help="join the public IPFS network")
    options = parser.parse_args()
    try:
        run_node(
            options.repo,
            options.port,
            public=options.public,
            swarm_port=options.swarm_port,
            deadline=options.deadline,
        )
    except SonarError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
