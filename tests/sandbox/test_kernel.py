"""What a restricted process can still do is seen from inside a real one."""

import json
import socket
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from sonar.sandbox import kernel

PLACES = [sys.prefix, sys.base_prefix, str(Path(kernel.__file__).parents[1]), "/usr", "/lib", "/lib64", "/proc/self"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="seccomp and Landlock are Linux")


def inside(code: str) -> dict:
    """What a process finds that runs this code, which fills `found`."""
    head = """
        import json, os, socket, sys, threading
        from pathlib import Path
        from sonar.sandbox.kernel import Dialling, forbid_files, forbid_network
        found = {}
        def attempt(name, action):
            try:
                action()
                found[name] = "done"
            except OSError as error:
                found[name] = error.strerror
    """
    script = textwrap.dedent(head) + textwrap.dedent(code) + "\nprint(json.dumps(found))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_no_socket_can_be_made_once_the_network_is_forbidden_not_even_in_a_thread_or_a_child():
    found = inside("""
        found["why"] = forbid_network()
        attempt("tcp", lambda: socket.socket())
        attempt("unix", lambda: socket.socket(socket.AF_UNIX))
        attempt("pair", lambda: socket.socketpair())
        thread = threading.Thread(target=attempt, args=("thread", lambda: socket.socket()))
        thread.start()
        thread.join()
        child = os.fork()
        if not child:
            try:
                socket.socket()
            except OSError:
                os._exit(7)
            os._exit(0)
        found["child"] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        attempt("file", lambda: open(os.devnull).close())
    """)
    if found["why"] is not None:
        pytest.skip(found["why"])
    refused = "Operation not permitted"
    assert found == {"why": None, "tcp": refused, "unix": refused, "pair": refused, "thread": refused, "child": 7,
                     "file": "done"}  # fmt: skip


def test_the_memory_of_other_processes_cannot_be_reached_once_the_network_is_forbidden():
    found = inside("""
        import ctypes
        library = ctypes.CDLL(None, use_errno=True)
        def call(number, *given):
            if library.syscall(number, *given) < 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        numbers = {"x86_64": (101, 438, 425), "aarch64": (117, 438, 425)}[os.uname().machine]
        found["why"] = forbid_network()
        for name, number in zip(("ptrace", "steal", "ring"), numbers):
            attempt(name, lambda: call(number, 0, 0, 0, 0))
    """)
    if found.pop("why") is not None:
        pytest.skip("no seccomp here")
    assert set(found.values()) == {"Operation not permitted"}


def test_only_what_is_named_can_be_read_and_nothing_written(tmp_path):
    (tmp_path / "open").mkdir()
    for name in ("open/records.csv", "account.key"):
        (tmp_path / name).write_text("x")
    found = inside(f"""
        place = Path({str(tmp_path)!r})
        found["why"] = forbid_files([place / "open", place / "missing", *map(Path, {PLACES!r})])
        attempt("named", lambda: (place / "open" / "records.csv").read_text())
        attempt("key", lambda: (place / "account.key").read_text())
        attempt("parent", lambda: list((place).iterdir()))
        attempt("link", lambda: os.link(place / "account.key", place / "open" / "linked"))
        attempt("write", lambda: (place / "open" / "new").write_text("x"))
        attempt("change", lambda: (place / "open" / "records.csv").open("r+"))
        attempt("remove", lambda: (place / "open" / "records.csv").unlink())
        attempt("nowhere", lambda: open(os.devnull, "w").close())
    """)
    if found["why"] is not None:
        pytest.skip(found["why"])
    refused = "Permission denied"
    assert found == {"why": None, "named": "done", "key": refused, "parent": refused, "link": refused,
                     "write": refused, "change": refused, "remove": refused, "nowhere": "done"}  # fmt: skip


