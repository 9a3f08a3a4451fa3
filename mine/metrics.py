"""The mine's numbers for Prometheus and its health, over HTTP on a port of its own: loopback unless told otherwise.

    /metrics   all numbers                /healthz   200 while it makes steps, 503 once it is stuck: restart it
    /readyz    200 while chain and store answer, 503 while it waits for one of them

Labels are states and kinds, a fixed few: nothing names an account, a campaign or a data set.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from mine.records import Fate, State
from mine.vitals import Vitals
from sonar.chain.records import Status
from sonar.errors import ConfigError

__all__ = ["MineNumbers", "serving"]

_PREFIX: Final = "sonar_mine"
_WAITING: Final = ("chain", "store", "policy", "withdrawal", "campaigns")
_SECONDS: Final = 10.0
"""How long a request may take to come."""


class MineNumbers(Collector):
    """The vitals as metrics, as they are when asked for."""

    def __init__(self, vitals: Callable[[], Vitals]) -> None:
        self._vitals = vitals

    def collect(self) -> Iterable[Metric]:
        """All numbers; those that are not known yet are left out."""
        now = self._vitals()
        yield GaugeMetricFamily(f"{_PREFIX}_start_time_seconds", "When the daemon was started.", now.started)
        yield GaugeMetricFamily(f"{_PREFIX}_last_step_time_seconds", "When the last step was complete.", now.stepped)
        yield CounterMetricFamily(f"{_PREFIX}_steps", "Steps that were complete.", now.steps)
        waiting = Counter(what if what in _WAITING else "campaigns" for what in now.waiting)
        yield _family("waiting", "What is waited for, by what it is.", "what", _WAITING, waiting.get)
        yield _family("campaigns", "Campaigns by their status.", "status",
                      [status.name.lower() for status in Status], now.campaigns.get)  # fmt: skip
        yield _family("submissions", "This mine's gradients by their state.", "state", State, now.submissions.get)
        yield _family("transactions", "Transactions by their fate.", "fate", Fate, now.transactions.get)
        yield _family("kept", "Whether what reads and trains is kept from this; 0 also before the first time.", "from",
                      ("files", "network"), lambda what: int(now.kept.get(what, "not yet") is None))  # fmt: skip
        for name, help_text, value in (
            ("earned_wei", "Native coin that rounds paid.", now.earned),
            ("bonds_lost_wei", "What verdicts kept of bonds.", now.bonds_lost),
            ("gas_spent_wei", "What transactions cost.", now.gas_spent),
        ):
            yield CounterMetricFamily(f"{_PREFIX}_{name}", help_text, value)
        yield GaugeMetricFamily(f"{_PREFIX}_bonds_at_stake_wei", "Bonds of rounds not settled.", now.bonds_at_stake)
        for name, help_text, known in (
            ("account_wei", "Coin of the account.", now.balance),
            ("credit_wei", "What can be withdrawn.", now.credit),
        ):
            if known is not None:
                yield GaugeMetricFamily(f"{_PREFIX}_{name}", help_text, known)

    def describe(self) -> Iterable[Metric]:
        """Nothing ahead."""
        return ()


@contextmanager
def serving(host: str, port: int, vitals: Callable[[], Vitals], warn: Callable[[str], None]) -> Iterator[str]:
    """Serves within the block, and gives the URL; raises ConfigError where nothing can listen there."""
    registry = CollectorRegistry()
    registry.register(MineNumbers(vitals))
    try:
        server = ThreadingHTTPServer((host, port), _handler(registry, vitals))
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"metrics cannot be served on {host}:{port}: {why}; choose another --metrics-port or --metrics-host"
        ) from error
    if not ip_address(server.socket.getsockname()[0]).is_loopback:
        warn(f"metrics are served on {host}: everybody who reaches it can read what this mine earns")
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(registry: CollectorRegistry, vitals: Callable[[], Vitals]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _SECONDS
        server_version = "sonar-mine"
        sys_version = ""

        def do_GET(self) -> None:
            now = vitals()
            match self.path:
                case "/metrics":
                    self._answer(200, CONTENT_TYPE_LATEST, generate_latest(registry))
                case "/healthz":
                    stuck = now.stuck(time.time())
                    self._tell(503 if stuck else 200, {"status": "stuck" if stuck else "ok", "stepped": now.stepped})
                case "/readyz":
                    self._tell(200 if now.ready else 503, {"ready": now.ready, "waiting": sorted(
                        one for one in now.waiting if one in _WAITING)})  # fmt: skip
                case _:
                    self._tell(404, {"error": "ask for /metrics, /healthz or /readyz"})

        def _tell(self, status: int, facts: dict[str, Any]) -> None:
            self._answer(status, "application/json", json.dumps(facts).encode())

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Requests are not worth a line."""

    return Handler


def _family(
    name: str, help_text: str, label: str, values: Iterable[str], count: Callable[[str], int | None]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"{_PREFIX}_{name}", help_text, labels=[label])
    for value in values:
        family.add_metric([str(value)], count(value) or 0)
    return family
