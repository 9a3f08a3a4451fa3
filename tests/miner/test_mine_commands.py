"""The `mine` command as people run it: results on stdout, talk on stderr, an exit code for each kind of trouble."""

import json
import stat
import subprocess

import numpy as np
import pytest

from sonar.chain.records import Verdict
from sonar.processes import free_port
from sonar.units import ether
from sonar.wallet import load_account


@pytest.fixture
def mine_command(tmp_path, mine_commands):
    def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return mine_commands(*arguments, **{"SONAR_HOME": str(tmp_path / "sonar"), **environment})

    return call


def test_init_makes_an_account_and_a_policy_and_never_overwrites_them(mine_command, tmp_path):
    done = mine_command("init", "--json", SONAR_PASSPHRASE="correct horse")
    assert done.returncode == 0, done.stderr
    key = tmp_path / "sonar" / "mine" / "account.key"
    assert load_account(key, "correct horse").address == json.loads(done.stdout)["address"]
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert "max_bond" in (key.parent / "policy.toml").read_text()
    before = key.read_bytes()
    again = mine_command("init", "--no-passphrase")
    assert again.returncode == 3
    assert key.read_bytes() == before


def test_init_adopts_a_key_file(mine_command, tmp_path):
    made = mine_command("init", "--no-passphrase", "--home", str(tmp_path / "first"))
    assert made.returncode == 0, made.stderr
    adopted = mine_command("init", "--key-file", str(tmp_path / "first" / "account.key"), "--home", str(tmp_path / "b"))
    assert adopted.stdout == made.stdout
    again = mine_command("init", "--key-file", str(tmp_path / "first" / "account.key"), "--home", str(tmp_path / "b"))
    assert again.returncode == 3


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("init",), 3, "SONAR_PASSPHRASE"),
        (("init", "--key-file", "none.key"), 3, "none.key"),
        (("add", "d", "none.csv", "--target", "y"), 3, "mine init"),
        (("campaigns",), 3, "mine init"),
        (("run",), 3, "network"),
        (("status",), 3, "mine init"),
        (("run", "--campaign", "nonsense"), 3, "not a campaign's id"),
        (("run", "--campaign", "0x"), 3, "not a campaign's id"),
        (("add", "d"), 2, "Usage"),
    ],
)
def test_a_command_without_its_ground_says_what_to_do(mine_command, arguments, code, says):
    done = mine_command(*arguments)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert done.stdout == ""


def test_a_bad_data_set_ends_add_with_its_exit_code_and_adds_nothing(stage):
    mine = stage.mine()
    bad = stage.folder / "bad.csv"
    bad.write_text("x0,target\na,0\nb,1\n")
    done = mine.call("add", "bad", str(bad), "--target", "target")
    assert done.returncode == 9
    assert done.stderr.startswith("Error: ")
    assert "no numeric column" in done.stderr
    report = json.loads(mine.call("status", "--json").stdout)
    assert [one["name"] for one in report["datasets"]] != ["bad"]
    bad.write_text("x0,target\n1,0\n2,1\n")
    added = mine.call("add", "bad", str(bad), "--target", "target", "--json")
    assert json.loads(added.stdout)["records"] == 2
    taken = mine.call("add", "bad", str(bad), "--target", "target")
    assert taken.returncode == 9
    assert "--replace" in taken.stderr
    assert mine.call("add", "bad", str(bad), "--target", "target", "--replace").returncode == 0


def test_campaigns_lists_what_fits_and_why_others_do_not(stage):
    mine = stage.mine()
    good = stage.campaign(stage.spec(name="digits"))
    stage.campaign(stage.spec(name="iris", features=({"name": "petal"},)))
    rows = json.loads(mine.call("campaigns", "--json").stdout)
    assert rows[0]["id"] == "0x" + good.hex()
    assert rows[0]["dataset"] is not None
    assert rows[0]["reasons"] == []
    assert "petal" in rows[1]["reasons"][0]
    table = mine.call("campaigns").stdout
    assert "fits data set" in table
    assert "no numeric column 'petal'" in table


def test_train_posts_once_and_a_dry_run_posts_and_stores_nothing(stage):
    mine = stage.mine()
    campaign = stage.campaign()
    stored = sorted((stage.folder / "store").rglob("*"))

    dry = mine.call("train", campaign.hex()[:8], "--dry-run", "--allow-insecure-small-key", "--json")
    assert dry.returncode == 0, dry.stderr
    assert json.loads(dry.stdout)["state"] == "dry-run"
    assert stage.submitted(campaign) == []
    assert sorted((stage.folder / "store").rglob("*")) == stored

    posted = mine.call("train", "0x" + campaign.hex(), "--allow-insecure-small-key", "--json")
    assert posted.returncode == 0, posted.stderr
    assert json.loads(posted.stdout)["state"] == "sent"
    again = mine.call("train", campaign.hex(), "--allow-insecure-small-key", "--json")
    assert again.returncode == 0, again.stderr
    assert len(stage.submitted(campaign)) == 1

    unknown = mine.call("train", "abcdef")
    assert unknown.returncode == 3
    assert "no campaign's id begins with 'abcdef'" in unknown.stderr