def test_a_process_with_ports_connects_to_these_alone():
    with socket.create_server(("127.0.0.1", 0)) as right, socket.create_server(("127.0.0.1", 0)) as wrong:
        ports = [server.getsockname()[1] for server in (right, wrong)]
        found = inside(f"""
            found["why"] = forbid_files(map(Path, {PLACES!r}), [{ports[0]}])
            for name, port in zip(("right", "wrong"), {ports!r}):
                attempt(name, lambda: socket.create_connection(("127.0.0.1", port)).close())
        """)
    if found["why"] is not None:
        pytest.skip(found["why"])
    if found["wrong"] == "done":
        pytest.skip("this Landlock knows no ports")
    assert found == {"why": None, "right": "done", "wrong": "Permission denied"}


DIALLED = """
    import threading
    other = threading.Event()
    done = threading.Event()
    def wait_and_try():
        other.wait()
        attempt("another thread", lambda: socket.socket())
        done.set()
    thread = threading.Thread(target=wait_and_try)
    thread.start()
    found["why"] = forbid_network(Dialling(tcp=True, unix=False))
    attempt("udp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    attempt("udp over IPv6", lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
    attempt("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
    attempt("unix", lambda: socket.socket(socket.AF_UNIX))
    attempt("netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))
    attempt("another protocol", lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262))
    attempt("to a receiver", lambda: socket.socket().sendto(b"x", socket.MSG_FASTOPEN, ("127.0.0.1", {port})))
    attempt("in a message", lambda: socket.socket().sendmsg([b"x"], [], socket.MSG_FASTOPEN, ("127.0.0.1", {port})))
    attempt("listening", lambda: socket.socket().bind(("127.0.0.1", 0)))
    server = socket.create_connection(("127.0.0.1", {port}))
    found["shut"] = forbid_network(connected=True)
    other.set()
    done.wait()
    spare = server.dup()
    attempt("again", lambda: socket.create_connection(("127.0.0.1", {port})))
    attempt("from the connection to another", lambda: spare.connect(("127.0.0.1", {port})))
    server.sendall(b"question")
    found["answer"] = server.recv(100).decode()
"""


def test_a_process_connects_to_its_server_and_is_then_left_that_connection_alone():
    with socket.create_server(("127.0.0.1", 0)) as server:
        answering = threading.Thread(target=answer_once, args=(server,))
        answering.start()
        found = inside(textwrap.dedent(DIALLED).replace("{port}", str(server.getsockname()[1])))
        answering.join()
    if found.pop("why") is not None:
        pytest.skip("no seccomp here")
    assert (found.pop("shut"), found.pop("answer")) == (None, "question, answered")
    assert set(found.values()) == {"Operation not permitted"}, found


def answer_once(server: socket.socket) -> None:
    server.settimeout(30)
    near, _ = server.accept()
    with near:
        near.sendall(near.recv(100) + b", answered")


def test_a_process_that_reads_by_a_unix_socket_makes_no_other(tmp_path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "server"))
        server.listen()
        found = inside(f"""
            found["why"] = forbid_network(Dialling(tcp=False, unix=True))
            attempt("tcp", lambda: socket.socket())
            attempt("datagrams", lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            near = socket.socket(socket.AF_UNIX)
            near.connect({str(tmp_path / "server")!r})
            found["shut"] = forbid_network(connected=True)
            attempt("again", lambda: socket.socket(socket.AF_UNIX))
        """)
    if found.pop("why") is not None:
        pytest.skip("no seccomp here")
    assert found.pop("shut") is None
    assert set(found.values()) == {"Operation not permitted"}, found


def test_a_folder_that_may_be_listed_is_not_read(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "secret").write_text("x")
    (tmp_path / "records").write_text("y")
    found = inside(f"""
        place = Path({str(tmp_path)!r})
        found["why"] = forbid_files([place / "records", *map(Path, {PLACES!r})], listed=[place])
        found["names"] = sorted(str(one) for one in place.rglob("*"))
        attempt("named", lambda: (place / "records").read_text())
        attempt("secret", lambda: (place / "below" / "secret").read_text())
    """)
    if found["why"] is not None:
        pytest.skip(found["why"])
    assert found.pop("names") == [str(tmp_path / name) for name in ("below", "below/secret", "records")]
    assert (found["named"], found["secret"]) == ("done", "Permission denied")
