"""Reading and training in a process apart: the same sums as here, and nothing of the mine's around it."""

import os
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, urlsplit

import duckdb
import numpy as np
import psutil
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nodes import until

from mine.apart.database import Server, server_of
from mine.apart.places import access_of, program_places
from mine.apart.values import dump_gathered, load_gathered, load_provenance
from mine.apart.workroom import Limits, Workroom
from mine.data import Dataset, Source, gather, inspect, match, source_state
from mine.errors import ApartError, DataError, PolicyError, SourceAwayError
from sonar.protocol.spec import Spec
from sonar.sandbox import Process
from sonar.sandbox.errors import FrameError
from sonar.syft.epoch import Epoch
from sonar.units import KeyId

SPEC = {
    "name": "test", "features": tuple({"name": f"x{i}"} for i in range(4)), "classes": ("0", "1", "2"),
    "min_records": 20, "rounds": {"round_size": 3, "round_seconds": 600}, "payout": {"target": 900_000},
}  # fmt: skip


def nothing(_done: float) -> None:
    """No progress is wanted."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_csv) -> Path:
    """A folder with the same records as CSV, Parquet, and in a database that another program has open for writing."""
    folder = tmp_path_factory.mktemp("records")
    path = write_csv(folder / "table.csv")
    header, *rows = [line.split(",") for line in path.read_text().splitlines()]
    with sqlite3.connect(folder / "table.db") as database:
        database.execute(f"CREATE TABLE visits ({', '.join(header)})")
        database.executemany(f"INSERT INTO visits VALUES ({', '.join('?' * len(header))})", rows)
    duckdb.sql(f"COPY (FROM read_csv('{path}', types={{'target': 'VARCHAR'}})) TO '{folder / 'table.parquet'}'")
    return folder


def source(folder: Path, kind: str) -> Source:
    if kind == "database":
        return Source.of(folder / "table.db", table="visits")
    if kind == "pattern":
        return Source.of(folder / "tab*.parquet")
    if kind == "query":
        return Source.of(folder, query="select * from read_csv('table.csv')")
    return Source.of(folder / "table.csv")


@pytest.mark.parametrize("kind", ["file", "pattern", "database", "query"])
@pytest.mark.parametrize("training", [{}, {"batch_size": 16}], ids=["full", "batches"])
def test_the_sums_are_those_of_the_same_work_done_here(folder, kind, training):
    dataset = inspect("d", source(folder, kind), "target")
    spec = Spec.build(**SPEC, training=training)
    warnings: list[str] = []
    room = Workroom(warnings.append)
    sums, read = room.gather(dataset, match(dataset, spec), spec, "refuse", Limits(threads=1), nothing)
    wanted, known = gather(dataset, match(dataset, spec), spec)
    for name in ("augmented",) if isinstance(wanted, Epoch) else ("gram", "moment"):
        np.testing.assert_allclose(getattr(sums, name), getattr(wanted, name), rtol=1e-12, atol=1e-12)
    assert (sums.records, read.rows, read.fingerprint) == (wanted.records, known.rows, known.fingerprint)
    assert warnings == [why for why in room.kept.values() if why is not None]


@pytest.mark.parametrize("kind", ["file", "pattern", "database", "query"])
def test_a_data_set_is_looked_through_apart_as_it_is_here(folder, kind):
    aliases, units = [("age", "x0")], [("x0", "years")]
    asked = {"ignored": ("x3",), "aliases": aliases, "units": units}
    found = Workroom(nothing).inspect("d", source(folder, kind), ("target",), **asked, limits=Limits())
    assert found == inspect("d", source(folder, kind), "target", **asked)
    with pytest.raises(DataError, match="no column 'nowhere'"):
        Workroom(nothing).inspect("d", source(folder, kind), ("nowhere",), limits=Limits())


def test_a_reader_that_answers_with_another_source_is_a_liar(folder, monkeypatch):
    elsewhere = replace(inspect("d", source(folder, "file"), "target"), source=Source.of(__file__))
    monkeypatch.setattr("mine.apart.jobs.inspect", lambda *_, **__: elsewhere)
    room = Workroom(nothing, insecurely_in_this_process=True)
    with pytest.raises(FrameError, match="another source"):
        room.inspect("d", source(folder, "file"), ("target",), limits=Limits())


def test_a_data_set_of_very_many_columns_is_read_apart(tmp_path):
    names = [*"abcd", *(f"{i} is the number of a column with a long name, {'very ' * 30}long" for i in range(4000))]
    rows = "\n".join(",".join([*("1.5" for _ in names), str(label)]) for label in (0, 1, 2) * 10)
    (tmp_path / "wide.csv").write_text(",".join([*(f'"{name}"' for name in names), "target"]) + "\n" + rows + "\n")
    dataset = Workroom(nothing).inspect("wide", Source.of(tmp_path / "wide.csv"), ("target",), limits=Limits())
    spec = Spec.build(**{**SPEC, "features": tuple({"name": name} for name in names[:4])})
    sums, _ = Workroom(nothing).gather(dataset, match(dataset, spec), spec, "refuse", Limits(), nothing)
    assert sums.records == 30


def test_what_the_data_refuse_is_raised_here_in_the_same_words(folder):
    dataset = inspect("d", source(folder, "file"), "target")
    spec = Spec.build(**{**SPEC, "min_records": 20})
    found = match(dataset, spec)
    greedy = Spec.build(**{**SPEC, "min_records": 61})
    with pytest.raises(DataError) as here:
        gather(dataset, found, greedy)
    with pytest.raises(DataError) as apart:
        Workroom(nothing).gather(dataset, found, greedy, "refuse", Limits(), nothing)
    assert str(apart.value) == str(here.value)


def test_a_model_that_was_not_promised_is_refused_apart(folder):
    dataset = inspect("d", source(folder, "file"), "target")
    spec = Spec.build(**SPEC)
    sums, _ = gather(dataset, match(dataset, spec), spec)
    with pytest.raises(Exception, match="model") as refused:
        Workroom(nothing).train(spec, b"no model at all", KeyId(bytes(32)), sums, Limits(), nothing)
    assert not isinstance(refused.value, ApartError | PolicyError)


def test_a_job_that_takes_too_long_is_ended_and_would_be_again(folder):
    dataset = inspect("d", source(folder, "file"), "target")
    spec = Spec.build(**SPEC)
    with pytest.raises(ApartError, match="longest_training") as lost:
        Workroom(nothing).gather(dataset, match(dataset, spec), spec, "refuse", Limits(seconds=0.001), nothing)
    assert lost.value.lasting


def test_a_job_whose_process_is_killed_may_be_done_again(folder, monkeypatch):
    dataset = inspect("d", source(folder, "file"), "target")
    spec = Spec.build(**SPEC)
    ask, asked = Process.ask, []

    def killing(self, *given, **more):
        asked.append(self.pid)
        if len(asked) == 2:
            os.kill(self.pid, signal.SIGKILL)
        return ask(self, *given, **more)

    monkeypatch.setattr(Process, "ask", killing)
    with pytest.raises(ApartError, match="SIGKILL") as lost:
        Workroom(nothing).gather(dataset, match(dataset, spec), spec, "refuse", Limits(), nothing)
    assert not lost.value.lasting


def test_the_process_has_no_secret_of_the_environment_and_no_file_of_the_mine(folder, tmp_path, monkeypatch):
    dataset = inspect("d", source(folder, "file"), "target")
    spec = Spec.build(**SPEC)
    monkeypatch.setenv("SONAR_PASSPHRASE", "correct horse")
    monkeypatch.setenv("PGPASSWORD", "battery staple")
    (tmp_path / "account.key").write_text("secret")
    seen: dict[str, object] = {}
    ask = Process.ask

    def looking(self, *given, **more):
        process = psutil.Process(self.pid)
        seen["environment"] = process.environ()
        seen["files"] = [file.path for file in process.open_files()]
        seen["sockets"] = process.net_connections()
        seen["command"] = " ".join(process.cmdline())
        return ask(self, *given, **more)

    monkeypatch.setattr(Process, "ask", looking)
    with (tmp_path / "account.key").open() as held:
        os.set_inheritable(held.fileno(), True)
        Workroom(nothing).gather(dataset, match(dataset, spec), spec, "refuse", Limits(), nothing)
    assert "SONAR_PASSPHRASE" not in seen["environment"]
    assert "PGPASSWORD" not in seen["environment"], "only a reader of a database gets what libpq reads"
    assert seen["files"] == []
    assert seen["sockets"] == []
    assert "table.csv" not in seen["command"]
    assert not any((tmp_path / "account.key").is_relative_to(place) for place in program_places())


def test_no_process_is_left_after_a_job(folder):
    dataset = inspect("d", source(folder, "file"), "target")
    spec = Spec.build(**SPEC)
    before = set(psutil.Process().children())
    done = threading.Event()

    def work() -> None:
        Workroom(nothing).gather(dataset, match(dataset, spec), spec, "refuse", Limits(), nothing)
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert done.is_set()
    assert set(psutil.Process().children()) <= before


def test_records_in_a_database_are_read_apart_at_its_port_and_nowhere_else(postgres_url, folder):
    url = postgres_url.replace("postgresql+psycopg", "postgresql")
    header, *rows = [line.split(",") for line in (folder / "table.csv").read_text().splitlines()]
    with psycopg.connect(url) as database:
        database.execute(f"CREATE TABLE visits ({', '.join(f'{name} double precision' for name in header)})")
        for row in rows:
            database.execute(f"INSERT INTO visits VALUES ({', '.join('%s' for _ in row)})", row)
    dataset = inspect("d", Source.of(url, table="visits"), "target")
    spec = Spec.build(**SPEC)
    found, warnings = match(dataset, spec), []
    room = Workroom(warnings.append)
    sums, read = room.gather(dataset, found, spec, "refuse", Limits(threads=1), nothing)
    wanted, _ = gather(dataset, found, spec)
    np.testing.assert_allclose(sums.gram, wanted.gram, rtol=1e-12, atol=1e-12)
    assert (sums.records, read.kind) == (60, "postgres")
    assert warnings == [why for why in room.kept.values() if why is not None]


class Relay:
    """A TCP server on loopback in front of a cluster's Unix socket; a context manager."""

    def __init__(self, behind: Path) -> None:
        self._behind = behind
        self._server = socket.create_server(("127.0.0.1", 0))
        self._stop = socket.socketpair()
        self.port: int = self._server.getsockname()[1]
        self.taken = 0
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop[0].close()
        self._thread.join()
        for one in (self._server, self._stop[1]):
            one.close()

    def _serve(self) -> None:
        peers: dict[socket.socket, socket.socket] = {}
        while True:
            ready, _, _ = select.select([self._server, self._stop[1], *peers], [], [])
            for one in ready:
                if one is self._stop[1]:
                    for left in peers:
                        left.close()
                    return
                if one is self._server:
                    near, _ = self._server.accept()
                    far = socket.socket(socket.AF_UNIX)
                    far.connect(str(self._behind))
                    peers |= {near: far, far: near}
                    self.taken += 1
                elif one in peers:
                    self._pass_on(one, peers)

    @staticmethod
    def _pass_on(one: socket.socket, peers: dict[socket.socket, socket.socket]) -> None:
        try:
            data = one.recv(1 << 16)
        except OSError:
            data = b""
        if data:
            peers[one].sendall(data)
            return
        for end in (peers.pop(one), one):
            peers.pop(end, None)
            end.close()


