"""The mine's account: a keystore or a signing service; a bare key on development chains alone."""

import json
from functools import partial

import pytest
from click.testing import CliRunner
from eth_account import Account

from mine.cli import main
from mine.home import Home
from mine.wallet import DEVELOPMENT_CHAINS
from sonar.errors import ConfigError
from sonar.wallet import create_key_file, encrypt_keystore

KEY = Account.create()
MAINNET, GANACHE = 1, 1337


@pytest.fixture
def home(tmp_path):
    place = Home(tmp_path / "mine")
    place.create()
    return place


def test_a_bare_key_is_taken_on_development_chains_and_refused_elsewhere(home):
    account = create_key_file(home.account_file)
    for chain in DEVELOPMENT_CHAINS:
        assert home.account(chain).address == account.address
    with pytest.raises(ConfigError, match=r"development chains only, and chain 1 is none.*mine encrypt") as refused:
        home.account(MAINNET)
    assert bytes(account.key).hex() not in str(refused.value)


def test_a_keystore_is_taken_on_every_chain_and_its_address_takes_no_passphrase(home, monkeypatch):
    home.account_file.write_text(encrypt_keystore(KEY, "words", insecure_fast=True))
    assert home.address() == KEY.address
    monkeypatch.setenv("SONAR_PASSPHRASE", "words")
    assert home.account(MAINNET).address == KEY.address


def test_the_passphrase_may_be_in_a_file_that_the_environment_names(home, tmp_path, monkeypatch):
    home.account_file.write_text(encrypt_keystore(KEY, "words", insecure_fast=True))
    (tmp_path / "passphrase").write_text("words\nand a note\n")
    monkeypatch.setenv("SONAR_PASSPHRASE_FILE", str(tmp_path / "passphrase"))
    assert home.account(MAINNET).address == KEY.address


def test_a_new_account_takes_its_passphrase_from_the_file_too(tmp_path, monkeypatch):
    (tmp_path / "passphrase").write_text("wörter\r\nand a note\n")
    monkeypatch.setenv("SONAR_PASSPHRASE_FILE", str(tmp_path / "passphrase"))
    monkeypatch.setattr("sonar.wallet.encrypt_keystore", partial(encrypt_keystore, insecure_fast=True))
    done = CliRunner().invoke(main, ["init", "--home", str(tmp_path / "mine")])
    assert done.exit_code == 0, done.stderr
    assert Home(tmp_path / "mine").account(MAINNET).address == done.stdout.strip()
    monkeypatch.delenv("SONAR_PASSPHRASE_FILE")
    monkeypatch.setenv("SONAR_PASSPHRASE", "wörter")
    assert Home(tmp_path / "mine").account(MAINNET).address == done.stdout.strip()


@pytest.mark.parametrize(("content", "says"), [(None, "No such file"), (b"\xff\xfe\n", "UTF-8")])
def test_a_passphrase_file_that_cannot_be_read_is_told_without_what_is_in_it(tmp_path, monkeypatch, content, says):
    file = tmp_path / "passphrase"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("SONAR_PASSPHRASE_FILE", str(file))
    done = CliRunner().invoke(main, ["init", "--home", str(tmp_path / "mine")])
    assert done.exit_code == 3
    assert f"the passphrase file {file}" in done.stderr
    assert says in done.stderr
    assert not (tmp_path / "mine" / "account.key").exists()


def test_a_bare_key_is_put_under_a_passphrase_in_its_place(home, monkeypatch):
    account = create_key_file(home.account_file)
    monkeypatch.setenv("SONAR_PASSPHRASE", "words")
    done = CliRunner().invoke(main, ["encrypt", "--home", str(home.path)])
    assert (done.exit_code, done.stdout.strip()) == (0, account.address)
    text = home.account_file.read_text()
    assert bytes(account.key).hex() not in text
    assert home.account_file.stat().st_mode & 0o777 == 0o600
    assert home.account(MAINNET).address == account.address
    assert [path.name for path in home.path.iterdir()] == ["account.key"], "no copy is left"
    again = CliRunner().invoke(main, ["encrypt", "--home", str(home.path)])
    assert again.exit_code == 3
    assert "no bare key" in again.stderr


def test_init_remembers_a_signing_service_and_no_secret(home):
    done = CliRunner().invoke(
        main, ["init", "--home", str(home.path), "--signer", "http://127.0.0.1:9000", "--address", KEY.address]
    )
    assert done.exit_code == 0, done.stderr
    assert home.address() == home.account(MAINNET).address == KEY.address
    assert json.loads(home.wallet.signer_file.read_text()) == {"url": "http://127.0.0.1:9000", "address": KEY.address}
    assert not home.account_file.exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--signer", "http://127.0.0.1:9000"], "together"),
        (["--signer", "http://127.0.0.1:9000", "--address", KEY.address, "--no-passphrase"], "no key beside"),
        (["--signer", "http://signer.example", "--address", KEY.address], "another machine"),
        (["--signer", "http://127.0.0.1:9000", "--address", "0x12"], "0x12"),
    ],
)
def test_init_refuses_a_signing_service_that_cannot_be_used(home, options, says):
    done = CliRunner().invoke(main, ["init", "--home", str(home.path), *options])
    assert done.exit_code == 3
    assert says in done.stderr
    assert not home.wallet.exists


def test_an_account_is_never_replaced(home):
    create_key_file(home.account_file)
    with pytest.raises(ConfigError, match="never replaced"):
        home.wallet.use_signer("http://127.0.0.1:9000", KEY.address)


@pytest.mark.parametrize("text", ["{}", "not json", '{"url": "http://127.0.0.1", "address": "0x12"}', "[" * 9999])
def test_a_spoilt_signer_file_is_told(home, text):
    home.wallet.signer_file.write_text(text)
    with pytest.raises(ConfigError, match=r"signer\.json"):
        home.account(MAINNET)
