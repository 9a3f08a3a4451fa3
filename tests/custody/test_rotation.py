"""A new passphrase: everything opens with it, nothing with the old one, and a kill at any step loses nothing."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from commands import Commands
from custody import (
    CHEAP,
    PASSPHRASE,
    Filled,
    all_values,
    cheap_keystores,
    check_everything_opens,
    fill,
    make_home,
)
from eth_account import Account
from sqlalchemy import update

from capsule.custody.retention import Retention
from capsule.custody.rotation import rotate
from capsule.errors import CapsuleHomeError
from capsule.home import OpenHome, locked, open_home
from capsule.policy import Policy
from capsule.secret import CapsuleSecretError
from capsule.state import SERVING, State
from capsule.state import tables as t
from sonar.chain.lookups import Block
from sonar.wallet import load_account

NEW = "battery staple"


@pytest.fixture(scope="module")
def run() -> Iterator[Commands]:
    commands = Commands("capsule", "import custody; custody.cheap_keystores()")
    yield commands
    commands.close()


@pytest.fixture(scope="module", autouse=True)
def _cheap_keystores() -> Iterator[None]:
    strong = Account.encrypt
    cheap_keystores()
    yield
    Account.encrypt = strong  # type: ignore[method-assign]


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str | None:
    return request.getfixturevalue("postgres_url") if request.param == "postgresql" else None


@pytest.fixture
def made(tmp_path: Path, database: str | None) -> Iterator[tuple[OpenHome, Filled]]:
    home = make_home(tmp_path / "capsule", database)
    yield home, fill(home)
    home.state.close()


def test_after_a_rotation_the_new_passphrase_opens_everything_and_the_old_one_nothing(
    made: tuple[OpenHome, Filled], tmp_path: Path
) -> None:
    home, filled = made
    vault, keystore = rotate(home, NEW, cost=CHEAP)
    assert vault.master_id != home.vault.master_id
    check_everything_opens(tmp_path / "capsule", home.state, NEW, filled)
    assert (tmp_path / "capsule" / "attester.json").read_text() == keystore
    assert load_account(tmp_path / "capsule" / "attester.json", NEW).address == home.address
    with pytest.raises(CapsuleSecretError, match="passphrase does not open"):
        check_everything_opens(tmp_path / "capsule", home.state, PASSPHRASE, filled)


def test_a_rotation_leaves_nothing_under_the_old_master_key(made: tuple[OpenHome, Filled]) -> None:
    """Whatever a later change adds: no value of any table names the old master key but the audit log's entry."""
    home, _ = made
    old = home.vault.master_id
    assert sum(old in value for value in all_values(home.state) if isinstance(value, bytes)) >= 12
    vault, _ = rotate(home, NEW, cost=CHEAP)
    values = all_values(home.state)
    assert not [value for value in values if isinstance(value, bytes) and old in value]
    assert [
        value for value in values if isinstance(value, str) and old.hex() in value and vault.master_id.hex() in value
    ]


def test_the_audit_log_tells_of_a_rotation_and_stays_whole(made: tuple[OpenHome, Filled]) -> None:
    home, _ = made
    before = home.state.audit_head()
    vault, _ = rotate(home, NEW, cost=CHEAP)
    (entry,) = home.state.audit.entries(before.length)
    assert entry.kind == "rotation"
    body = json.loads(entry.body)
    assert (body["from"], body["to"]) == (home.vault.master_id.hex(), vault.master_id.hex())
    assert home.state.audit_head().hash == entry.hash == entry.expected_hash()


def test_a_damaged_record_stops_a_rotation_and_changes_nothing(made: tuple[OpenHome, Filled], tmp_path: Path) -> None:
    home, filled = made
    (issued,) = filled.keys["issued"]
    with home.state.transaction() as db:
        row = db.execute(update(t.keys).where(t.keys.c.id == issued).values(secret=b"junk").returning(t.keys.c.id))
        assert row.one().id == issued
    before = all_values(home.state)
    with pytest.raises(CapsuleSecretError, match="not sealed by a vault"):
        rotate(home, NEW, cost=CHEAP)
    assert all_values(home.state) == before


