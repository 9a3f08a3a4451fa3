"""Accounts on disk: never overwritten, never readable by others, never quoted."""

import json
import os
import threading
import time

import pytest
from eth_account import Account

from sonar import wallet
from sonar.errors import ConfigError
from sonar.wallet import create_key_file, create_keystore, load_account

PASSPHRASE = "correct horse battery"
KEY = "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318"


@pytest.fixture(scope="module")
def keystore(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "deep" / "owner.json"
    return path, create_keystore(path, PASSPHRASE)


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "owner.key"
    path.write_text(f"0x{KEY}\n")
    path.chmod(0o600)
    return path


@pytest.fixture(autouse=True)
def _no_passphrase(monkeypatch):
    monkeypatch.delenv("SONAR_PASSPHRASE", raising=False)


def test_a_keystore_opens_with_its_passphrase(keystore):
    path, account = keystore
    assert load_account(path, PASSPHRASE).address == account.address
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(item.name for item in path.parent.iterdir()) == [path.name]


def test_a_keystore_is_the_standard_kind(keystore):
    path, account = keystore
    stored = json.loads(path.read_text())
    assert (stored["version"], stored["crypto"]["kdf"]) == (3, "scrypt")
    assert Account.from_key(Account.decrypt(stored, PASSPHRASE)).address == account.address


def test_the_passphrase_comes_from_the_environment_when_not_given(keystore, monkeypatch):
    path, account = keystore
    monkeypatch.setenv("SONAR_PASSPHRASE", PASSPHRASE)
    assert load_account(path).address == account.address


def test_a_wrong_passphrase_is_an_error_that_holds_no_secret(keystore):
    path, _ = keystore
    with pytest.raises(ConfigError, match="does not open the keystore") as caught:
        load_account(path, "wrong guess")
    assert "wrong guess" not in str(caught.value)


def test_without_a_terminal_a_missing_passphrase_is_an_error(keystore, monkeypatch):
    path, _ = keystore
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: SIM115, PTH123
    with pytest.raises(ConfigError, match="set SONAR_PASSPHRASE"):
        load_account(path)
    wallet.sys.stdin.close()


def test_an_existing_file_is_never_overwritten(keystore, key_file, tmp_path):
    path, _ = keystore
    for taken in (path, key_file):
        before = taken.read_bytes()
        with pytest.raises(ConfigError, match="never overwritten"):
            create_keystore(taken, PASSPHRASE)
        with pytest.raises(ConfigError, match="never overwritten"):
            create_key_file(taken)
        assert taken.read_bytes() == before
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="never overwritten"):
        create_key_file(link)


def test_two_that_create_the_same_file_at_once_leave_one_key(tmp_path):
    path = tmp_path / "shared.key"
    made, refused = [], []

    def create():
        try:
            made.append(create_key_file(path).address)
        except ConfigError as error:
            refused.append(error)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (len(made), len(refused)) == (1, 7)
    assert load_account(path).address == made[0]
    assert [item.name for item in tmp_path.iterdir()] == ["shared.key"]


def test_an_empty_passphrase_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="empty passphrase"):
        create_keystore(tmp_path / "k", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", [KEY, f"0x{KEY}", f"  0x{KEY.upper()}\n\n"])
def test_a_raw_key_file_loads(tmp_path, text):
    path = tmp_path / "raw"
    path.write_text(text.replace("0X", "0x"))
    path.chmod(0o600)
    assert load_account(path).address == Account.from_key(KEY).address


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_raw_key_that_others_can_read_is_refused(key_file, mode):
    key_file.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600") as caught:
        load_account(key_file)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", KEY[:-1].encode(), KEY.encode() + b"00", b"\xff\xfe", b"0" * 64, b"f" * 64, b"x" * 70_000],
    ids=["empty", "text", "short", "long", "binary", "zero", "above the order", "huge"],
)
def test_a_file_that_is_no_key_is_an_error_that_does_not_quote_it(tmp_path, content):
    path = tmp_path / "bad"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError) as caught:
        load_account(path)
    if len(content) > 4:
        assert content[:20].decode("latin-1") not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    ["{", "{}", '{"version": 1}', '{"version": 3, "crypto": {}}', '{"version": 3, "crypto": 7}', '{"crypto": null}'],
)
def test_a_broken_keystore_is_an_error(tmp_path, content):
    path = tmp_path / "broken.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match="keystore"):
        load_account(path, PASSPHRASE)


@pytest.mark.parametrize(("field", "value"), [("prf", None), ("prf", ""), ("c", 10**30), ("salt", 5)])
def test_a_keystore_with_a_broken_parameter_is_an_error(tmp_path, field, value):
    keystore = Account.encrypt(KEY, PASSPHRASE, kdf="pbkdf2", iterations=10)
    keystore["crypto"]["kdfparams"][field] = value
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(keystore))
    with pytest.raises(ConfigError, match="keystore"):
        load_account(path, PASSPHRASE)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="no account file at"):
        load_account(tmp_path / "none")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_account(tmp_path)


def test_no_secret_is_in_an_accounts_text(key_file):
    account = load_account(key_file)
    assert KEY not in repr(account)
    assert KEY not in str(account)


@pytest.mark.parametrize(
    ("kdf", "field", "value"),
    [("scrypt", "dklen", 2**31), ("scrypt", "n", 2**40), ("scrypt", "r", 2**20), ("scrypt", "p", 2**30),
     ("scrypt", "p", 64), ("pbkdf2", "c", 2**31), ("pbkdf2", "dklen", 2**31)],
)  # fmt: skip
def test_a_keystore_that_would_take_hours_or_all_memory_is_refused_at_once(tmp_path, kdf, field, value):
    keystore = Account.encrypt(KEY, PASSPHRASE, kdf=kdf, iterations=2**18 if field == "p" else 2)
    keystore["Crypto"] = keystore.pop("crypto")
    keystore["Crypto"]["kdfparams"][field] = value
    path = tmp_path / "hostile"
    path.write_text(json.dumps(keystore))
    started = time.process_time()
    with pytest.raises(ConfigError, match="keystore"):
        load_account(path, PASSPHRASE)
    assert time.process_time() - started < 1


def test_a_keystore_with_capital_names_opens(tmp_path):
    keystore = Account.encrypt(KEY, PASSPHRASE, iterations=2)
    keystore["Crypto"] = keystore.pop("crypto")
    path = tmp_path / "capital"
    path.write_text(json.dumps(keystore))
    assert load_account(path, PASSPHRASE).key.hex() == KEY


def test_a_keystore_is_stretched_unless_it_is_asked_not_to_be():
    account = Account.create()
    usual = json.loads(wallet.encrypt_keystore(account, "x"))["crypto"]["kdf"]
    fast = json.loads(wallet.encrypt_keystore(account, "x", insecure_fast=True))["crypto"]["kdf"]
    assert (usual, fast) == ("scrypt", "pbkdf2")
