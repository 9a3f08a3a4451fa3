"""One process that is a Capsule: HTTP, worker and key pool, started together and stopped in order."""

import gc
import json
import logging
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from prometheus_client import CollectorRegistry

from capsule.config import Settings
from capsule.errors import CapsuleHomeError
from capsule.home import OpenHome, locked, open_home
from capsule.http.app import Limits, create_app
from capsule.http.impatience import ImpatientProtocol
from capsule.http.listening import listen, url
from capsule.http.metrics import CapsuleNumbers, Requests, serving_metrics
from capsule.keypool import KeyPool
from capsule.keyprocess import KeyProcess
from capsule.logs import configure
from capsule.lookout import Lookout
from capsule.ownership import is_open_to_others
from capsule.parts import Capsule
from capsule.policy import Policy
from capsule.readiness import Readiness
from capsule.sandbox import Limits as JudgeLimits
from capsule.sandbox import Sandbox
from capsule.secret import harden
from capsule.service import CapsuleService
from capsule.state import SERVING
from capsule.worker import Worker
from capsule.worker.following import confirmations_for
from sonar import __version__
from sonar.chain.client import SonarClient
from sonar.config import Network
from sonar.storage import ContentStore, open_store
from sonar.syft import get_engine
from sonar.units import format_ether

__all__ = ["serve"]

_log = logging.getLogger("capsule.serving")
_SWITCH_SECONDS = 0.0005
_STOP_SECONDS = 30.0
_LOOK_STOP_SECONDS = 5.0


def serve(directory: Path, passphrase: str, network: Network, settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT, then finishes the present step. One JSON line on stdout says where it listens."""
    harden()
    # The worker's threads would each keep the interpreter for 5 ms while a request waits.
    sys.setswitchinterval(_SWITCH_SECONDS)
    configure(settings.log_format)
    if directory.is_dir() and is_open_to_others(directory):
        _log.warning("other accounts may look into %s: run chmod 700 %s", directory, directory)
    shared = settings.database is not None and not settings.database.startswith("sqlite")
    with ExitStack() as stack:
        stack.enter_context(locked(directory, shared=shared))
        store = stack.enter_context(open_store(network.store))
        home = open_home(directory, passphrase, database=settings.database)
        stack.callback(home.state.close)
        stack.enter_context(_serving(home))
        capsule = _assemble(home, network, store, settings.policy())
        worker = Worker(capsule, network.start_block)
        readiness = Readiness(capsule, worker.health, wait_for_key=True)
        service, lookout = CapsuleService(capsule, readiness=readiness), Lookout(capsule, readiness)
        registry = CollectorRegistry()
        app = create_app(
            service,
            limits=Limits(settings.requests_per_minute, settings.signed_per_minute),
            counts=Requests(registry),
            lifespan=lambda _: _beside(capsule, worker, lookout, settings.poll),
        )
        stack.enter_context(capsule.sandbox)
        listener = stack.enter_context(listen(settings.host, settings.port))
        line = {"url": url(settings.host, listener.getsockname()[1]), "address": home.address}
        if settings.metrics_port is not None:
            registry.register(CapsuleNumbers(home.state, worker.tally, capsule.sandbox, lookout))
            where = serving_metrics(settings.metrics_host, settings.metrics_port, registry)
            line["metrics"] = stack.enter_context(where)
        server = _Server(_configuration(app, settings), json.dumps(line))
        _tell_start(capsule, network, settings)
        # What is there now stays: a search for what is unreachable in all of it would hold every request up for 100 ms.
        gc.collect()
        gc.freeze()
        # uvicorn stops at these signals and then raises them again for whoever handled them before.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        server.run(sockets=[listener])


def _configuration(app: FastAPI, settings: Settings) -> uvicorn.Config:
    proxies = list(settings.trusted_proxies)
    return uvicorn.Config(
        app, http=ImpatientProtocol, ws="none", log_config=None, access_log=False, timeout_graceful_shutdown=5,
        limit_concurrency=settings.concurrency, proxy_headers=bool(proxies), forwarded_allow_ips=proxies,
        server_header=False,
    )  # fmt: skip


def _tell_start(capsule: Capsule, network: Network, settings: Settings) -> None:
    chain = capsule.chain
    _log.info(
        "Capsule %s of Sonar %s begins to serve", capsule.address, __version__,
        extra={
            "balance_ether": format_ether(chain.balance(capsule.address)),
            "chain": chain.chain_id,
            "contract": chain.address,
            "store": network.store.partition(":")[0],
            "database": capsule.state.where,
            "confirmations": confirmations_for(chain.chain_id, settings.confirmations),
        },
    )  # fmt: skip


@contextmanager
def _serving(home: OpenHome) -> Iterator[None]:
    """Keeps those off who need that nobody serves this database."""
    claim = home.state.claims.try_claim(SERVING, shared=True)
    if claim is None:
        what = "rotated or restored" if home.state.shared else "served, rotated or restored by another process"
        raise CapsuleHomeError(f"{home.state.where} is being {what}: serve it when that is done")
    with claim:
        # A rotation may have ended between opening the vault and claiming: what this one sealed would be lost.
        if home.state.setting("vault") != home.vault.header:
            raise CapsuleHomeError(f"the passphrase of {home.state.where} was changed just now: start again")
        yield


def _assemble(home: OpenHome, network: Network, store: ContentStore, policy: Policy) -> Capsule:
    if network.capsule is not None and network.capsule.lower() != home.address.lower():
        _log.warning(
            "the network file names the Capsule %s, and this is %s: who goes by that file does not come here",
            network.capsule,
            home.address,
        )
    get_engine()  # one that cannot be used is told now, and not to whoever comes first
    maker = KeyProcess(home.key_bits, allow_insecure_small_key=home.allow_insecure_small_key)
    keys = KeyPool(
        home.state,
        home.vault,
        maker.make,
        cancel=maker.cancel,
        rest=maker.rest,
        size=policy.spare_keys,
        allow_insecure_small_key=home.allow_insecure_small_key,
    )
    limits = JudgeLimits(policy.judge_processes, policy.judge_memory, policy.judge_seconds)
    sandbox = Sandbox(limits, allow_insecure_small_key=home.allow_insecure_small_key)
    return Capsule(
        state=home.state,
        vault=home.vault,
        attester=home.attester,
        sealing=home.sealing,
        chain=SonarClient.from_network(network, home.attester),
        store=store,
        keys=keys,
        sandbox=sandbox,
        key_bits=home.key_bits,
        policy=policy,
        allow_insecure_small_key=home.allow_insecure_small_key,
    )


@asynccontextmanager
async def _beside(capsule: Capsule, worker: Worker, lookout: Lookout, poll: float) -> AsyncIterator[None]:
    """Runs worker, lookout, judge processes and key pool while the application does."""
    stopping = threading.Event()
    looking = threading.Thread(target=lookout.run, args=(stopping,), name="lookout", daemon=True)
    thread = threading.Thread(target=worker.run, args=(poll,), name="worker", daemon=True)
    capsule.keys.start()
    thread.start()
    looking.start()
    try:
        yield
    finally:
        stopping.set()
        worker.stop()
        await run_in_threadpool(capsule.sandbox.stop)
        await run_in_threadpool(capsule.keys.stop)
        await run_in_threadpool(thread.join, _STOP_SECONDS)
        await run_in_threadpool(looking.join, _LOOK_STOP_SECONDS)


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
