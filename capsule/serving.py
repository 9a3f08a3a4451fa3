"""One process that is a Capsule: HTTP, worker and key pool, started together and stopped in order."""

import json
import logging
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from fastapi.concurrency import run_in_threadpool

from capsule.errors import CapsuleHomeError
from capsule.home import OpenHome, locked, open_home
from capsule.http.app import create_app
from capsule.http.impatience import ImpatientProtocol
from capsule.keypool import KeyPool, KeyProcess
from capsule.policy import Policy
from capsule.service import Capsule, CapsuleService
from capsule.worker import Worker
from sonar.chain.client import SonarClient
from sonar.config import Network
from sonar.storage import ContentStore, open_store
from sonar.syft import get_engine

__all__ = ["serve"]

_STOP_SECONDS = 30.0


def serve(directory: Path, passphrase: str, network: Network, *, host: str, port: int, poll: float) -> None:
    """Serves until SIGTERM or SIGINT, then finishes the present step. One JSON line on stdout says where it listens."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with locked(directory), open_store(network.store) as store:
        home = open_home(directory, passphrase)
        capsule = _assemble(home, network, store)
        worker = Worker(capsule, network.start_block)
        service = CapsuleService(capsule, worker.health)
        app = create_app(service, lifespan=lambda _: _beside(capsule.keys, worker, poll))
        with _listen(host, port) as listener:
            bound = listener.getsockname()[1]
            shown = f"[{host}]" if ":" in host else host
            line = {"url": f"http://{shown}:{bound}", "address": home.address}
            config = uvicorn.Config(
                app, http=ImpatientProtocol, ws="none", log_level="warning", timeout_graceful_shutdown=5,
                limit_concurrency=128, access_log=False,
            )  # fmt: skip
            server = _Server(config, json.dumps(line))
            # uvicorn stops at these signals and then raises them again for whoever handled them before.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: None)
            server.run(sockets=[listener])
        home.state.close()


def _assemble(home: OpenHome, network: Network, store: ContentStore) -> Capsule:
    get_engine()  # one that cannot be used is told now, and not to whoever comes first
    policy = Policy()
    maker = KeyProcess(home.key_bits, allow_insecure_small_key=home.allow_insecure_small_key)
    keys = KeyPool(
        home.state,
        home.vault,
        maker.make,
        cancel=maker.cancel,
        size=policy.spare_keys,
        allow_insecure_small_key=home.allow_insecure_small_key,
    )
    return Capsule(
        state=home.state,
        vault=home.vault,
        attester=home.attester,
        sealing=home.sealing,
        chain=SonarClient.from_network(network, home.attester),
        store=store,
        keys=keys,
        key_bits=home.key_bits,
        policy=policy,
        allow_insecure_small_key=home.allow_insecure_small_key,
    )


@asynccontextmanager
async def _beside(keys: KeyPool, worker: Worker, poll: float) -> AsyncIterator[None]:
    """Runs worker and key pool while the application does."""
    thread = threading.Thread(target=worker.run, args=(poll,), name="worker", daemon=True)
    keys.start()
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        await run_in_threadpool(keys.stop)
        await run_in_threadpool(thread.join, _STOP_SECONDS)


class _Server(uvicorn.Server):
    """A server that says where it listens once it does."""

    def __init__(self, config: uvicorn.Config, line: str) -> None:
        super().__init__(config)
        self._line = line

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts, then prints the line."""
        await super().startup(sockets)
        if self.started:
            print(self._line, flush=True)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise CapsuleHomeError(f"cannot listen on {host}:{port}: {error.strerror}; choose another --port") from error
    return listener