def test_a_server_by_its_name_is_found_here_and_the_reader_needs_no_look_up(postgres_url, monkeypatch):
    url = postgres_url.replace("postgresql+psycopg", "postgresql")
    with psycopg.connect(url) as database:
        database.execute("CREATE TABLE visits AS SELECT n AS x, n % 3 AS target FROM generate_series(0, 59) n")
    folder = Path(parse_qs(urlsplit(url).query)["host"][0])
    for name in ("PGHOSTADDR", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)
    with Relay(folder / ".s.PGSQL.5432") as relay:
        place = Source.of(f"postgresql://postgres@localhost:{relay.port}{urlsplit(url).path}", table="visits")
        assert server_of(place).ports == (relay.port,)
        before = relay.taken
        found = Workroom(nothing).inspect("d", place, ("target",), limits=Limits(threads=1))
        assert relay.taken == before + 1 + (len(loopbacks()) > 1), "the addresses of a name are tried once"
    assert found.records == 60


def loopbacks() -> set[str]:
    return {str(place[4][0]) for place in socket.getaddrinfo("localhost", 1, type=socket.SOCK_STREAM)}


@pytest.mark.parametrize(("url", "environment", "server"), [
    ("postgresql://me@10.0.0.9:6543/c", {}, Server((6543,), False, {"PGHOSTADDR": "10.0.0.9"})),
    ("postgresql://me@[::1]/c", {}, Server((5432,), False, {"PGHOSTADDR": "::1"})),
    ("postgresql://me@db.example/c?hostaddr=10.0.0.9", {"PGPORT": "99"},
     Server((99,), False, {"PGHOSTADDR": "10.0.0.9"})),
    ("postgresql://me@10.0.0.8:1,10.0.0.9:2/c", {}, Server((1, 2), False, {"PGHOSTADDR": "10.0.0.8,10.0.0.9"})),
    ("postgresql:///c?host=/run/pg", {}, Server((), True, {})),
    ("postgresql:///c", {}, Server((), True, {})),
    ("postgresql:///c", {"PGHOST": "10.0.0.9"}, Server((5432,), False, {"PGHOSTADDR": "10.0.0.9"})),
    ("postgresql:///c?service=clinic", {"PGHOST": "10.0.0.1"}, Server((77,), False, {"PGHOSTADDR": "10.0.0.7"})),
    ("postgresql:///c", {"PGSERVICE": "clinic"}, Server((77,), False, {"PGHOSTADDR": "10.0.0.7"})),
])  # fmt: skip
def test_a_database_is_where_libpq_looks_for_it(tmp_path, monkeypatch, url, environment, server):
    (tmp_path / "services").write_text("# ours\n[clinic]\nhost=10.0.0.7\nport=77\npassword=50%\n")
    for name in ("PGPORT", "PGHOST", "PGHOSTADDR", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**environment, "PGSERVICEFILE": str(tmp_path / "services")}.items():
        monkeypatch.setenv(name, value)
    assert server_of(Source.of(url, table="visits")) == server


