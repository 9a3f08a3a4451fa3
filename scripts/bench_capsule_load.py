"""An open-loop load generator: so many GET requests a second over kept connections, whatever the answers take.

    bench_capsule_load.py URL RATE CONNECTIONS PATH...

Requests are due at fixed instants and go to the paths in turn. A latency counts from the instant at which its request
was due, so a server that stalls is charged for those that had to wait as well. It runs until stdin ends, and then
prints one JSON object: latencies in seconds by path, statuses, and how late the generator itself was.
"""

import asyncio
import json
import sys
import time
from collections import Counter, defaultdict
from urllib.parse import urlsplit


class Load:
    """Requests in flight, and what became of those that are done."""

    def __init__(self, url: str, rate: float, connections: int, paths: list[str]) -> None:
        place = urlsplit(url)
        self._host, self._port = place.hostname or "127.0.0.1", place.port or 80
        self._rate, self._connections, self._paths = rate, connections, paths
        self._free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        self.latencies: dict[str, list[float]] = defaultdict(list)
        self.statuses: Counter[str] = Counter()
        self.late = 0.0

    async def run(self, until: asyncio.Event) -> None:
        """Sends until it is told to stop, and waits for the last answers."""
        for _ in range(self._connections):
            await self._free.put(await asyncio.open_connection(self._host, self._port))
        begun, number, tasks = time.perf_counter(), 0, set()
        while not until.is_set():
            due = begun + number / self._rate
            if (left := due - time.perf_counter()) > 0:
                await asyncio.sleep(left)
            self.late = max(self.late, time.perf_counter() - due)
            task = asyncio.create_task(self._ask(self._paths[number % len(self._paths)], due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            number += 1
        await asyncio.gather(*tasks)
        while not self._free.empty():
            _, writer = self._free.get_nowait()
            writer.close()

    async def _ask(self, path: str, due: float) -> None:
        connection = await self._free.get()
        reader, writer = connection
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())
            await writer.drain()
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            lines = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
            await reader.readexactly(int(lines["content-length"]))
            self.statuses[head.split(" ", 2)[1]] += 1
        except (OSError, EOFError) as error:
            self.statuses[type(error).__name__] += 1
            connection = await asyncio.open_connection(self._host, self._port)
        self.latencies[path].append(time.perf_counter() - due)
        await self._free.put(connection)


async def _main(url: str, rate: float, connections: int, paths: list[str]) -> None:
    load, until = Load(url, rate, connections, paths), asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), until.set)
    await load.run(until)
    print(json.dumps({"latencies": load.latencies, "statuses": load.statuses, "late": load.late}))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
