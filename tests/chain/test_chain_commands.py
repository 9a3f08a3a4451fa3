"""`sonar deploy`, `campaigns` and `stats`: mistakes cost nothing, and amounts of different coins are not added up."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from sonar import overview
from sonar.chain.cursor import EventCursor
from sonar.chain.events import CampaignCreated
from sonar.cli import main
from sonar.config import Network
from sonar.wallet import create_key_file

CAPSULE = "0x" + "ca" * 20
TOKEN = "0x" + "70" * 20


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs `sonar` in a directory of its own."""
    monkeypatch.setenv("SONAR_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main, arguments)


@pytest.fixture
def payer(tmp_path, funder):
    """The file of an account with ten ether."""
    path = tmp_path / "payer.key"
    funder(create_key_file(path).address, 10**19)
    return str(path)


def test_deploy_writes_the_network_file_that_clients_read(run, payer, chain_url, tmp_path):
    result = run("deploy", "--rpc-url", chain_url, "--account", payer, "--store", "directory:here", "--capsule",
                 CAPSULE, "--json")  # fmt: skip
    assert result.exit_code == 0, result.output
    network = Network.load(tmp_path / "home" / "network.json")
    said = json.loads(result.stdout)
    assert said.pop("network_file") == str(tmp_path / "home" / "network.json")
    assert said == network.model_dump(mode="json")
    assert network.store == f"directory:{tmp_path / 'here'}"
    assert (network.capsule, network.start_block > 0) == (CAPSULE, True)
    assert "lacks capsule_url, which data scientists need" in result.stderr
    other = str(tmp_path / "other.json")
    options = ("--rpc-url", chain_url, "--account", payer, "--store", "memory:", "--network", other)
    assert f"{other} lacks capsule and capsule_url" in run("deploy", *options).stderr
    assert run("campaigns").exit_code == 0
    again = run("deploy", "--rpc-url", chain_url, "--account", payer, "--store", "memory:")
    assert (again.exit_code, "holds a network already" in again.stderr) == (3, True)


@pytest.mark.parametrize(
    ("option", "value"),
    [("--store", "nowhere"), ("--capsule", "0x12"), ("--capsule-url", "capsule.example"), ("--rpc-url", "localhost")],
)
def test_deploy_refuses_a_bad_option_before_it_pays(run, payer, chain_url, option, value, monkeypatch):
    monkeypatch.setattr("sonar.chain.once.deploy_once", lambda *_, **__: pytest.fail("deployed"))
    options = {"--rpc-url": chain_url, "--account": payer, "--store": "memory:", option: value}
    result = run("deploy", *(word for pair in options.items() for word in pair))
    assert result.exit_code == 3
    assert value in result.stderr


def test_deploy_to_an_address_that_does_not_answer_keeps_its_path_secret(run, payer):
    result = run("deploy", "--rpc-url", "http://127.0.0.1:9/v3/secret", "--account", payer, "--store", "memory:")
    assert (result.exit_code, "secret" in result.stderr) == (4, False)
    assert "does not answer" in result.stderr


def test_a_network_file_that_cannot_be_written_is_shown_instead(tmp_path):
    (tmp_path / "file").write_text("")
    network = Network(rpc_url="http://127.0.0.1:1", chain_id=1, contract=CAPSULE, store="memory:")
    with pytest.raises(Exception, match=rf"(?s)cannot be written.*{CAPSULE}") as caught:
        network.save(tmp_path / "file" / "network.json")
    assert type(caught.value).__name__ == "ConfigError"


def test_a_directory_that_cannot_be_made_is_an_error_in_one_line(run, tmp_path):
    (tmp_path / "file").write_text("")
    options = ("--chain", "embedded", "--store", "directory", "--rpc-port", "0", "--capsule-port", "0")
    result = run("devnet", "--home", "file/below", *options)
    assert result.exit_code == 3
    place = tmp_path / "file" / "below"
    assert result.stderr == f"Error: {place} cannot hold a network: Not a directory: choose another with --home\n"


def test_native_bounties_are_summed_up_and_those_of_tokens_only_listed(stage, mines, deployed, monkeypatch):
    campaign = stage(min_mines=1, round_size=1)
    (mine,) = mines(1)
    campaign.submit(mine, "a")
    entries = [campaign.entry(mine.account.address, "a")]
    campaign.settle(mine, campaign.settlement(entries, 200_000), entries)
    native = overview.totals(campaign.owner, deployed.block)
    assert (native["campaigns"], native["rounds_advanced"], native["kept"]) == (1, 1, 1)
    assert (native["bounty_wei"], native["paid_wei"]) == (10**18, 10**18 // 8)
    assert [row["token"] for row in overview.campaign_rows(campaign.owner, deployed.block)] == [None]

    real = EventCursor.read

    def in_tokens(cursor):
        return [
            replace(event, terms=replace(event.terms, token=TOKEN)) if isinstance(event, CampaignCreated) else event
            for event in real(cursor)
        ]

    monkeypatch.setattr(EventCursor, "read", in_tokens)
    assert overview.totals(campaign.owner, deployed.block) == native | {"bounty_wei": 0, "paid_wei": 0}


def test_the_list_shows_a_tokens_amounts_in_its_smallest_unit(run, monkeypatch):
    row = {"id": "0x1", "status": "running", "score_ppm": 1, "target_ppm": 2, "bounty_wei": 5 * 10**17, "paid_wei": 7,
           "deadline": 2**60, "pending_owner": None}  # fmt: skip
    monkeypatch.setattr("sonar.cli._connect", lambda _: (None, 0))
    odd = row | {"token": None, "paid_wei": 123_456_789_012_345_678}
    monkeypatch.setattr(overview, "campaign_rows", lambda *_: [row | {"token": None}, row | {"token": TOKEN}, odd])
    first, second, third = run("campaigns").stdout.splitlines()
    assert first.endswith("bounty 0.5  paid 0.000000000000000007 ether")
    assert third.endswith("bounty 0.5  paid 0.123456 ether")
    assert second.endswith(f"bounty 500000000000000000  paid 7 of token {TOKEN}")


def test_the_list_tells_of_a_deadline_that_has_passed_while_the_campaign_was_not_closed(run, monkeypatch):
    row = {"id": "0x1", "score_ppm": 1, "target_ppm": 2, "bounty_wei": 5, "paid_wei": 0, "pending_owner": None,
           "token": None}  # fmt: skip
    told = [("running", 2**60), ("running", 1), ("closed", 1)]
    rows = [row | {"status": status, "deadline": deadline} for status, deadline in told]
    monkeypatch.setattr("sonar.cli._connect", lambda _: (None, 0))
    monkeypatch.setattr(overview, "campaign_rows", lambda *_: rows)
    states = [line.split("  ")[1].strip() for line in run("campaigns").stdout.splitlines()]
    assert states == ["running", "past its deadline", "closed"]


def test_the_network_file_is_looked_for_below_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("SONAR_HOME", str(tmp_path))
    monkeypatch.delenv("SONAR_NETWORK", raising=False)
    with pytest.raises(Exception, match=str(Path(tmp_path) / "network.json")):
        Network.load()
