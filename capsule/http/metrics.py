"""The Capsule's numbers for Prometheus, on a listener of their own: never on the port that strangers reach.

Labels are routes, statuses, uses and kinds: a fixed few. Nothing names an account, a campaign or a key.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from capsule.errors import CapsuleError
from capsule.http.listening import cannot_listen, url
from capsule.lookout import Lookout
from capsule.sandbox import PARTS, Sandbox
from capsule.state import State
from capsule.worker.tally import Counter as Counted
from capsule.worker.tally import Gauge as Measured
from capsule.worker.tally import Seconds, Tally
from sonar.sandbox import Loss

__all__ = ["CapsuleNumbers", "Requests", "serving_metrics"]

_log = logging.getLogger("capsule.metrics")
_PREFIX = "sonar_capsule"
_PARTS = ("database", "chain", "store", "keys", "judges", "worker")
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 100.0, 300.0)


class Requests:
    """Counts of requests, in a registry of their own unless one is given."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        registry = registry or CollectorRegistry()
        self._answers = Counter(
            f"{_PREFIX}_requests", "Answers by route and status.", ["route", "status"], registry=registry
        )
        self._seconds = Histogram(
            f"{_PREFIX}_request_seconds", "How long answers took, by route.", ["route"], registry=registry,
            buckets=_BUCKETS,
        )  # fmt: skip
        self._limited = Counter(
            f"{_PREFIX}_rate_limited_requests", "Requests that were one too many of an address or account.", ["kind"],
            registry=registry,
        )  # fmt: skip
        for kind in ("address", "account"):
            self._limited.labels(kind)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Counts an answer."""
        self._answers.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def limited(self, kind: str) -> None:
        """Counts a request that was one too many."""
        self._limited.labels(kind).inc()


class CapsuleNumbers(Collector):
    """What the database, the worker and the judge processes know, read when it is asked for.

    Chain, store and account are told as `lookout` saw them last, and not at all before, or without it.
    """

    def __init__(self, state: State, tally: Tally, sandbox: Sandbox, lookout: Lookout | None = None) -> None:
        self._state, self._tally, self._sandbox, self._lookout = state, tally, sandbox, lookout

    def collect(self) -> Iterable[Metric]:
        """All numbers; those of a database that does not answer are left out, and `database_up` is 0."""
        yield from self._worker()
        yield from self._judges()
        yield from self._seen()
        numbers: list[Metric] = []
        try:
            numbers += self._database()
            up = 1
        except CapsuleError as error:
            _log.warning("no numbers of the database: %s", error)
            numbers, up = [], 0
        yield from numbers
        yield GaugeMetricFamily(f"{_PREFIX}_database_up", "Whether the database told its numbers.", up)

    def describe(self) -> Iterable[Metric]:
        """Nothing ahead: it would ask the database at registration."""
        return ()

    def _seen(self) -> Iterator[Metric]:
        if self._lookout is None:
            return
        if (health := self._lookout.health) is not None:
            parts = GaugeMetricFamily(f"{_PREFIX}_part_up", "Whether a part was well when last seen.", labels=["part"])
            for part in _PARTS:
                parts.add_metric([part], getattr(health, part).ok)
            yield parts
        if (wei := self._lookout.account_wei) is not None:
            yield GaugeMetricFamily(f"{_PREFIX}_account_wei", "Coin of the account that settles rounds.", wei)

    def _database(self) -> Iterator[Metric]:
        keys = GaugeMetricFamily(f"{_PREFIX}_keys", "Paillier keys by use.", labels=["use"])
        for use, number in sorted(self._state.keys_by_use().items()):
            keys.add_metric([use], number)
        yield keys
        campaigns = GaugeMetricFamily(f"{_PREFIX}_campaigns", "Campaigns by what has become of them.", labels=["state"])
        counts = self._state.counts()
        for name in ("admissions", "running", "unsettled"):
            campaigns.add_metric([name], counts[name])
        yield campaigns
        length = self._state.audit_head().length
        yield GaugeMetricFamily(f"{_PREFIX}_audit_entries", "The length of the audit log.", length)

    def _worker(self) -> Iterator[Metric]:
        for name in type(self._tally).__dataclass_fields__:
            found: Any = getattr(self._tally, name)
            if isinstance(found, Counted):
                yield CounterMetricFamily(f"{_PREFIX}_{name}", _words(name), found.value)
            elif isinstance(found, Measured):
                yield GaugeMetricFamily(f"{_PREFIX}_{name}", _words(name), found.value)
            elif isinstance(found, Seconds):
                read = found.read()
                buckets = [(f"{bound:g}", number) for bound, number in read.cumulative] + [("+Inf", read.count)]
                yield HistogramMetricFamily(f"{_PREFIX}_{name}", _words(name), buckets, read.total)

    def _judges(self) -> Iterator[Metric]:
        sandbox = self._sandbox
        yield GaugeMetricFamily(f"{_PREFIX}_judge_processes", "Judge processes.", len(sandbox.pids))
        yield GaugeMetricFamily(f"{_PREFIX}_jobs_waiting", "Jobs that wait for a judge process.", sandbox.waiting)
        yield CounterMetricFamily(f"{_PREFIX}_jobs", "Jobs that judge processes have done.", sandbox.spent["jobs"])
        spent = CounterMetricFamily(
            f"{_PREFIX}_job_seconds", "Processor seconds of jobs, by what was done.", labels=["part"]
        )
        for part in PARTS:
            spent.add_metric([part], sandbox.spent[part] / 1e6)
        yield spent
        lost = CounterMetricFamily(f"{_PREFIX}_jobs_lost", "Jobs whose process was lost, by how.", labels=["loss"])
        for loss in Loss:
            lost.add_metric([loss.value], sandbox.losses[loss.value])
        yield lost


@contextmanager
def serving_metrics(host: str, port: int, registry: CollectorRegistry) -> Iterator[str]:
    """Serves a registry until the block ends; yields its URL. Port 0 is any free one.

    Raises CapsuleHomeError where nothing can listen there.
    """
    try:
        server, thread = start_http_server(port, host, registry)
    except (OSError, UnicodeError) as error:
        raise cannot_listen(error, host, port, "metrics_host", "--metrics-port") from error
    try:
        yield f"{url(host, int(server.server_address[1]))}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _words(name: str) -> str:
    return f"{name.replace('_', ' ').capitalize()}."
