"""`capsule audit`: what it prints of the log, and with which words and exit code it refuses one that was changed."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import create_engine, update
from stored import spare, unsealed

from capsule.cli import main
from capsule.home import create_home
from capsule.secret.stretching import INTERACTIVE
from capsule.state import tables as t
from sonar.units import Address, KeyId

PASSPHRASE = "correct horse"
OWNER = Address("0x00000000000000000000000000000000000000AA")
KEY = KeyId(b"k" * 32)
CAMPAIGN = "c" * 64


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = create_home(tmp_path / "home", PASSPHRASE, 512, cost=INTERACTIVE, allow_insecure_small_key=True)
    made.state.add_key(spare(KEY))
    assert made.state.claim_key("issued", OWNER, 2.0, reseal=unsealed) is not None
    with made.state.transaction() as db:
        made.state.audit.append(db, "final", {"campaign": bytes.fromhex(CAMPAIGN), "round": 0})
        made.state.audit.append(db, "final", {"campaign": bytes.fromhex(CAMPAIGN), "round": 1})
    made.state.close()
    return tmp_path / "home"


@pytest.fixture
def capsule(home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    def run(*arguments: str, passphrase: str | None = PASSPHRASE) -> Result:
        if passphrase is not None:
            monkeypatch.setenv("SONAR_CAPSULE_PASSPHRASE", passphrase)
        return CliRunner().invoke(main, ["audit", *arguments, "--home", str(home)])

    return run


def test_the_log_is_shown_a_line_an_entry_without_a_passphrase(capsule: Callable[..., Result]) -> None:
    result = capsule("show", passphrase=None)
    assert result.exit_code == 0
    first, second, third = result.stdout.splitlines()
    assert first.split()[0] == "1"
    assert first.endswith(f"key  account={OWNER}  key=0x{KEY.hex()}  use=issued")
    assert second.endswith(f"final  campaign=0x{CAMPAIGN}  round=0")
    assert third.endswith("round=1")


def test_the_log_is_shown_for_machines_of_one_campaign_and_the_newest_only(capsule: Callable[..., Result]) -> None:
    shown = json.loads(capsule("show", "--json", "--campaign", "0x" + CAMPAIGN).stdout)
    assert [entry["sequence"] for entry in shown] == [2, 3]
    assert shown[0]["body"] == {"campaign": CAMPAIGN, "round": 0}
    assert shown[0]["time"].endswith("Z")
    assert [entry["sequence"] for entry in json.loads(capsule("show", "--json", "--last", "1").stdout)] == [3]


def test_a_log_that_holds_is_verified_with_its_head_and_against_one_noted_before(
    capsule: Callable[..., Result],
) -> None:
    result = capsule("verify", "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["entries"] == 3
    assert capsule("verify", "--head", found["head"]).exit_code == 0
    other = capsule("verify", "--head", "ab" * 32)
    assert other.exit_code == 8
    assert "entry 3: the log ends here, and the noted head" in other.stderr
    assert "put back or exchanged" in other.stderr
    assert capsule("verify", "--head", "ab").exit_code == 2


def test_a_changed_entry_is_named_and_its_control_characters_do_not_reach_the_terminal(
    capsule: Callable[..., Result], home: Path
) -> None:
    engine = create_engine(f"sqlite:///{home / 'capsule.db'}")
    with engine.begin() as db:
        db.execute(update(t.audit).where(t.audit.c.sequence == 2).values(body="\x1b[2J", kind="\x9b2J", time=2**62))
    engine.dispose()
    result = capsule("verify")
    assert result.exit_code == 8
    assert result.stderr.startswith("Error: entry 2: the entry was changed")
    shown = capsule("show")
    assert shown.exit_code == 0
    assert not {"\x1b", "\x9b"} & set(shown.stdout)


def test_a_wrong_passphrase_is_told(capsule: Callable[..., Result]) -> None:
    assert capsule("verify", passphrase="wrong").exit_code == 8
