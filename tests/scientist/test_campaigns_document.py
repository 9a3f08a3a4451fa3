"""The code, commands and policies in docs/campaigns.md are run as they stand."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from eth_account import Account

import pysonar
from mine.policy import Policy
from sonar.chain.committee import deploy_committee
from sonar.cli import main
from sonar.protocol.spec import Payout, Rounds, Spec

DOCUMENT = Path(__file__).parents[2] / "docs" / "campaigns.md"


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", DOCUMENT.read_text(), flags=re.DOTALL)


def commands() -> list[list[str]]:
    """The document's `sonar` commands, which stand between backquotes."""
    found = re.findall(r"`sonar ((?:top-up|transfer|accept|campaigns|committee)[^`]*)`", DOCUMENT.read_text())
    return [line.split() for line in found]


@pytest.fixture
def shell(tmp_path, monkeypatch, stage):
    """Runs `sonar` on the stage's network as an account; gives what it prints."""
    monkeypatch.setenv("SONAR_HOME", str(tmp_path))
    monkeypatch.setenv("SONAR_NETWORK", str(stage.network.save(tmp_path / "network.json")))

    def run(words, account):
        key = tmp_path / "account.key"
        key.write_text(bytes(account.key).hex())
        key.chmod(0o600)
        monkeypatch.setenv("SONAR_ACCOUNT", str(key))
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


def test_the_table_of_defaults_is_what_the_spec_says():
    rows = re.findall(r"^\| `([a-z_.]+)` \| (\S+) \|", DOCUMENT.read_text(), flags=re.MULTILINE)
    fields = {"min_records": Spec.model_fields["min_records"].default}
    for group, model in (("rounds", Rounds), ("payout", Payout)):
        fields |= {f"{group}.{name}": field.default for name, field in model.model_fields.items() if name != "target"}
    assert dict(rows) == {name: str(default) for name, default in fields.items()}


def test_the_code_of_the_document_runs_and_holds_what_it_asserts(stage, new_token):
    heir = stage.session(stage.new_account())
    features, labels = stage.validation
    scope = {
        "pysonar": pysonar,
        "sonar": stage.session(),
        "their_sonar": heir,
        "OTHER": heir.address,
        "TOKEN": new_token("HonestToken", {stage.owner.address: 600_000}).address,
        "X_val": features,
        "y_val": labels,
    }
    for code in blocks("python"):
        exec(compile(code, DOCUMENT.name, "exec"), scope)
    assert scope["campaign"].record.owner == heir.address


def test_the_commands_of_the_document_run_in_their_order(stage, shell):
    campaign, heir = stage.campaign(), stage.new_account()
    committee = deploy_committee(stage.client_for(None).web3, stage.owner, [Account.create().address], 1)
    names = {"CAMPAIGN": campaign.id.hex(), "AMOUNT": "0.5", "OTHER": heir.address, "COMMITTEE": committee.address}
    said = {}
    for words in commands():
        account = heir if words[0] == "accept" else stage.owner
        if words == ["transfer", "CAMPAIGN", "nobody"]:
            account = heir
        said[tuple(words)] = shell([names.get(word, word) for word in words], account)
    assert list(said) == [
        ("top-up", "CAMPAIGN", "AMOUNT"),
        ("transfer", "CAMPAIGN", "OTHER"),
        ("accept", "CAMPAIGN"),
        ("transfer", "CAMPAIGN", "nobody"),
        ("campaigns",),
        ("committee", "COMMITTEE"),
    ]
    assert campaign.record.owner == heir.address
    assert "bounty 1.5 ether" in said["top-up", "CAMPAIGN", "AMOUNT"]


def test_the_policies_of_the_document_are_policies(tmp_path):
    for number, text in enumerate(blocks("toml")):
        for name in ("TOKEN", "COMMITTEE", "MEMBER1", "MEMBER2", "MEMBER3"):
            text = text.replace(name, Account.create().address)
        (tmp_path / f"{number}.toml").write_text(text)
        assert Policy.load(tmp_path / f"{number}.toml") != Policy()
    assert number == 1