def test_two_rotations_at_once_do_not_mix(made: tuple[OpenHome, Filled], tmp_path: Path) -> None:
    home, filled = made
    rotate(home, NEW, cost=CHEAP)
    with pytest.raises(CapsuleHomeError, match="changed meanwhile"):
        rotate(home, "third", cost=CHEAP)
    check_everything_opens(tmp_path / "capsule", home.state, NEW, filled)


def test_a_database_that_another_machine_serves_is_not_rotated(tmp_path: Path, postgres_url: str) -> None:
    home = make_home(tmp_path / "capsule", postgres_url)
    other = State(postgres_url)
    try:
        claim = other.claims.try_claim(SERVING, shared=True)
        assert claim is not None
        with claim, pytest.raises(CapsuleHomeError, match="other processes serve"):
            rotate(home, NEW, cost=CHEAP)
        rotate(home, NEW, cost=CHEAP)
    finally:
        other.close()
        home.state.close()


# ---- kill -9

_VICTIM = """
    import os, signal, sys
    from pathlib import Path
    from sqlalchemy import Engine, event
    from custody import CHEAP, PASSPHRASE, cheap_keystores
    from capsule.custody.rotation import rotate
    from capsule.home import open_home, write_keystore

    cheap_keystores()
    for line in sys.stdin:  # a home and a step a line; each is done in a child that dies there
        home, step = line.split()
        child = os.fork()
        if child == 0:
            left = int(step)

            def count(*_):
                global left
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

            opened = open_home(Path(home), PASSPHRASE)
            for name in ("before_cursor_execute", "after_cursor_execute", "commit"):
                event.listen(Engine, name, count)
            replace = Path.replace
            Path.replace = lambda *words: (count(), replace(*words), count())[1]
            _, text = rotate(opened, "battery staple", cost=CHEAP)
            write_keystore(Path(home), text)
            os._exit(0)
        print(os.waitpid(child, 0)[1], flush=True)
"""


