"""Keeps the clock of a development chain going.

Ganache and Anvil make a block only when a transaction comes; until then views and gas estimates see the time of the
last one, so a round that closes by time would never look closed. Real networks and the embedded chain need none of
this.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from web3 import Web3
from web3.types import RPCEndpoint

from sonar.chain._rpc import rpc
from sonar.chain.errors import ChainError
from sonar.errors import printable

__all__ = ["beat", "heartbeat"]


def beat(web3: Web3) -> None:
    """Makes an empty block now; raises ChainError if the node cannot (only development chains can)."""
    with rpc(web3):
        answer = web3.provider.make_request(RPCEndpoint("evm_mine"), [])
    if "error" in answer:
        raise ChainError(f"the node makes no blocks on request: {printable(answer['error'])}")


@contextmanager
def heartbeat(web3: Web3, seconds: float = 1.0) -> Iterator[threading.Thread]:
    """Makes an empty block every so many seconds until the context ends, whatever the node answers."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(seconds):
            # A busy node may miss a beat; that a chain is gone, its owner notices by itself.
            with suppress(ChainError):
                beat(web3)

    thread = threading.Thread(target=run, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        stop.set()
        thread.join(10)
