"""A reader that was taken over: code of a stranger's in the real process, after all that keeps it, tries to get out."""

import json
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from mine.apart.workroom import Limits, Workroom
from mine.data import Source
from mine.errors import DataError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what keeps a process is Linux")

TAKEN_OVER = """
    import importlib.abc, importlib.machinery, sys

    class Intruder(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path, target=None):
            if name not in ("mine.apart.jobs", "mine.data.rowtable"):
                return None
            spec = importlib.machinery.PathFinder.find_spec(name, path)
            load = spec.loader.exec_module
            def exec_module(module):
                load(module)
                if name == "mine.data.rowtable":
                    module.PostgresTable._names = names
                elif not sys.modules["mine.data.rowtable"].PostgresTable.when_connected:
                    module.Desk.do = lambda self, request: strike(module.Frame)
            spec.loader.exec_module = exec_module
            return spec

    sys.meta_path.insert(0, Intruder())

    def names(self):
        # As soon as it is connected.
        from mine.errors import DataError
        raise DataError(strike(lambda body: body["done"]["message"]))

    def strike(Frame):
        import ctypes, fcntl, json, mmap, os, resource, signal, socket, stat, subprocess
        from pathlib import Path

        aims = json.loads(Path(__file__).with_name("aims").read_text())
        home, mine = Path(aims["home"]), aims["mine"]
        library = ctypes.CDLL(None, use_errno=True)
        found = {}

        def attempt(name, action):
            try:
                action()
                found[name] = "done"
            except OSError as error:
                found[name] = "refused"
            except Exception as error:
                found[name] = repr(error)

        def call(number, *given):
            if library.syscall(number, *given) < 0:
                raise OSError(ctypes.get_errno(), "refused")

        def by_a_child(*command):
            if subprocess.run(command, capture_output=True).returncode:
                raise OSError("refused")

        def raise_limit():
            try:
                resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
            except ValueError as error:  # what Python makes of a refusal
                raise OSError from error

        def shared_memory():
            segment = library.syscall(numbers["shm"], 0, 4096, 0o600)
            if segment < 0:
                raise OSError("refused")
            library.shmctl(segment, 0, None)

        def in_memory():
            descriptor = os.memfd_create("program")
            try:
                os.write(descriptor, b"#!/bin/sh")
            finally:
                os.close(descriptor)

        numbers = {"x86_64": dict(ptrace=101, vm_read=310, pidfd=434, getfd=438, ring=425, shm=29, keys=250, bpf=321,
                                  handle=304, module=313, mount=165),
                   "aarch64": dict(ptrace=117, vm_read=270, pidfd=434, getfd=438, ring=425, shm=194, keys=219, bpf=280,
                                   handle=265, module=273, mount=40)}[os.uname().machine]
        for name in ("account.key", "mine.db", "policy.toml"):
            attempt(f"read {name}", (home / name).read_bytes)
            attempt(f"read {name} by /proc", Path(f"/proc/self/root{home}/{name}").read_bytes)
            attempt(f"read {name} by the mine's /proc", Path(f"/proc/{mine}/root{home}/{name}").read_bytes)
            attempt(f"write {name}", lambda: (home / name).open("ab"))
            attempt(f"link {name}", lambda: os.link(home / name, aims["spare"] + "/linked"))
        attempt("list the home", lambda: os.listdir(home))
        attempt("list the records' folder", lambda: os.listdir(aims["folder"]))
        attempt("write the records", lambda: open(aims["records"], "ab"))
        attempt("write anywhere", lambda: open(aims["spare"] + "/taken", "wb"))
        attempt("write to shared memory", lambda: open(aims["shared"], "wb"))
        for process in (1, mine):
            for what in ("environ", "mem", "maps", "fd", "cwd", "task"):
                place = Path(f"/proc/{process}/{what}")
                attempt(f"/proc/{process}/{what}", lambda: os.listdir(place) if what in ("fd", "cwd", "task") else
                        place.open("rb").read(1))
        attempt("read memory", lambda: call(numbers["vm_read"], mine, 0, 0, 0, 0, 0))
        attempt("open the mine", lambda: call(numbers["pidfd"], mine, 0))
        attempt("steal a descriptor", lambda: call(numbers["getfd"], 0, 0, 0))
        attempt("ring", lambda: call(numbers["ring"], 1, 0))
        attempt("System V memory", shared_memory)
        attempt("keyring", lambda: call(numbers["keys"], 0, -3, 1))
        attempt("bpf", lambda: call(numbers["bpf"], 0, 0, 0))
        attempt("a file by its handle", lambda: call(numbers["handle"], 0, 0, 0))
        for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, socket.AF_NETLINK):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW):
                attempt(f"socket {family.name} {kind.name}", lambda: socket.socket(family, kind))
        attempt("connect", lambda: socket.create_connection(("127.0.0.1", aims["port"]), 5))
        attempt("look up", lambda: socket.getaddrinfo("example.invalid", 80))
        attempt("a program", lambda: by_a_child("/bin/cat", home / "account.key"))
        attempt("a program in memory", in_memory)
        attempt("the signal", lambda: os.kill(mine, 0))
        files = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if
                 os.path.exists(f"/proc/self/fd/{fd}")]
        found["descriptors"] = sorted({name.partition(":")[0] for name in files})
        found["environment"] = sorted(set(os.environ) & {"SONAR_PASSPHRASE", "PGPASSWORD", "SONAR_PASSPHRASE_FILE"})
        attempt("read the records", Path(aims["records"]).read_text)
        attempt("remove the records", lambda: os.unlink(aims["records"]))
        if not aims["control"]:  # they would stop the tests, or as root change the machine
            attempt("ptrace", lambda: call(numbers["ptrace"], 16, mine, 0, 0))
            attempt("a kernel module", lambda: call(numbers["module"], 0, 0, 0))
            attempt("mount", lambda: call(numbers["mount"], b"none", b"/tmp", b"tmpfs", 0, 0))
            attempt("raise a limit", raise_limit)
            attempt("chroot", lambda: os.chroot("/usr"))
            attempt("another user", lambda: os.setuid(12345))
        told = {name: value for name, value in found.items() if value != "refused"}
        return Frame({"done": {"refused": "DataError", "message": json.dumps([len(found), told])}})
"""


