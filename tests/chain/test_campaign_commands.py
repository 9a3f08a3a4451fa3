"""`sonar top-up`, `transfer`, `accept` and `committee`, and what `campaigns` and `stats` tell of them."""

import json

import pytest
from click.testing import CliRunner
from eth_account import Account

from mine.policy import Policy
from sonar.chain.committee import deploy_committee
from sonar.chain.token import Token, ensure_allowance
from sonar.cli import main
from sonar.config import Network
from sonar.units import Address, Wei, ether

MISTYPED = "0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"


@pytest.fixture
def run(tmp_path, monkeypatch, chain_url, client_for, deployed):
    """Runs `sonar` on the chain's network as an account; gives its result."""
    monkeypatch.setenv("SONAR_HOME", str(tmp_path))
    monkeypatch.delenv("SONAR_NETWORK", raising=False)
    monkeypatch.delenv("SONAR_ACCOUNT", raising=False)
    chain = client_for(None).chain_id
    Network(
        rpc_url=chain_url, chain_id=chain, contract=deployed.address, start_block=deployed.block, store="memory:"
    ).save()

    def invoke(*arguments, by=None):
        more = [] if by is None else ["--account", str(key_file(tmp_path, by))]
        return CliRunner().invoke(main, [*arguments, *more])

    return invoke


def key_file(folder, client):
    path = folder / f"{client.account.address}.key"
    path.write_text(bytes(client.account.key).hex())
    path.chmod(0o600)
    return path


