"""What a restricted process can still do is seen from inside a real one."""

import json
import socket
import subprocess
import sys
import textwrap
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
        from sonar.sandbox.kernel import forbid_files, forbid_network
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
