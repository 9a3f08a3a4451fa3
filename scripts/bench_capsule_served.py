"""One `capsule serve` as `bench_capsule.py` looks at it: its metrics, log, processor time and memory; and a load."""

import json
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

__all__ = ["Served", "loading"]

_HERE = Path(__file__).parent


class Served:
    """One `capsule serve` with its metrics."""

    def __init__(self, home: Path, network: Path, environment: Mapping[str, str]) -> None:
        self.log = home.parent / "serve.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "capsule", "serve", "--home", str(home), "--network", str(network)],
                env=dict(environment), stdout=subprocess.PIPE, stderr=log, start_new_session=True,
            )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"capsule serve did not start: {self.log.read_text()[-2000:]}")
        told = json.loads(line)
        self.url, self._metrics = told["url"], told["metrics"]
        self._asking = httpx.Client(timeout=60)
        self._service = psutil.Process(self.process.pid)
        self._read, self._judged = self.log.stat().st_size, 0

    def numbers(self) -> dict[str, float]:
        """All metrics, 0 where there is none; a label's value follows the name after a slash."""
        text = self._asking.get(self._metrics).text
        return defaultdict(float) | {
            "/".join((sample.name.removeprefix("sonar_capsule_"), *sample.labels.values())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def judged(self) -> int:
        """How many rounds it has signed: from its log, because to ask for metrics costs time that would be measured."""
        with self.log.open("rb") as log:
            log.seek(self._read)
            lines = log.read().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith(b"\n")]
        self._read += sum(map(len, whole))
        self._judged += sum(b"judged round" in line for line in whole)
        return self._judged

    def cpu(self) -> tuple[float, float]:
        """Processor seconds so far, of the service and of its children."""
        own = self._service.cpu_times()
        return own.user + own.system, sum(t.user + t.system for t in (c.cpu_times() for c in self._service.children()))

    def memory(self) -> tuple[float, float]:
        """MiB held by the service, and by its children."""
        return tuple(  # type: ignore[return-value]
            sum(one.memory_info().rss for one in ones) / 2**20 for ones in ([self._service], self._service.children())
        )

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Nothing of the Capsule runs meanwhile."""
        os.killpg(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.process.pid, signal.SIGCONT)

    def end(self) -> None:
        """Ends it in order."""
        self._asking.close()
        self.process.terminate()
        self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def loading(url: str, rate: float, paths: list[str], into: list[dict[str, Any]]) -> Iterator[None]:
    """Asks so many times a second meanwhile; what it saw is appended."""
    command = [sys.executable, str(_HERE / "bench_capsule_load.py"), url, str(rate), "16", *paths]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        yield
        told, _ = process.communicate()
    into.append(json.loads(told))