def test_a_small_key_needs_the_ugly_option(stage):
    mine = stage.mine()
    campaign = stage.campaign()
    done = mine.call("train", campaign.hex())
    assert done.returncode == 6
    assert "2048" in done.stderr


def test_an_unfunded_account_is_told_to_get_funds(stage):
    mine = stage.mine(ether_held=0)
    stage.campaign()
    done = mine.once()
    assert done.returncode == 4
    assert mine.account.address in done.stderr
    assert "fund it" in done.stderr


def test_status_and_withdraw_follow_the_money(stage):
    mine = stage.mine()
    campaign = stage.campaign(stage.spec(rounds={"round_size": 2}))
    nothing = mine.call("withdraw")
    assert nothing.returncode == 4
    assert "owed nothing" in nothing.stderr
    assert mine.once().returncode == 0
    bond = stage.client.campaign(campaign).terms.bond
    report = json.loads(mine.call("status", "--json").stdout)
    assert report["bond_at_stake_wei"] == bond
    stage.submit_other(campaign)
    spec = stage.spec()
    model = stage.encrypted(np.zeros(spec.shape, dtype=int), stage.paillier, spec)
    stage.settle(campaign, [Verdict.KEPT, Verdict.KEPT], model=model, key=stage.paillier.public.key_id)

    report = json.loads(mine.call("status", "--json").stdout)
    (row,) = report["submissions"]
    assert (row["state"], row["verdict"], row["share_ppm"]) == ("settled", "kept", 500_000)
    assert report["earned_wei"] == row["payout_wei"] > 0
    assert report["credit_wei"] == row["payout_wei"] + bond
    assert "kept" in mine.call("status").stdout

    receiver = stage.new_account(0)
    done = mine.call("withdraw", "--to", receiver.address, "--json")
    assert done.returncode == 0, done.stderr
    assert stage.client.balance(receiver.address) == report["credit_wei"] == json.loads(done.stdout)["amount"]
    wrong = mine.call("withdraw", "--to", "0x12")
    assert wrong.returncode == 3


def test_a_wrong_rpc_address_is_an_error_for_commands_and_status_shows_the_ledger(stage):
    mine = stage.mine()
    campaign = stage.campaign()
    assert mine.once().returncode == 0
    stage.network.model_copy(update={"rpc_url": f"http://127.0.0.1:{free_port()}"}).save(mine.network_file)
    for command in (["campaigns"], ["train", campaign.hex()], ["run", "--once"], ["withdraw"]):
        done = mine.call(*command)
        assert done.returncode == 4, command
        assert "does not answer" in done.stderr
    report = json.loads(mine.call("status", "--json").stdout)
    assert "does not answer" in report["problem"]
    assert report["submissions"][0]["state"] == "sent"


def test_another_chain_than_the_network_file_names_ends_the_daemon(stage):
    mine = stage.mine()
    stage.network.model_copy(update={"chain_id": 5777}).save(mine.network_file)
    done = mine.call("run")
    assert done.returncode == 4
    assert "chain" in done.stderr


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ("[money]\nmax_bond = 1", "line 2: `max_bond` in [money] must be text"),
        ("colour = 'red'", "line 1: there is no setting `colour`"),
        ("[money]\nmax_bond = ", "line 2: the value cannot be read"),
        ("max_bond = '1'", "stands in the table [money]"),
    ],
)
def test_a_policy_with_a_mistake_stops_the_start(stage, policy, says):
    mine = stage.mine()
    mine.home.policy_file.write_text(policy)
    done = mine.call("run", "--once")
    assert done.returncode == 9
    assert says in done.stderr


def test_the_policy_that_init_writes_holds_the_defaults(stage):
    from mine.policy import Policy

    mine = stage.mine()
    mine.home.policy_file.unlink()
    mine.home.write_policy()
    assert mine.home.policy_file.read_text() == Policy.template()
    assert mine.home.policy() == Policy()


def test_allow_single_accepts_rounds_of_one(stage):
    mine = stage.mine()
    campaign = stage.campaign(stage.spec(rounds={"round_size": 1, "min_mines": 1}))
    assert mine.once().returncode == 0
    assert stage.submitted(campaign) == []
    done = mine.call("run", "--once", "--allow-single", "--allow-insecure-small-key")
    assert done.returncode == 0, done.stderr
    assert len(stage.submitted(campaign)) == 1
    assert ether(10) - stage.client.balance(mine.account.address) >= stage.client.campaign(campaign).terms.bond