def test_a_rotation_that_is_killed_at_any_step_leaves_one_passphrase_that_opens_everything(tmp_path: Path) -> None:
    template = tmp_path / "template"
    home = make_home(template)
    filled = fill(home)
    home.state.close()
    opened_with: list[str] = []
    search = os.pathsep.join(sys.path)
    victim = subprocess.Popen(
        [sys.executable, "-c", dedent(_VICTIM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": search},
    )  # fmt: skip
    assert victim.stdin is not None
    assert victim.stdout is not None
    status = signal.SIGKILL
    while status == signal.SIGKILL:
        directory = tmp_path / f"killed at {len(opened_with)}".replace(" ", "-")
        shutil.copytree(template, directory)
        print(directory, len(opened_with), file=victim.stdin, flush=True)
        status = int(victim.stdout.readline())
        opened_with.append(_the_one_passphrase(directory, filled))
        shutil.rmtree(directory)
    victim.communicate()
    assert (status, victim.returncode) == (0, 0)
    assert len(opened_with) > 60, "not every step was tried"
    assert opened_with == sorted(opened_with, reverse=True)  # the old one, and from one step on the new one
    assert set(opened_with) == {PASSPHRASE, NEW}
    assert opened_with[-3:] == [NEW] * 3, "never killed between the commit and the keystore's file"


def _the_one_passphrase(directory: Path, filled: Filled) -> str:
    state = State(directory / "capsule.db")
    try:
        works = []
        for words in (PASSPHRASE, NEW):
            try:
                check_everything_opens(directory, state, words, filled)
            except CapsuleSecretError:
                continue
            works.append(words)
            assert load_account(directory / "attester.json", words)
        (only,) = works
        return only
    finally:
        state.close()


# ---- the command


def test_keys_are_listed_without_passphrase_and_without_secrets(run: Commands, tmp_path: Path) -> None:
    home = make_home(tmp_path / "capsule")
    filled = fill(home)
    home.state.close()
    shown = run("keys", "list", "--home", str(tmp_path / "capsule"), "--json")
    assert shown.returncode == 0, shown.stderr
    rows = json.loads(shown.stdout)
    assert {row["use"] for row in rows} == {"spare", "issued", "used", "round"}
    assert {row["key"] for row in rows} == {"0x" + key_id.hex() for key_id in filled.secrets}
    assert all(row["bits"] == 256 and not row["deleted"] and row["age_seconds"] < 600 for row in rows)
    assert {row["campaign"] for row in rows if row["use"] == "round"} == {"0x" + "72" * 32, "0x" + "6f" * 32}
    for data in filled.secrets.values():
        assert data.hex() not in shown.stdout
    words = run("keys", "list", "--home", str(tmp_path / "capsule"), "--use", "issued")
    header, row = words.stdout.splitlines()
    assert header.split() == ["key", "use", "age", "campaign,", "else", "account"]
    assert row.startswith("0x" + filled.keys["issued"][0].hex()[:16] + "  issued")
    assert [header.index("use"), header.index("campaign")] == [row.index("issued"), row.index("0x", 2)]
    none = run("keys", "list", "--home", str(tmp_path / "capsule"), "--use", "lost")
    assert (none.stdout, none.stderr) == ("", "no key is lost\n")


def test_the_command_rotates_a_home_that_nobody_serves(run: Commands, tmp_path: Path) -> None:
    directory = tmp_path / "capsule"
    home = make_home(directory)
    filled = fill(home)
    home.state.close()
    (tmp_path / "old").write_text(PASSPHRASE + "\n")
    (tmp_path / "new").write_text(NEW + "\n")
    command = ["keys", "rotate", "--home", str(directory), "--passphrase-file", str(tmp_path / "old")]
    with locked(directory):
        done = run(*command, "--new-passphrase-file", str(tmp_path / "new"))
        assert (done.returncode, "another process serves" in done.stderr) == (8, True)
    done = run(*command)
    assert (done.returncode, "SONAR_CAPSULE_NEW_PASSPHRASE" in done.stderr) == (3, True)
    done = run(*command, "--new-passphrase-file", str(tmp_path / "new"), "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["address"] == home.address
    again = open_home(directory, NEW)
    assert told["master_key_id"] == again.vault.master_id.hex()
    check_everything_opens(directory, again.state, NEW, filled)
    again.state.close()
    done = run(*command, SONAR_CAPSULE_NEW_PASSPHRASE="third")
    assert (done.returncode, "passphrase does not open this Capsule" in done.stderr) == (8, True)
    for secret in (PASSPHRASE, NEW):
        assert secret not in done.stderr + done.stdout


def test_what_the_old_passphrase_opens_is_in_no_file_after_a_rotation(run: Commands, tmp_path: Path) -> None:
    home = make_home(tmp_path / "capsule")
    fill(home)
    old = home.vault.master_id
    home.state.close()
    reader = sqlite3.connect(tmp_path / "capsule" / "capsule.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM keys").fetchall()
    command = ("keys", "rotate", "--home", tmp_path / "capsule")
    done = run(*command, SONAR_CAPSULE_PASSPHRASE=PASSPHRASE, SONAR_CAPSULE_NEW_PASSPHRASE=NEW)
    assert (done.returncode, "may still hold" in done.stderr) == (0, True), done.stderr
    reader.close()
    again = open_home(tmp_path / "capsule", NEW)
    Retention(again.state, Policy()).step(Block(1, b"h" * 32, b"p" * 32, 1))  # as who serves does at once
    assert not _wrapped(tmp_path, old)
    middle = again.vault.master_id
    again.state.close()
    done = run(*command, SONAR_CAPSULE_PASSPHRASE=NEW, SONAR_CAPSULE_NEW_PASSPHRASE="third")
    assert (done.returncode, "may still hold" in done.stderr) == (0, False), done.stderr
    assert not _wrapped(tmp_path, middle)


def _wrapped(directory: Path, master: bytes) -> list[Path]:
    """The files that hold a record under this master key."""
    record = b"sonar record 2\n" + master
    return [path for path in directory.rglob("*") if path.is_file() and record in path.read_bytes()]


def test_a_passphrase_file_may_end_its_line_as_on_windows_and_is_best_not_read_by_all(
    run: Commands, tmp_path: Path
) -> None:
    make_home(tmp_path / "capsule").state.close()
    file = tmp_path / "words"
    file.write_bytes(PASSPHRASE.encode() + b"\r\nanother line\r\n")
    for mode, warned in ((0o644, True), (0o400, False)):
        file.chmod(mode)
        done = run("audit", "verify", "--home", tmp_path / "capsule", "--passphrase-file", file)
        assert (done.returncode, "chmod 400" in done.stderr) == (0, warned), done.stderr