def test_a_database_that_cannot_be_found_is_told_and_its_secrets_are_not(tmp_path, monkeypatch):
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    (tmp_path / "services").write_text("password=hunter2\n")
    with pytest.raises(DataError, match="the service file") as told:
        server_of(Source.of("postgresql:///c?service=clinic", table="visits"))
    assert "hunter2" not in str(told.value)
    (tmp_path / "services").write_text("[other]\npassword=hunter2\n")
    with pytest.raises(DataError, match="no service 'clinic' is in") as told:
        server_of(Source.of("postgresql:///c?service=clinic", table="visits"))
    assert "hunter2" not in str(told.value)
    with pytest.raises(SourceAwayError, match=r"'nowhere\.invalid' cannot be found"):
        server_of(Source.of("postgresql://me@nowhere.invalid/c", table="visits"))
    with pytest.raises(DataError, match="give each its port"):
        server_of(Source.of("postgresql:///c?host=10.0.0.1,10.0.0.2,10.0.0.3&port=1,2", table="visits"))


def test_the_files_of_libpq_may_be_read_by_a_reader_of_a_database(monkeypatch):
    monkeypatch.setenv("PGPASSFILE", "/srv/pass")
    remote = Source.of("postgresql://reader@10.0.0.9/clinic?sslrootcert=/srv/ca.pem", table="visits")
    assert {Path("/srv/ca.pem"), Path("/srv/pass")} <= set(access_of(remote).readable)
    assert access_of(Source.of(__file__)).server is None


