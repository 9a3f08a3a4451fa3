"""What processes that hold secrets leave behind: no core dump, no readable memory, no passphrase for children."""

import io
import logging
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from capsule.errors import CapsuleError
from capsule.keyprocess import KeyProcess
from capsule.secret import CapsuleSecretError, Record, SecretKey, Vault, generate_key
from capsule.secret.hardening import take_passphrase
from capsule.secret.stretching import INTERACTIVE
from sonar.protocol.sealing import SealingKeyPair
from sonar.wallet import decrypt_keystore

PASSPHRASE = "a passphrase that must not show"

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

_CHILD = """
import os, sys
{before}
from capsule.secret import harden
harden()
open(sys.argv[1], "w").close()
print("ready", flush=True)
sys.stdin.read()
"""


def child(path: Path, before: str = "") -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", _CHILD.format(before=before), str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def end(process: subprocess.Popen[bytes]) -> int:
    process.communicate()
    return process.returncode


@linux
def test_a_hardened_process_has_no_core_limit_and_makes_private_files(tmp_path: Path) -> None:
    made = tmp_path / "made"
    process = child(made, "os.umask(0)")
    try:
        limits = Path(f"/proc/{process.pid}/limits").read_text().splitlines()
        core = next(line.split() for line in limits if line.startswith("Max core file size"))
        assert core[4:6] == ["0", "0"]
        assert "Umask:\t0077" in Path(f"/proc/{process.pid}/status").read_text()
        assert oct(made.stat().st_mode)[-3:] == "600"
    finally:
        assert end(process) == 0


@linux
@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="needs two users")
def test_a_hardened_process_is_closed_to_others_of_its_user() -> None:
    """Undumpable: the kernel gives its /proc entries to root, so its own user cannot open its memory."""
    # Imported before: the other user may not be let into the interpreter's directory.
    become = "import resource; from capsule.secret import SecretKey; os.setgid(65534); os.setuid(65534)"
    process = child(Path(os.devnull), become)
    try:
        assert Path(f"/proc/{process.pid}/mem").stat().st_uid == 0
        assert "Uid:\t65534" in Path(f"/proc/{process.pid}/status").read_text()
    finally:
        assert end(process) == 0


@linux
def test_a_hardened_process_that_crashes_leaves_no_core(tmp_path: Path) -> None:
    process = child(tmp_path / "made", "import resource; os.chdir(os.path.dirname(sys.argv[1]))")
    process.send_signal(signal.SIGABRT)
    assert end(process) == -signal.SIGABRT
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_the_passphrase_leaves_the_environment_before_children_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SONAR_CAPSULE_PASSPHRASE", PASSPHRASE)
    assert take_passphrase() == PASSPHRASE
    shown = subprocess.run(
        [sys.executable, "-c", "import os; print(dict(os.environ))"], capture_output=True, text=True, check=True
    )
    assert PASSPHRASE not in shown.stdout
    assert take_passphrase() is None


@linux
def test_a_key_process_is_hardened_and_has_no_secret_in_its_arguments() -> None:
    maker = KeyProcess(16384)
    failed: list[Exception] = []

    def make() -> None:
        try:
            maker.make()
        except CapsuleError as error:
            failed.append(error)

    thread = threading.Thread(target=make)
    thread.start()
    try:
        child = _await(lambda: maker._child)
        status, limits = Path(f"/proc/{child.pid}/status"), Path(f"/proc/{child.pid}/limits")
        _await(lambda: "Umask:\t0077" in status.read_text())
        assert "Max core file size        0                    0" in limits.read_text()
        words = Path(f"/proc/{child.pid}/cmdline").read_bytes().split(b"\0")
        assert words[1:] == [b"-P", b"-m", b"capsule.keyprocess", b"16384", b""]
    finally:
        maker.cancel()
        thread.join(30)
    assert failed


def _await(condition: Callable[[], object]) -> object:
    done = threading.Event()
    for _ in range(1000):
        if found := condition():
            return found
        done.wait(0.02)
    raise AssertionError("it did not come to that")


def _errors() -> list[tuple[str, Callable[[], object]]]:
    """Every way in which the custody of a secret fails."""
    vault = Vault.create(PASSPHRASE, cost=INTERACTIVE)
    key = generate_key(256, allow_insecure_small_key=True)
    data, sealed = key.to_bytes(), vault.seal(key.to_bytes(), Record.PAILLIER_KEY, b"id")
    header = bytearray(vault.header)
    header[20] ^= 1
    return [
        ("wrong passphrase", lambda: Vault(PASSPHRASE + "!", vault.header)),
        ("damaged header", lambda: Vault(PASSPHRASE, bytes(header))),
        ("no UTF-8", lambda: Vault.create(PASSPHRASE + "\udcff")),
        ("another record", lambda: vault.open(sealed, Record.PAILLIER_KEY, b"other")),
        ("a damaged record", lambda: vault.open(sealed[:-1], Record.PAILLIER_KEY, b"id")),
        ("no record", lambda: vault.open(data, Record.PAILLIER_KEY, b"id")),
        ("another vault", lambda: Vault.create("other", cost=INTERACTIVE).open(sealed, Record.PAILLIER_KEY, b"id")),
        ("a small key", lambda: SecretKey.from_bytes(data)),
        ("a cut key", lambda: SecretKey.from_bytes(data[:-1], allow_insecure_small_key=True)),
        ("no primes", lambda: SecretKey(key._p, key._p + 2, allow_insecure_small_key=True)),
        ("a sealing key that is too short", lambda: SealingKeyPair(data[:31])),
        ("a copy", lambda: key.__reduce__()),
        ("a keystore that is not one", lambda: decrypt_keystore("{" + data.hex(), PASSPHRASE, "in the database")),
        ("a keystore of another kind", lambda: decrypt_keystore("{}", PASSPHRASE, "in the database")),
    ]


@pytest.mark.parametrize(("name", "fail"), [pytest.param(*each, id=each[0]) for each in _errors()])
def test_no_error_log_or_traceback_tells_a_secret(name: str, fail: Callable[[], object]) -> None:
    logged = io.StringIO()
    handler = logging.StreamHandler(logged)
    log = logging.getLogger("capsule.test")
    log.addHandler(handler)
    try:
        fail()
    except Exception as error:
        told = "".join(traceback.format_exception(error)) + repr(error) + str(error.args)
        log.exception("failed")
    else:
        raise AssertionError(f"{name} did not fail")
    finally:
        log.removeHandler(handler)
    # The lines of this file are quoted in tracebacks; they hold names, not values.
    told += logged.getvalue()
    for secret in _secrets(fail):
        assert secret not in told


def _secrets(fail: Callable[[], object]) -> list[str]:
    """All that the failing call had in its hands, as it could be printed."""
    found = [PASSPHRASE]
    for cell in fail.__closure__ or ():
        value = cell.cell_contents
        if isinstance(value, SecretKey):
            found += [str(value._p), str(value._q), f"{value._p:x}", f"{value._q:x}"]
        elif isinstance(value, bytes):
            found += [value.hex(), repr(value)[2:-1]]
    return found


def test_a_wrong_passphrase_is_the_errors_only_cause() -> None:
    with pytest.raises(CapsuleSecretError) as caught:
        Vault("wrong", Vault.create(PASSPHRASE, cost=INTERACTIVE).header)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
