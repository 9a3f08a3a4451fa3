"""What mining brought and cost, to the last wei, by campaign and by the months of the blocks."""

import csv
import io
import json
from datetime import UTC, datetime

import numpy as np
import pytest
from click.testing import CliRunner

from mine.cli import main
from mine.earnings import earnings, earnings_table
from mine.ledger import Ledger
from mine.records import Aim, Purpose, Transaction
from sonar.chain.records import Verdict
from sonar.units import CampaignId, Wei, ether

BOND = ether("0.001")


@pytest.fixture
def two_mines(stage):
    """A campaign whose first round kept both mines, and whose second left both out; what both posted."""

    def play(**changes):
        first = stage.mine()
        campaign = stage.campaign(stage.spec(rounds={"round_size": 2}), **changes)
        model = stage.encrypted(np.zeros(stage.spec().shape, dtype=np.int64), stage.paillier, stage.spec())
        with first.home.ledger() as ledger:
            daemon = first.daemon(ledger, stage.store)
            daemon.step()
            stage.submit_other(campaign)
            stage.settle(campaign, [Verdict.KEPT, Verdict.KEPT], model=model, key=stage.paillier.public.key_id)
            daemon.step()
            stage.submit_other(campaign)
            stage.settle(campaign, [Verdict.LEFT_OUT, Verdict.LEFT_OUT])
        return first, campaign

    return play


def gas_of(stage, mine):
    """What this account's transactions cost by the chain's own receipts."""
    eth, spent = stage.client.web3.eth, 0
    for number in range(eth.block_number + 1):
        for sent in eth.get_block(number, full_transactions=True)["transactions"]:
            if sent["from"] == mine.account.address:
                receipt = eth.get_transaction_receipt(sent["hash"])
                spent += receipt["gasUsed"] * receipt["effectiveGasPrice"]
    return spent


def run(mine, *words):
    """A command in this process."""
    environment = {"SONAR_NETWORK": str(mine.network_file)}
    done = CliRunner(env=environment).invoke(main, [*words, "--home", str(mine.home.path)])
    assert done.exit_code == 0, done.stderr
    return done


def report(mine, *words):
    return run(mine, "earnings", *words).stdout


def test_the_account_is_that_of_the_chain(stage, two_mines):
    mine, campaign = two_mines()
    run(mine, "withdraw")
    (row,) = json.loads(report(mine, "--json"))
    gas = gas_of(stage, mine)
    payout = (ether(1) * 4 // 9) // 2
    assert row == {
        "group": None, "token": None, "gradients": 2, "paid": 1, "too_few": 0, "payout": payout,
        "bonds_lost": BOND // 10, "gas": gas, "net": payout - BOND // 10 - gas,
    }  # fmt: skip
    assert stage.client.balance(mine.account.address) == ether(10) + row["net"]

    by_campaign = json.loads(report(mine, "--by", "campaign", "--json"))
    assert [one["group"] for one in by_campaign] == ["0x" + campaign.hex(), "withdrawals"]
    assert sum(one["net"] for one in by_campaign) == row["net"]
    assert by_campaign[1]["net"] == -by_campaign[1]["gas"] < 0


def test_months_are_those_of_the_blocks(stage, two_mines, advance_time):
    mine, _ = two_mines()
    judged = datetime.fromtimestamp(stage.client.now(), UTC)
    advance_time(32 * 86_400)
    run(mine, "withdraw")
    withdrawn = datetime.fromtimestamp(stage.client.now(), UTC)
    rows = list(csv.DictReader(io.StringIO(report(mine, "--by", "month", "--csv"))))
    assert [row["month"] for row in rows] == [f"{judged:%Y-%m}", f"{withdrawn:%Y-%m}"]
    assert (rows[0]["gradients"], rows[0]["token"], rows[1]["gradients"]) == ("2", "", "0")
    assert sum(int(row["gas"]) for row in rows) == gas_of(stage, mine)


def test_what_a_campaign_pays_in_a_token_is_told_apart_from_bonds_and_gas(stage, two_mines, new_token):
    token = new_token("HonestToken", {stage.owner.address: 10**6}).address
    policy = f'[money]\ntokens = ["{token}"]\nwork_at_a_loss = true\n[data]\nmin_records = 10\n'
    first_mine = stage.mine

    def mine_with_token(*csvs):
        mine = first_mine(*csvs)
        mine.home.policy_file.write_text(policy)
        return mine

    stage.mine = mine_with_token
    mine, campaign = two_mines(token=token, bounty=900_000)
    coin, paid = sorted(json.loads(report(mine, "--by", "campaign", "--json")), key=lambda row: row["token"] or "")
    assert coin["group"] == paid["group"] == "0x" + campaign.hex()
    assert (paid["token"], paid["payout"], paid["net"], paid["gas"]) == (token, 200_000, 200_000, 0)
    assert (coin["payout"], coin["bonds_lost"]) == (0, BOND // 10)
    assert coin["net"] == -(BOND // 10) - gas_of(stage, mine)
    table = report(mine)
    assert f"200000 of token {token}" in table


def test_a_ledger_that_was_lost_counts_what_it_did_before(stage, two_mines):
    mine, _ = two_mines()
    run(mine, "withdraw")
    known = report(mine, "--by", "campaign", "--json")
    for left in mine.home.path.glob("*.db*"):
        left.unlink()
    mine.home.path.joinpath("audit.jsonl").unlink()
    again = run(mine, "earnings", "--by", "campaign", "--json")
    assert sorted(json.loads(again.stdout), key=str) == sorted(json.loads(known), key=str)


def test_without_the_chain_the_ledgers_account_is_told(stage, two_mines):
    mine, _ = two_mines()
    online = report(mine, "--json")
    stage.network.model_copy(update={"rpc_url": "http://127.0.0.1:1"}).save(mine.network_file)
    done = run(mine, "earnings", "--json")
    assert done.stdout == online
    assert "as the ledger has it" in done.stderr


def test_nothing_earned_is_said(stage):
    assert report(stage.mine()) == "nothing was earned or spent yet\n"
    assert report(stage.mine(), "--json") == "[]\n"


def test_a_transaction_that_was_in_vain_still_cost_its_gas(tmp_path, stage):
    with Ledger(tmp_path / "mine.db") as ledger:
        for nonce, succeeded in enumerate((True, False)):
            sent = Transaction(bytes([nonce]) * 32, Aim(Purpose.SUBMIT, CampaignId(bytes(32)), nonce), nonce, b"", 0.0)
            ledger.intend("here", sent)
            ledger.mined("here", sent, succeeded=succeeded, block=nonce, gas_used=100, gas_price=Wei(7))
        ledger.date_blocks("here", {0: 0})
        (total,) = earnings(ledger, "here")
        assert (total.gas, total.net) == (1400, -1400)
        assert [(row.group, row.gas) for row in earnings(ledger, "here", "month")] == [
            ("1970-01", 700),
            ("undated", 700),
        ]
        assert earnings_table(earnings(ledger, "here", "month"), "month").splitlines()[1].startswith("1970-01")