CONTROL = "import json, sitecustomize as s; print(s.strike(lambda body: body['done']['message']))"


@pytest.fixture
def aims(tmp_path, monkeypatch):
    """A mine's home, records, and what else is to be reached; the intruder is in every Python that starts now."""
    home, folder, intruder, spare = (tmp_path / name for name in ("mine", "records", "intruder", "spare"))
    for place in (home, folder, intruder, spare):
        place.mkdir()
    for name in ("account.key", "mine.db", "policy.toml"):
        (home / name).write_text("secret")
    (folder / "a.csv").write_text("records")
    (intruder / "sitecustomize.py").write_text(textwrap.dedent(TAKEN_OVER))
    monkeypatch.setenv("PYTHONPATH", str(intruder))
    for name in ("SONAR_PASSPHRASE", "PGPASSWORD"):
        monkeypatch.setenv(name, "correct horse")
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = {"home": str(home), "mine": os.getpid(), "folder": str(folder), "records": str(folder / "a.csv"),
                 "port": server.getsockname()[1], "spare": str(spare), "control": False,
                 "shared": f"/dev/shm/{tmp_path.name}-{os.getpid()}"}  # fmt: skip
        (intruder / "aims").write_text(json.dumps(found))
        yield found


def raided(source: Source) -> tuple[int, dict[str, object]]:
    """How much a taken-over reader of a source tried, and what was not refused."""
    room = Workroom(lambda _: None)
    with pytest.raises(DataError) as answer:
        room.inspect("d", source, ("target",), limits=Limits())
    if any(room.kept.values()):
        pytest.skip(f"this kernel keeps less: {room.kept}")
    tried, got = json.loads(str(answer.value))
    assert got.pop("the signal", "refused") in {"refused", "done"}  # kernels with Landlock ABI 6 refuse it
    return tried, got


def test_a_reader_that_was_taken_over_gets_the_records_and_nothing_else(aims):
    tried, got = raided(Source.of(aims["records"]))
    assert got == {"descriptors": ["/dev/null", "pipe"], "environment": [], "read the records": "done"}
    assert Path(aims["records"]).read_text() == "records"
    Path(aims["home"]).parent.joinpath("intruder", "aims").write_text(json.dumps({**aims, "control": True}))
    control = subprocess.run([sys.executable, "-c", CONTROL], capture_output=True, text=True, timeout=60, check=True)
    Path(aims["shared"]).unlink()
    _, free = json.loads(control.stdout)
    would = {name for name, value in free.items() if value == "done"}
    assert would >= {"read account.key", "read mine.db by /proc", "read account.key by the mine's /proc",
                     "write policy.toml", "list the home", "list the records' folder", "write the records",
                     "remove the records", "write anywhere", "write to shared memory", "connect", "a program",
                     "a program in memory", "socket AF_INET SOCK_DGRAM", "socket AF_UNIX SOCK_STREAM",
                     "System V memory", "the signal"}, "a free process does all of this"  # fmt: skip
    assert tried > len(would)


def test_a_reader_of_a_database_that_was_taken_over_has_its_connection_and_nothing_else(aims, postgres_url):
    _, got = raided(Source.of(postgres_url.replace("postgresql+psycopg", "postgresql"), table="visits"))
    assert got == {"descriptors": ["/dev/null", "pipe", "socket"], "environment": ["PGPASSWORD"]}
