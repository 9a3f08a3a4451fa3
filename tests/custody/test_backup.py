"""Backups: a round trip between all kinds of databases, nothing from a damaged file, and what a restore takes away."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from commands import Commands
from custody import (
    CHEAP,
    OVER,
    OWNER,
    PASSPHRASE,
    RUNNING,
    WEIGHTS,
    Filled,
    cheap_keystores,
    check_everything_opens,
    fill,
    make_home,
    pool_of,
)
from eth_account import Account
from sqlalchemy import select, update

from capsule.custody import restoring
from capsule.custody.backup import back_up
from capsule.custody.quarantine import Quarantine, RoundHeldError
from capsule.custody.restoring import restore
from capsule.errors import AuditLogError, CapsuleHomeError
from capsule.home import OpenHome, open_home, unlock
from capsule.secret import CapsuleSecretError
from capsule.secret.stream import SealedReader, SealedWriter
from capsule.state import SERVING, State
from capsule.state import tables as t

BACKUP_PASSPHRASE = "of the backup"


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


@pytest.fixture
def home(tmp_path: Path) -> Iterator[OpenHome]:
    made = make_home(tmp_path / "capsule")
    yield made
    made.state.close()


@pytest.fixture
def backup(home: OpenHome, tmp_path: Path) -> tuple[Path, Filled]:
    filled = fill(home)
    file = tmp_path / "backup"
    back_up(home.state, file, BACKUP_PASSPHRASE, cost=CHEAP)
    return file, filled


def rows(state: State) -> dict[str, list[tuple[object, ...]]]:
    with state.snapshot() as db:
        return {
            table.name: [tuple(row) for row in db.execute(select(table).order_by(*table.primary_key))]
            for table in t.metadata.sorted_tables
        }


@pytest.mark.parametrize("source", ["sqlite", "postgresql"])
@pytest.mark.parametrize("target", ["sqlite", "postgresql"])
def test_a_move_keeps_every_row_between_every_two_databases(
    source: str, target: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    urls = [
        _database(request) if kind == "postgresql" else None for kind in (source, target)
    ]  # each call makes another database
    home = make_home(tmp_path / "from", urls[0])
    filled = fill(home)
    manifest = back_up(home.state, tmp_path / "backup", BACKUP_PASSPHRASE, cost=CHEAP)
    before = rows(home.state)
    home.state.close()
    where = urls[1] or tmp_path / "to.db"
    restore(tmp_path / "backup", BACKUP_PASSPHRASE, PASSPHRASE, where, moved=True)
    state = State(where)
    try:
        after = rows(state)
        last = after["audit"].pop()
        assert last[2] == "restore"
        assert json.loads(str(last[3]))["head"] == manifest.audit_hash
        assert after.pop("audit_head") != before.pop("audit_head")
        assert after == before
        check_everything_opens(tmp_path / "to", state, PASSPHRASE, filled)
        assert state.verify_audit().length == manifest.audit_length + 1
    finally:
        state.close()


def _database(request: pytest.FixtureRequest) -> str:
    cluster = request.getfixturevalue("postgres")
    name = cluster.new_database()
    request.addfinalizer(lambda: cluster.drop(name))
    url: str = cluster.url(name)
    return url


def test_a_backup_shows_nothing_and_has_its_owners_rights_only(backup: tuple[Path, Filled], home: OpenHome) -> None:
    file, filled = backup
    data = file.read_bytes()
    assert oct(file.stat().st_mode)[-3:] == "600"
    for visible in (b"audit", b"paillier", home.address[2:].encode(), RUNNING, *filled.secrets.values()):
        assert visible not in data
    assert not list(file.parent.glob(".*part"))


def test_who_can_open_a_backup_still_reads_no_secret(backup: tuple[Path, Filled]) -> None:
    file, filled = backup
    with file.open("rb") as stream:
        reader = SealedReader(stream, BACKUP_PASSPHRASE)
        plaintext = b"".join(iter(lambda: _rest(reader), b""))
    assert OWNER.encode() in plaintext
    for secret in (*filled.secrets.values(), b"the validation set", *WEIGHTS, PASSPHRASE.encode()):
        assert secret not in plaintext


def _rest(reader: SealedReader) -> bytes:
    """The next byte of a sealed file, nothing at its end."""
    try:
        return reader.read(1)
    except CapsuleSecretError:
        return b""


# ---- what is refused


def refused(file: Path, tmp_path: Path, kind: type[Exception], match: str, *, passphrase: str = PASSPHRASE) -> None:
    """The restore fails, and leaves nothing behind."""
    there = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(kind, match=match):
        restore(file, BACKUP_PASSPHRASE, passphrase, tmp_path / "restored.db")
    assert sorted(path.name for path in tmp_path.iterdir()) == there


def _frames(data: bytes) -> list[bytes]:
    """The header of a backup with its stream header, then each frame."""
    start = len(b"sonar backup 1\n") + 16 + 12 + 16 + 8 + 24
    parts, place = [data[:start]], start
    while place < len(data):
        length = 4 + int.from_bytes(data[place : place + 4], "big")
        parts.append(data[place : place + length])
        place += length
    return parts


@pytest.fixture
def long_backup(tmp_path: Path) -> list[bytes]:
    """The parts of a backup with several frames."""
    home = make_home(tmp_path / "long")
    fill(home)
    with home.state.transaction() as db:
        db.execute(update(t.kept).values(gradient=os.urandom(70_000), cid=None))
    back_up(home.state, tmp_path / "long backup", BACKUP_PASSPHRASE, cost=CHEAP)
    home.state.close()
    parts = _frames((tmp_path / "long backup").read_bytes())
    assert len(parts) >= 6
    return parts


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("cut between frames", lambda parts: parts[:-1]),
        ("cut within a frame", lambda parts: [*parts[:-1], parts[-1][:-1]]),
        ("without its first frame", lambda parts: [parts[0], *parts[2:]]),
        ("reordered", lambda parts: [parts[0], parts[2], parts[1], *parts[3:]]),
        ("with a frame twice", lambda parts: [*parts[:3], parts[2], *parts[3:]]),
        ("without a frame in the middle", lambda parts: [*parts[:3], *parts[4:]]),
        ("edited", lambda parts: [*parts[:3], parts[3][:-1] + bytes([parts[3][-1] ^ 1]), *parts[4:]]),
        ("continued", lambda parts: [*parts, b"\0"]),
        ("continued by a frame", lambda parts: [*parts, parts[1]]),
        ("with a length beyond any", lambda parts: [*parts[:2], b"\xff\xff\xff\xff" + parts[2][4:], *parts[3:]]),
        ("of the header alone", lambda parts: [parts[0]]),
        ("without its stream header", lambda parts: [parts[0][:-24]]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_backup_that_was_changed_restores_nothing(
    name: str, damage: Callable[[list[bytes]], list[bytes]], long_backup: list[bytes], tmp_path: Path
) -> None:
    file = tmp_path / "damaged"
    file.write_bytes(b"".join(damage(long_backup)))
    refused(file, tmp_path, CapsuleSecretError, "cut or damaged|not written by a Capsule")


def test_every_damaged_byte_of_the_header_is_noticed(backup: tuple[Path, Filled], tmp_path: Path) -> None:
    data = backup[0].read_bytes()
    for place in range(0, len(_frames(data)[0]), 7):
        bad = bytearray(data)
        bad[place] ^= 1
        (tmp_path / "damaged").write_bytes(bad)
        refused(tmp_path / "damaged", tmp_path, CapsuleSecretError, "not a Capsule's backup|damaged")


def test_wrong_passphrases_of_backup_and_capsule_are_told_apart(backup: tuple[Path, Filled], tmp_path: Path) -> None:
    file, _ = backup
    with pytest.raises(CapsuleSecretError, match="backup cannot be restored: the passphrase does not open this backup"):
        restore(file, "wrong", PASSPHRASE, tmp_path / "restored.db")
    refused(
        file, tmp_path, CapsuleSecretError, f"{file} cannot be restored: the backup opens, but .* --passphrase-file",
        passphrase="wrong",
    )  # fmt: skip


def test_a_file_that_is_no_backup_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter").write_bytes(b"Dear Sir or Madam" * 100)
    refused(tmp_path / "letter", tmp_path, CapsuleSecretError, "not a Capsule's backup")
    refused(tmp_path / "nothing", tmp_path, CapsuleHomeError, "cannot be read")


def test_a_backup_of_another_version_is_refused_by_name(tmp_path: Path) -> None:
    for number, text in enumerate(('{"format":2}', "no JSON", "[]")):
        file = tmp_path / f"future {number}"
        with file.open("wb") as stream:
            writer = SealedWriter(stream, BACKUP_PASSPHRASE, cost=CHEAP)
            writer.write(b"t" + len(text).to_bytes(8, "big") + text.encode())
            writer.finish()
        refused(file, tmp_path, CapsuleHomeError, "another version")


def test_nothing_is_ever_overwritten(backup: tuple[Path, Filled], home: OpenHome, postgres_url: str) -> None:
    file, filled = backup
    with pytest.raises(CapsuleHomeError, match="never overwrites"):
        back_up(home.state, file, BACKUP_PASSPHRASE, cost=CHEAP)
    database = file.parent / "capsule" / "capsule.db"
    with pytest.raises(CapsuleHomeError, match="never overwrites"):
        restore(file, BACKUP_PASSPHRASE, PASSPHRASE, database)
    restore(file, BACKUP_PASSPHRASE, PASSPHRASE, postgres_url)
    state = State(postgres_url)
    before = rows(state)
    with pytest.raises(CapsuleHomeError, match="is not empty"):
        restore(file, BACKUP_PASSPHRASE, PASSPHRASE, postgres_url)
    assert rows(state) == before
    state.close()
    check_everything_opens(file.parent / "capsule", home.state, PASSPHRASE, filled)


def test_a_failed_restore_leaves_postgresql_empty(
    backup: tuple[Path, Filled], tmp_path: Path, postgres_url: str
) -> None:
    file, _ = backup
    (tmp_path / "cut").write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CapsuleSecretError, match="cut or damaged"):
        restore(tmp_path / "cut", BACKUP_PASSPHRASE, PASSPHRASE, postgres_url)
    state = State(postgres_url)
    assert not [name for name, found in rows(state).items() if found]
    claim = state.claims.try_claim(SERVING, shared=True)
    assert claim is not None
    with claim, pytest.raises(CapsuleHomeError, match="other processes serve"):
        restore(file, BACKUP_PASSPHRASE, PASSPHRASE, postgres_url)
    restore(file, BACKUP_PASSPHRASE, PASSPHRASE, postgres_url)
    state.close()


def test_a_backup_of_a_log_that_was_edited_is_not_restored(home: OpenHome, tmp_path: Path) -> None:
    fill(home)
    with home.state.transaction() as db:
        db.execute(update(t.audit).where(t.audit.c.sequence == 3).values(kind="nothing"))
    back_up(home.state, tmp_path / "backup", BACKUP_PASSPHRASE, cost=CHEAP)
    refused(tmp_path / "backup", tmp_path, AuditLogError, "entry 3")


def test_a_restored_database_is_whole_without_its_write_ahead_log(backup: tuple[Path, Filled], tmp_path: Path) -> None:
    restore(backup[0], BACKUP_PASSPHRASE, PASSPHRASE, tmp_path / "new.db")
    assert [path.name for path in tmp_path.glob("*new.db*")] == ["new.db"]
    header = (tmp_path / "new.db").read_bytes()[18:20]
    assert header == b"\1\1", "a file in WAL mode may lack what is in its log"


def test_a_database_that_could_not_be_written_out_is_never_given_its_name(
    backup: tuple[Path, Filled], tmp_path: Path
) -> None:
    """As on a full disk: the commit is in the write-ahead log, and does not get into the file."""
    restore(backup[0], BACKUP_PASSPHRASE, PASSPHRASE, tmp_path / "whole.db")
    torn = tmp_path / "torn.db"
    torn.write_bytes((tmp_path / "whole.db").read_bytes()[:8192])
    with pytest.raises(CapsuleHomeError, match="restored database"):
        restoring._complete(torn)


def test_a_database_without_a_capsule_is_not_backed_up(tmp_path: Path) -> None:
    state = State(tmp_path / "empty.db")
    with pytest.raises(CapsuleHomeError, match="holds no Capsule"):
        back_up(state, tmp_path / "backup", BACKUP_PASSPHRASE, cost=CHEAP)
    state.close()
    assert [path.name for path in tmp_path.iterdir()] == ["empty.db"]


# ---- what a restored Capsule may not do


def test_a_restored_capsule_never_uses_a_key_again_that_the_former_one_may_have_used(
    backup: tuple[Path, Filled], tmp_path: Path
) -> None:
    file, filled = backup
    restore(file, BACKUP_PASSPHRASE, PASSPHRASE, tmp_path / "restored.db")
    state = State(tmp_path / "restored.db")
    home = unlock(tmp_path / "restored", state, PASSPHRASE)
    try:
        for key_id in filled.keys["spare"]:
            row = state.key(key_id)
            assert row is not None
            assert (row.use, row.secret) == ("lost", b"")
        for key_id in filled.keys["issued"]:
            assert not pool_of(home).use_up(key_id, OWNER)
            assert state.key(key_id).secret == b""  # type: ignore[union-attr]
        assert state.key_uses(OWNER) == {"used"}
        assert state.spare_keys() == 0
        for key_id in filled.keys["round"]:
            assert pool_of(home).secret(key_id).to_bytes() == filled.secrets[key_id]
        *_, entry = state.audit.entries()
        assert entry.kind == "restore"
        state.verify_audit()
    finally:
        state.close()


def test_running_campaigns_are_held_until_the_chain_was_seen(backup: tuple[Path, Filled], tmp_path: Path) -> None:
    file, _ = backup
    restore(file, BACKUP_PASSPHRASE, PASSPHRASE, tmp_path / "restored.db")
    state = State(tmp_path / "restored.db")
    unlock(tmp_path / "restored", state, PASSPHRASE)
    assert Quarantine(state).held() == {RUNNING: None}, "the other one is over"
    with state.transaction() as db:
        rows = db.execute(select(t.held.c.campaign, t.held.c.round)).all()
    assert {tuple(row) for row in rows} == {(RUNNING, None), (OVER, None)}, "whose end may be taken back"
    state.close()


def test_what_an_earlier_restore_held_is_held_anew_by_the_next(home: OpenHome, tmp_path: Path) -> None:
    """Between the two the former Capsule may have gone on and signed the next round."""
    fill(home)
    back_up(home.state, tmp_path / "first", BACKUP_PASSPHRASE, cost=CHEAP)
    restore(tmp_path / "first", BACKUP_PASSPHRASE, PASSPHRASE, tmp_path / "first.db")
    first = State(tmp_path / "first.db")
    unlock(tmp_path / "other", first, PASSPHRASE)
    with pytest.raises(RoundHeldError):
        Quarantine(first).check(RUNNING, 1, closed=True, signed=False, seen=2.0**33)
    back_up(first, tmp_path / "backup", BACKUP_PASSPHRASE, cost=CHEAP)
    first.close()
    for moved, expected in ((False, {RUNNING: None}), (True, {RUNNING: 1})):
        target = tmp_path / f"restored {moved}.db"
        restore(tmp_path / "backup", BACKUP_PASSPHRASE, PASSPHRASE, target, moved=moved)
        state = State(target)
        assert Quarantine(state).held() == expected
        state.close()


# ---- while it serves, and in little memory


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_backup_is_one_moment_while_others_write(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    home = make_home(tmp_path / "capsule", _database(request) if kind == "postgresql" else None)
    fill(home)
    stop, written = threading.Event(), 0

    def write() -> None:
        nonlocal written
        while not stop.is_set():
            home.state.delivered(OVER, OWNER, written)
            written += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for number in range(5):
            before = written
            manifest = back_up(home.state, tmp_path / f"{number}", BACKUP_PASSPHRASE, cost=CHEAP)
            assert manifest.rows["audit"] == manifest.audit_length
            while written == before:  # it kept nobody off
                stop.wait(0.01)
    finally:
        stop.set()
        thread.join()
    for number in range(5):
        restore(tmp_path / f"{number}", BACKUP_PASSPHRASE, PASSPHRASE, tmp_path / f"{number}.db")
    home.state.close()


_FLAT = """
    import re, sys
    from pathlib import Path
    from custody import CHEAP, PASSPHRASE
    from capsule.custody.backup import back_up
    from capsule.custody.restoring import restore
    from capsule.state import State

    def megabytes():  # the most that this process ever had; getrusage would begin with its parent's
        return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) >> 10

    directory = Path(sys.argv[1])
    state = State(directory / "capsule" / "capsule.db")
    before = megabytes()
    back_up(state, directory / "backup", "b", cost=CHEAP)
    state.close()
    between = megabytes()
    restore(directory / "backup", "b", PASSPHRASE, directory / "restored.db")
    print(between - before, megabytes() - between)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_database(home: OpenHome, tmp_path: Path) -> None:
    fill(home)
    value = os.urandom(4 << 20)
    with home.state.transaction() as db:
        row = dict(db.execute(select(t.kept).limit(1)).one()._mapping)
        for place in range(1, 33):
            db.execute(t.kept.insert().values(row | {"place": place, "gradient": value}))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", dedent(_FLAT), str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (tmp_path / "backup").stat().st_size > 128 << 20
    grown = [int(number) for number in done.stdout.split()]
    assert max(grown) < 64, "MiB, for 128 MiB of rows"