def done(result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_campaign_is_topped_up_in_ether_by_anybody(run, stage, mines):
    campaign, (friend,) = stage(), mines(1)
    name = "0x" + campaign.id.hex()
    first = run("top-up", name, "0.25", by=friend)
    assert done(first) == f"{name}  bounty 1.25 ether\n"
    assert first.stderr == f"adding 250000000000000000 wei (0.25 ether) to campaign {name}\n"
    told = json.loads(done(run("top-up", name.removeprefix("0x"), "1", "--json", by=friend)))
    assert told.pop("transaction").startswith("0x")
    assert told == {"campaign": name, "token": None, "added_wei": ether(1), "bounty_wei": ether("2.25")}
    assert campaign.owner.campaign(campaign.id).terms.bounty == ether("2.25")
    assert "bounty 2.25  paid 0 ether" in done(run("campaigns"))
    assert json.loads(done(run("stats", "--json")))["bounty_wei"] == ether("2.25")


def test_a_campaign_in_tokens_is_topped_up_in_their_smallest_unit(run, stage, play, new_token, client_for, new_account):
    owner = client_for(new_account())
    token = Address(new_token("HonestToken", {owner.account.address: 1_200}).address)
    ensure_allowance(owner, token, Wei(1_000))
    campaign = play(owner, Account.create(), token=token, bounty=Wei(1_000))
    native = stage()
    name = "0x" + campaign.id.hex()
    for wrong in ("0.5", "1e3", "٣"):
        refused = run("top-up", name, wrong, by=owner)
        assert (refused.exit_code, "is not a whole number" in refused.stderr) == (3, True)
    for huge in (str(2**128), "9" * 5000):
        refused = run("top-up", name, huge, by=owner)
        assert (refused.exit_code, f"is above 2^128 - 1 smallest units of token {token}" in refused.stderr) == (3, True)
    added = run("top-up", name, "150", by=owner)
    assert done(added) == f"{name}  bounty 1150 of token {token}\n"
    assert added.stderr == f"adding 150 smallest units of token {token} to campaign {name}\n"
    short = run("top-up", name, "51", by=owner)
    assert (short.exit_code, f"holds 50 of token {token}, but 51 is needed" in short.stderr) == (4, True)
    assert Token(owner, token).allowance(Address(owner.account.address)) == 0
    assert json.loads(done(run("stats", "--json")))["bounty_wei"] == native.terms.bounty


def test_a_campaign_is_offered_shown_taken_back_and_accepted(run, stage, mines):
    campaign, (heir,) = stage(), mines(1)
    owner, name = campaign.owner, "0x" + campaign.id.hex()
    to = heir.account.address
    assert done(run("transfer", name, to.lower(), by=owner)) == f"{name}  offered to {to}\n"
    assert done(run("campaigns")).endswith(f"  offered to {to}\n")
    assert done(run("transfer", name, "nobody", by=owner)) == f"{name}  offered to nobody\n"
    assert "offered" not in done(run("campaigns"))
    refused = run("accept", name, by=heir)
    assert (refused.exit_code, f"is offered to nobody, not to {to}: ask its owner" in refused.stderr) == (4, True)
    told = json.loads(done(run("transfer", name, to, "--json", by=owner)))
    assert (told["campaign"], told["pending_owner"]) == (name, to)
    assert done(run("accept", name, by=heir)) == f"{name}  owner {to}\n"
    (row,) = json.loads(done(run("campaigns", "--json")))
    assert (row["owner"], row["pending_owner"]) == (to, None)
    gone = run("transfer", name, to, by=owner)
    assert (gone.exit_code, f"belongs to {to}" in gone.stderr) == (4, True)
    assert (
        json.loads(done(run("transfer", name, owner.account.address, "--json", by=heir)))["pending_owner"] is not None
    )
    assert json.loads(done(run("accept", name, "--json", by=owner)))["owner"] == owner.account.address


def test_the_account_is_the_data_scientists_unless_another_is_named(run, stage, tmp_path, monkeypatch):
    campaign = stage()
    name = campaign.id.hex()
    nobody = run("top-up", name, "1")
    assert (nobody.exit_code, "accounts/owner.key" in nobody.stderr) == (3, True)
    monkeypatch.setenv("SONAR_ACCOUNT", str(key_file(tmp_path, campaign.owner)))
    done(run("top-up", name, "1"))
    monkeypatch.delenv("SONAR_ACCOUNT")
    (tmp_path / "accounts").mkdir()
    key_file(tmp_path, campaign.owner).rename(tmp_path / "accounts" / "owner.key")
    done(run("top-up", name, "1"))
    assert campaign.owner.campaign(campaign.id).terms.bounty == ether(3)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("top-up", "0x12", "1"), 3, "'0x12' is not a campaign's id: give 0x and its 64 hexadecimal digits"),
        (("top-up", "ab" * 32, "1"), 4, "the contract knows no campaign 0xabab"),
        (("top-up", "{}", "much"), 3, "'much' is not an amount of ether"),
        (("top-up", "{}", "0"), 3, "the amount is zero"),
        (("top-up", "{}", str(2**128)), 3, f"{2**128} ether is above 2^128 - 1 wei, the most that the contract takes"),
        (("top-up", "{}", "9" * 5000), 3, "99999"),
        (("transfer", "{}", "Alice"), 3, "'Alice' is not an address: give 0x and 40 hexadecimal digits, or nobody"),
        (("transfer", "{}", MISTYPED), 3, f"'{MISTYPED}' is mistyped"),
        (("accept", "zz"), 3, "'zz' is not a campaign's id"),
    ],
)
def test_mistakes_end_with_one_sentence_and_cost_nothing(run, stage, arguments, code, says):
    campaign = stage()
    sent = campaign.owner.used_nonce()
    result = run(*(word.format(campaign.id.hex()) for word in arguments), by=campaign.owner)
    assert result.exit_code == code
    assert result.stderr.startswith(f"Error: {says}")
    assert result.stderr.count("\n") == 1
    assert campaign.owner.used_nonce() == sent


def test_a_committee_is_shown_as_a_mines_policy_lists_it(run, chain_web3, new_account, deployed, tmp_path):
    members = [Account.create().address for _ in range(3)]
    made = deploy_committee(chain_web3, new_account(), members, 2)
    (tmp_path / "policy.toml").write_text(done(run("committee", made.address.lower())))
    (listed,) = Policy.load(tmp_path / "policy.toml").committees.items()
    assert (listed[0], tuple(listed[1].members), listed[1].threshold) == (made.address, made.members, 2)
    told = json.loads(done(run("committee", made.address, "--json")))
    assert told == {"address": made.address, "members": list(made.members), "threshold": 2}
    for wrong, code, says in (("0x12", 3, "is not an address"), (deployed.address, 4, "like a CapsuleCommittee")):
        refused = run("committee", wrong)
        assert (refused.exit_code, says in refused.stderr) == (code, True)
