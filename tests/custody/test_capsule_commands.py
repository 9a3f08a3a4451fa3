"""What the operator's commands print, and what they refuse, in the words that are on the terminal."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from capsule.cli import main
from capsule.custody.quarantine import hold
from capsule.home import create_home, open_home
from capsule.secret.stretching import INTERACTIVE
from capsule.state import Told
from sonar.units import CampaignId

PASSPHRASE = "correct horse"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = create_home(tmp_path / "home", PASSPHRASE, 512, cost=INTERACTIVE, allow_insecure_small_key=True)
    made.state.close()
    return tmp_path / "home"


@pytest.fixture
def capsule(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    def run(*arguments: str, passphrase: str | None = PASSPHRASE) -> Result:
        if passphrase is not None:
            monkeypatch.setenv("SONAR_CAPSULE_PASSPHRASE", passphrase)
        return CliRunner().invoke(main, list(arguments))

    return run


def test_a_mistyped_database_is_refused_and_not_made(capsule: Callable[..., Result], home: Path) -> None:
    for command in (["campaigns"], ["audit", "show"], ["backup", str(home / "backup")], ["held"], ["keys", "list"]):
        result = capsule(*command, "--home", str(home), "--database", f"sqlite:///{home}/typo.db")
        assert result.exit_code != 0
        assert f"there is no database at {home}/typo.db" in result.stderr
    assert not list(home.glob("typo*"))


def test_init_says_how_the_other_commands_find_its_database(capsule: Callable[..., Result], tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/elsewhere.db"
    made = capsule(
        "init", "--home", str(tmp_path / "home"), "--database", url, "--key-bits", "512", "--allow-insecure-small-key"
    )
    assert made.exit_code == 0
    file = tmp_path / "home" / "capsule.toml"
    assert str(file) in made.stderr
    assert "no database: set `database`" in capsule("campaigns", "--home", str(tmp_path / "home")).stderr
    (line,) = [line for line in made.stderr.splitlines() if line.startswith("database = ")]
    file.write_text(line)
    assert capsule("campaigns", "--home", str(tmp_path / "home")).exit_code == 0


def test_restoring_into_another_database_says_where_it_is_and_who_serves_it(
    capsule: Callable[..., Result], home: Path, tmp_path: Path
) -> None:
    assert capsule("backup", str(tmp_path / "backup"), "--home", str(home)).exit_code == 0
    url, other = f"sqlite:///{tmp_path}/elsewhere.db", tmp_path / "other"
    restored = capsule("restore", str(tmp_path / "backup"), "--moved", "--home", str(other), "--database", url)
    assert restored.exit_code == 0
    assert f"database      {url}" in restored.stdout
    assert "home " not in restored.stdout
    assert f"have {other}/capsule.toml name this database" in restored.stderr
    assert "or name the database if a server has it" in capsule("campaigns", "--home", str(other)).stderr
    other.mkdir()
    (other / "capsule.toml").write_text(f'database = "{url}"\n')
    assert capsule("campaigns", "--home", str(other)).exit_code == 0


def test_only_what_is_held_is_released_and_both_are_said(capsule: Callable[..., Result], home: Path) -> None:
    assert "nothing is held" in capsule("held", "--home", str(home), passphrase=None).stderr
    running, over = CampaignId(b"r" * 32), CampaignId(b"o" * 32)
    state = open_home(home, PASSPHRASE).state
    assert state.follow(Told(9, created=((running, 1), (over, 1)), over=((over, 2),)), None)
    with state.transaction() as db:
        hold(db, [running, over], 0.0)
    state.close()
    listed = capsule("held", "--home", str(home)).stdout.splitlines()
    assert listed == [f"0x{running.hex()}  not seen yet"]
    refused = capsule("held", "--home", str(home), "--release", over.hex())
    assert (refused.exit_code, f"0x{over.hex()} is not held" in refused.stderr) == (3, True)
    done = capsule("held", "--home", str(home), "--release", running.hex())
    assert done.exit_code == 0
    assert f"released: the round of 0x{running.hex()}" in done.stderr
    assert "nothing is held" in done.stderr
    log = capsule("audit", "show", "--home", str(home)).stdout
    assert log.count("released") == 1


def test_what_is_held_fast_of_the_chain_is_forgotten_with_the_passphrase_and_the_log_tells_of_it(
    capsule: Callable[..., Result], home: Path
) -> None:
    nothing = capsule("forget-chain", "--home", str(home))
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    assert "nothing of the chain is held fast" in nothing.stderr
    anchor = {"block": "ab" * 32, "code": "cd" * 32, "number": 7}
    state = open_home(home, PASSPHRASE).state
    state.set_told("chain", json.dumps(anchor).encode(), "chain", **anchor)
    state.close()
    assert capsule("forget-chain", "--home", str(home), passphrase=None).exit_code != 0
    done = capsule("forget-chain", "--home", str(home), "--json")
    assert json.loads(done.stdout) == anchor
    assert "chain forgotten" in capsule("audit", "show", "--home", str(home)).stdout
    assert capsule("forget-chain", "--home", str(home)).stdout == ""
    assert capsule("audit", "verify", "--home", str(home)).exit_code == 0