# ---- the commands


def test_the_commands_take_a_capsule_to_another_home(run: Commands, home: OpenHome, tmp_path: Path) -> None:
    filled = fill(home)
    old, new, file = str(tmp_path / "capsule"), str(tmp_path / "new"), str(tmp_path / "backup")
    own = {"SONAR_CAPSULE_PASSPHRASE": PASSPHRASE}
    done = run("backup", file, "--home", old, SONAR_CAPSULE_PASSPHRASE="mistyped")
    assert (done.returncode, "passphrase does not open" in done.stderr) == (8, True)
    done = run("backup", file, "--home", old, "--json", **own)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["address"].lower() == home.address.lower()
    assert facts["bytes"] == Path(file).stat().st_size
    done = run("restore", file, "--home", old, **own)
    assert (done.returncode, "is a Capsule already" in done.stderr) == (8, True)
    done = run("restore", file, "--home", new, SONAR_CAPSULE_PASSPHRASE="wrong")
    assert (done.returncode, Path(new).exists()) == (8, False)
    assert f"{file} cannot be restored: the Capsule's passphrase does not open this backup: give the" in done.stderr
    done = run("restore", file, "--home", new, "--json", **own)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["audit_head"] == facts["audit_head"]
    assert "held back" in done.stderr
    listed = run("held", "--home", new, "--json")
    assert json.loads(listed.stdout) == [{"campaign": "0x" + RUNNING.hex(), "round": None}]
    for wrong in ("0x12", "nonsense", "ab" * 32):
        assert run("held", "--home", new, "--release", wrong, **own).returncode == 3
    assert run("held", "--home", new, "--release", "0x" + RUNNING.hex()).returncode == 3, "needs the passphrase"
    done = run("held", "--home", new, "--release", "0x" + RUNNING.hex(), "--json", **own)
    assert (done.returncode, json.loads(done.stdout)) == (0, [])
    verified = run("audit", "verify", "--home", new, "--head", facts["audit_head"], **own)
    assert verified.returncode == 0, verified.stderr
    restored = open_home(Path(new), PASSPHRASE)
    assert restored.address == home.address
    assert restored.state.key(filled.keys["round"][0]).secret  # type: ignore[union-attr]
    assert Quarantine(restored.state).held() == {}
    restored.state.close()


def test_a_backup_with_its_own_passphrase_needs_none_of_the_capsules(
    run: Commands, home: OpenHome, tmp_path: Path
) -> None:
    fill(home)
    (tmp_path / "words").write_text(BACKUP_PASSPHRASE + "\n")
    file = str(tmp_path / "backup")
    done = run("backup", file, "--home", str(tmp_path / "capsule"), "--backup-passphrase-file", str(tmp_path / "words"))
    assert done.returncode == 0, done.stderr
    new = str(tmp_path / "new")
    done = run("restore", file, "--home", new, "--moved", SONAR_CAPSULE_PASSPHRASE=PASSPHRASE)
    assert (done.returncode, "does not open this backup" in done.stderr) == (8, True)
    done = run(
        "restore", file, "--home", new, "--moved", SONAR_CAPSULE_PASSPHRASE=PASSPHRASE,
        SONAR_CAPSULE_BACKUP_PASSPHRASE=BACKUP_PASSPHRASE,
    )  # fmt: skip
    assert (done.returncode, "held back" in done.stderr) == (0, False), done.stderr
    assert json.loads(run("held", "--home", new, "--json").stdout) == []
