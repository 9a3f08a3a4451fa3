"""A Capsule's home: what several workers share through the database, and what a home heals or refuses."""

import os
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from custody import PASSPHRASE, cheap_keystores, make_home
from eth_account import Account

import capsule.home
import capsule.state.settings
from capsule.custody.rotation import rotate
from capsule.errors import CapsuleHomeError
from capsule.home import create_home, locked, new_home, open_home, open_state
from capsule.secret.stretching import LEAST, MODERATE
from capsule.serving import _serving
from capsule.state import SERVING, State
from capsule.state.audit import AuditLog
from sonar.syft import MIN_KEY_BITS
from sonar.wallet import load_account


@pytest.fixture(scope="module", autouse=True)
def _cheap_keystores() -> Iterator[None]:
    strong = Account.encrypt
    cheap_keystores()
    yield
    Account.encrypt = strong  # type: ignore[method-assign]


def test_another_worker_needs_the_database_and_the_passphrase_only(tmp_path: Path, postgres_url: str) -> None:
    first = make_home(tmp_path / "one", postgres_url)
    second = open_home(tmp_path / "two", PASSPHRASE, database=postgres_url)
    assert (second.address, second.sealing.public) == (first.address, first.sealing.public)
    assert load_account(tmp_path / "two" / "attester.json", PASSPHRASE).address == first.address
    assert stat.S_IMODE((tmp_path / "two" / "attester.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "two").stat().st_mode) == 0o700
    first.state.close()
    second.state.close()


def test_a_database_that_is_a_capsules_is_never_made_another(tmp_path: Path, postgres_url: str) -> None:
    make_home(tmp_path / "one", postgres_url).state.close()
    with pytest.raises(CapsuleHomeError, match="a Capsule's already"):
        make_home(tmp_path / "two", postgres_url)
    open_home(tmp_path / "one", PASSPHRASE, database=postgres_url).state.close()


def test_the_copy_of_the_keystore_is_made_anew_where_it_is_not_the_databases(tmp_path: Path) -> None:
    make_home(tmp_path).state.close()
    text = (tmp_path / "attester.json").read_text()
    for change in (lambda file: file.unlink(), lambda file: file.write_text("{}")):
        change(tmp_path / "attester.json")
        open_home(tmp_path, PASSPHRASE).state.close()
        assert (tmp_path / "attester.json").read_text() == text
    assert not list(tmp_path.glob(".*part"))


def test_an_interrupted_init_says_what_is_missing_and_what_to_do(tmp_path: Path) -> None:
    State(tmp_path / "capsule.db").close()
    with pytest.raises(CapsuleHomeError, match=r"lacks vault, sealing, attester, key_bits, audit: .* `capsule init`"):
        open_home(tmp_path, PASSPHRASE)


def test_an_init_that_was_killed_anywhere_can_be_run_again(
    tmp_path: Path, request: pytest.FixtureRequest, subtests: pytest.Subtests, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for kind in ("sqlite", "postgresql"):
        database = request.getfixturevalue("postgres_url") if kind == "postgresql" else None
        for place in ("encrypt_keystore", "begin_in", "put"):
            with subtests.test(f"{kind}, before {place}"), monkeypatch.context() as patch:
                where = {"encrypt_keystore": capsule.home, "begin_in": AuditLog, "put": capsule.state.settings}[place]
                patch.setattr(where, place, killed)
                with pytest.raises(KeyboardInterrupt):
                    make_home(tmp_path / kind, database)
        with monkeypatch.context() as patch:
            patch.setattr(capsule.home, "write_keystore", killed)
            with pytest.raises(KeyboardInterrupt):
                make_home(tmp_path / kind, database)
        open_home(tmp_path / kind, PASSPHRASE, database=database).state.close()
        with pytest.raises(CapsuleHomeError, match="Capsule"):
            make_home(tmp_path / kind, database)


def test_only_one_process_serves_a_database_from_whichever_home(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'one' / 'capsule.db'}"
    (tmp_path / "link").symlink_to(tmp_path / "one")
    first = make_home(tmp_path / "one")
    for database in (url, f"sqlite:///{tmp_path / 'link' / 'capsule.db'}"):
        second = open_home(tmp_path / "two", PASSPHRASE, database=database)
        with _serving(first):
            with pytest.raises(CapsuleHomeError, match="by another process"), _serving(second):
                pass
            with pytest.raises(CapsuleHomeError, match="other processes serve"):
                rotate(second, "another", cost=(1, 8192))
        with _serving(second):
            pass
        second.state.close()
    first.state.close()


def test_who_serves_a_database_and_is_killed_leaves_it_to_the_next(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    code = (
        "import sys, time; from pathlib import Path; from capsule.state import SERVING, State\n"
        "state = State(Path(sys.argv[1])); claim = state.claims.try_claim(SERVING, shared=True)\n"
        "print(claim is not None, flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "capsule.db")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        assert home.state.claims.try_claim(SERVING, shared=True) is None
        other.kill()
        other.wait()
    with _serving(home):
        pass
    home.state.close()


def test_a_database_with_two_names_is_refused(tmp_path: Path) -> None:
    make_home(tmp_path / "one").state.close()
    os.link(tmp_path / "one" / "capsule.db", tmp_path / "capsule.db")
    for file in (tmp_path / "one" / "capsule.db", tmp_path / "capsule.db"):
        with pytest.raises(CapsuleHomeError, match="hard links"):
            State(file)
    (tmp_path / "capsule.db").unlink()
    open_home(tmp_path / "one", PASSPHRASE).state.close()


def test_a_directory_without_a_database_is_no_home(tmp_path: Path) -> None:
    with pytest.raises(CapsuleHomeError, match="capsule init"):
        open_state(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_only_init_and_restore_make_a_database(tmp_path: Path, postgres_url: str) -> None:
    with pytest.raises(CapsuleHomeError, match=f"there is no database at {tmp_path}/typo.db"):
        open_home(tmp_path / "home", PASSPHRASE, database=f"sqlite:///{tmp_path}/typo.db")
    assert list(tmp_path.iterdir()) == []
    for migrate in (False, True):
        with pytest.raises(CapsuleHomeError, match=r"is an empty database: .*`capsule init`"):
            open_state(tmp_path, postgres_url, migrate=migrate)
    make_home(tmp_path, postgres_url).state.close()
    open_state(tmp_path, postgres_url, migrate=False).close()


def test_a_home_whose_database_is_elsewhere_says_where_to_name_it(tmp_path: Path, postgres_url: str) -> None:
    make_home(tmp_path, postgres_url).state.close()
    with pytest.raises(CapsuleHomeError, match=r"has a Capsule's account, but no database: set `database`"):
        open_state(tmp_path)


def test_workers_share_a_home_and_who_changes_it_has_it_alone(tmp_path: Path) -> None:
    refused = pytest.raises(CapsuleHomeError, match="another process serves")
    with locked(tmp_path, shared=True), locked(tmp_path, shared=True), refused, locked(tmp_path):
        pass
    with locked(tmp_path), refused, locked(tmp_path, shared=True):
        pass


def test_a_directory_made_for_what_failed_goes_again_and_another_stays(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name, stays in (("made", False), ("there", True)):
        with pytest.raises(RuntimeError), new_home(tmp_path / name):
            raise RuntimeError
        assert (tmp_path / name).exists() == stays


def test_only_keys_that_anyone_can_factor_are_guarded_by_a_passphrase_that_is_quickly_tried(tmp_path: Path) -> None:
    costs = {}
    for bits in (512, MIN_KEY_BITS):
        home = create_home(tmp_path / str(bits), PASSPHRASE, bits, allow_insecure_small_key=True)
        costs[bits] = struct.unpack(">IQ", home.vault.header[-36:-24])
        home.state.close()
    assert costs == {512: LEAST, MIN_KEY_BITS: MODERATE}