def test_a_pattern_or_query_opens_the_files_that_it_finds_and_no_other(folder):
    wanted = {"pattern": ["table.parquet"], "query": ["table.csv"], "file": ["table.csv"]}
    for kind, names in wanted.items():
        access = access_of(source(folder, kind))
        assert list(access.readable) == [(folder / name).resolve() for name in names]
        assert list(access.listed) == ([] if kind == "file" else [folder])


def test_a_database_behind_a_link_is_read_with_what_is_not_in_its_file_yet(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "link.db").symlink_to(tmp_path / "a" / "visits.db")
    with closing(sqlite3.connect(tmp_path / "a" / "visits.db", isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("CREATE TABLE visit (x0 REAL, target TEXT)")
        writer.executemany("INSERT INTO visit VALUES (?, ?)", [(at, "ab"[at % 2]) for at in range(60)])
        linked = Source.of(tmp_path / "link.db", table="visit")
        before = source_state(linked)
        assert Workroom(nothing).inspect("d", linked, ("target",), limits=Limits()).records == 60
        writer.execute("INSERT INTO visit VALUES (60, 'a')")
        assert source_state(linked) != before
        assert Workroom(nothing).inspect("d", linked, ("target",), limits=Limits()).records == 61


def test_a_folder_of_images_that_holds_the_mines_home_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    images, home = Source.of(tmp_path), tmp_path / "a" / "mine"
    with pytest.raises(DataError, match="holds the mine's home"):
        Workroom(nothing, home=home).inspect("d", images, ("label",), limits=Limits())
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(DataError, match="holds the mine's home"):
        access_of(Source.of(tmp_path / "link"), home)
    assert access_of(images, tmp_path.parent / "mine").readable == (tmp_path,)


def test_what_was_read_is_told_as_it_was_asked_for(folder):
    dataset = inspect("d", source(folder, "file"), "target")
    spec = Spec.build(**SPEC)
    _, read = gather(dataset, match(dataset, spec), spec)
    asked = dataset, match(dataset, spec), 60
    assert load_provenance(read.to_dict(), *asked) == replace(read, seconds=round(read.seconds, 3))
    lies = {"dataset": "e", "kind": "images", "location": "/etc/passwd", "query": "select 1", "columns": ["x0"],
            "used": 59, "rows": 59, "fingerprint": "of my own"}  # fmt: skip
    for name, value in lies.items():
        with pytest.raises(FrameError, match=name):
            load_provenance({**read.to_dict(), name: value}, *asked)


@given(st.binary(max_size=400), st.sampled_from(["statistics", "epoch"]), st.integers(), st.floats())
def test_sums_that_no_job_gives_are_told_and_nothing_else_is_raised(blob, kind, records, weight):
    body = {"kind": kind, "records": records, "weight": weight, "squares": weight}
    with pytest.raises(FrameError):
        load_gathered(body, (blob, blob), Spec.build(**SPEC))
    with pytest.raises(FrameError):
        load_provenance({**body, "rows": records}, None, None, 1)


def test_sums_with_a_value_that_is_no_number_are_a_lie(folder):
    dataset: Dataset = inspect("d", source(folder, "file"), "target")
    spec = Spec.build(**SPEC)
    sums, _ = gather(dataset, match(dataset, spec), spec)
    body, (gram, moment) = dump_gathered(sums)
    assert load_gathered(body, (gram, moment), spec).records == 60
    with pytest.raises(FrameError, match="not finite"):
        load_gathered(body, (gram[:-8] + np.array([np.nan]).tobytes(), moment), spec)


def test_a_job_that_wants_more_memory_than_it_may_have_is_told_so(folder):
    dataset = inspect("d", source(folder, "file"), "target")
    spec = Spec.build(**SPEC, feature_map={"kind": "fourier", "count": 2047, "gamma": 0.2})
    limits = Limits(memory=420 << 20, threads=1)
    with pytest.raises(ApartError, match="memory_gib") as lost:
        Workroom(nothing).gather(dataset, match(dataset, spec), spec, "refuse", limits, nothing)
    assert lost.value.lasting


def test_what_reads_and_trains_never_loads_what_signs_or_connects():
    code = "import mine.apart.__main__, mine.apart.jobs, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"eth_account", "web3", "httpx", "requests", "capsule", "nacl", "torch"}
    assert not {"mine.wallet", "mine.ledger", "sonar.wallet"} & set(done.stdout.split())


@pytest.mark.timeout(600)
def test_sigterm_ends_a_mine_in_the_middle_of_a_training_and_its_process_with_it(stage, write_csv):
    rows = write_csv(stage.folder / "long.csv", records=30_000)
    mine = stage.mine(rows)
    stage.campaign(stage.spec(feature_map={"kind": "fourier", "count": 1200, "gamma": 0.2}))
    with subprocess.Popen(
        mine.command("run", "--poll", "0.05", "--allow-insecure-small-key", "--json"), env=mine.environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        daemon = psutil.Process(process.pid)
        children = until(daemon.children, "a process that reads")
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        until(lambda: not any(child.is_running() and child.status() != "zombie" for child in children), "its end")
