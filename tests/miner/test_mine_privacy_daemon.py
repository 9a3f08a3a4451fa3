"""A mine with privacy on, on a real chain: what it posts is made of noised sums, and an older home forgets no cost."""

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mine.apart.jobs import Desk
from mine.ledger import Ledger
from mine.privacy.adassp import statistics_of
from mine.privacy.mechanism import NoisedSums
from mine.records import State
from sonar import syft
from sonar.chain.records import Verdict

ON: dict[str, Any] = {"mode": "on", "epsilon": 1.0, "budget": 1.2, "max_loss": 1.0}


def settle_without_gain(stage, campaign) -> None:
    """Fills the round and settles it."""
    while stage.client.round(campaign).open:
        stage.submit_other(campaign)
    stage.settle(campaign, [Verdict.LEFT_OUT] * 3)


def noised_in(ledger: Ledger) -> list[NoisedSums]:
    rows = ledger._database.rows("SELECT noised FROM privacy_charges WHERE noised IS NOT NULL ORDER BY id")
    return [NoisedSums.parse(row["noised"]) for row in rows]


def test_the_posted_gradient_is_made_of_the_noised_statistic_and_of_nothing_else(stage, opened_mine):
    mine, ledger = opened_mine
    mine.agree(privacy=ON)
    spec = stage.spec()
    campaign = stage.campaign(spec)

    mine.daemon(ledger, stage.store).step()

    (event,) = stage.submitted(campaign)
    (noised,) = noised_in(ledger)
    training = spec.training
    wanted = syft.training_map(
        statistics_of(noised, one_hot=True), epochs=training.epochs, rate=training.rate, l2=training.l2
    ).constant
    assert np.abs(stage.opened(event, stage.paillier, spec) - wanted).max() < 1e-6
    assert mine.words() == ["campaign", "released", "at risk", "trained", "posted"]
    (told,) = [facts for word, facts in mine.told if word == "released"]
    assert told["epsilon"] == pytest.approx(1.0, abs=1e-3)


def test_every_campaign_and_round_on_the_same_features_is_served_at_no_further_cost(stage, opened_mine):
    mine, ledger = opened_mine
    mine.agree(privacy=ON)
    first, second = stage.campaign(), stage.campaign(stage.spec(name="another", training={"epochs": 3}))
    daemon = mine.daemon(ledger, stage.store)
    daemon.step()
    settle_without_gain(stage, first)
    daemon.step()
    mine.daemon(ledger, stage.store).step()
    own = [event.round for event in stage.submitted(first) if event.mine == mine.account.address]
    assert own == [0, 1]
    assert len(stage.submitted(second)) == 1
    assert len(ledger.charges(1)) == 1
    assert mine.words().count("released") == 1


def test_a_data_set_is_read_once_for_all_campaigns_and_again_when_it_has_changed(stage, opened_mine, monkeypatch):
    mine, ledger = opened_mine
    mine.agree(privacy={**ON, "budget": 5.0})
    jobs: list[str] = []
    do = Desk.do
    monkeypatch.setattr(Desk, "do", lambda desk, request: (jobs.append(request.body["job"]), do(desk, request))[1])
    for epochs in (3, 4, 5):
        stage.campaign(stage.spec(training={"epochs": epochs}))
    daemon = mine.daemon(ledger, stage.store)
    daemon.step()
    assert jobs.count("recognise") == jobs.count("sum") == 1
    path = Path(ledger.datasets()[0].location)
    path.write_text(path.read_text() + "0.5,0.5,0.5,0.5,1\n")
    stage.campaign(stage.spec(training={"epochs": 6}))
    daemon.step()
    assert jobs.count("recognise") == 2
    assert jobs.count("sum") == 1
    assert len(ledger.charges(1)) == 1


def test_past_the_budget_a_campaign_is_declined_with_the_numbers(stage, opened_mine):
    mine, ledger = opened_mine
    mine.agree(privacy=ON)
    stage.campaign()
    other = stage.campaign(stage.spec(features=({"name": "x0"}, {"name": "x1"})))
    mine.daemon(ledger, stage.store).step()
    assert stage.submitted(other) == []
    (reason,) = mine.reasons("declined")
    assert "from epsilon 1 to 1.45 at delta 1e-06, above the budget of 1.2 in [privacy] of the policy" in reason


def test_mini_batches_are_declined_with_privacy_on(stage, opened_mine):
    mine, ledger = opened_mine
    mine.agree(privacy=ON)
    campaign = stage.campaign(stage.spec(training={"batch_size": 20}))
    mine.daemon(ledger, stage.store).step()
    assert stage.submitted(campaign) == []
    (reason,) = mine.reasons("declined")
    assert "batches of 20 records, each of which would need noise of its own" in reason
    assert ledger.pools() == []


def test_an_older_home_put_back_is_charged_for_gradients_that_it_does_not_know(stage, opened_mine):
    mine, ledger = opened_mine
    mine.agree(privacy={**ON, "budget": 1.5})
    ledger.close()
    backup = stage.folder / "backup"
    shutil.copytree(mine.home.path, backup)
    campaign = stage.campaign()
    with mine.home.ledger() as lost:
        mine.daemon(lost, stage.store).step()
        assert len(lost.charges(1)) == 1
    settle_without_gain(stage, campaign)

    shutil.rmtree(mine.home.path)
    shutil.copytree(backup, mine.home.path)
    mine.told.clear()
    with mine.home.ledger() as older:
        mine.daemon(older, stage.store).step()
        charges = older.charges(1)
        assert [charge.campaign for charge in charges] == [campaign, None]
        (warned,) = mine.reasons("warning")
        assert f"in round 0 of campaign 0x{campaign.hex()} is not in its ledger" in warned
        assert older.submission(campaign, 1).state is State.SENT
        # A third statistic would be above the budget, which the older home alone would not know.
        stage.campaign(stage.spec(features=({"name": "x0"},)))
        mine.daemon(older, stage.store).step()
        assert "from epsilon 1.45 to 1.81" in mine.reasons("declined")[-1]


def test_an_older_home_is_charged_though_it_has_forgotten_which_columns_it_was(stage, opened_mine):
    mine, ledger = opened_mine
    mine.agree(privacy={**ON, "budget": 5.0})
    csv = Path(ledger.datasets()[0].location)
    ledger.close()
    backup = stage.folder / "backup"
    shutil.copytree(mine.home.path, backup)
    mine.add(csv, "--alias", "glucose=x0", "--replace")
    campaign = stage.campaign(stage.spec(features=({"name": "glucose"}, {"name": "x1"})))
    with mine.home.ledger() as lost:
        mine.daemon(lost, stage.store).step()
        assert len(lost.charges(1)) == len(stage.submitted(campaign)) == 1

    shutil.rmtree(mine.home.path)
    shutil.copytree(backup, mine.home.path)
    stage.campaign()
    with mine.home.ledger() as older:
        mine.daemon(older, stage.store).step()
        assert [charge.campaign for charge in older.charges(1)] == [campaign, None]


def test_the_command_shows_what_was_spent_and_what_is_left(stage, opened_mine):
    mine, ledger = opened_mine
    mine.agree(privacy={**ON, "budget": 3.0})
    before = json.loads(mine.call("privacy", "--json").stdout)
    assert [one["statistics_left"] for one in before["budgets"]] == [7]
    stage.campaign()
    mine.daemon(ledger, stage.store).step()
    (budget,) = json.loads(mine.call("privacy", "--json").stdout)["budgets"]
    assert budget["epsilon_spent"] == pytest.approx(1.0, abs=1e-3)
    assert (budget["statistics"], budget["statistics_left"], budget["unknown_gradients"]) == (1, 6, 0)
    shown = mine.call("privacy").stdout
    assert "privacy is on: epsilon 1 a statistic, budget 3, delta 1e-06" in shown
    assert "6 more" in shown


def test_the_command_lists_what_was_sent_without_noise(stage, opened_mine):
    mine, ledger = opened_mine
    campaign = stage.campaign()
    mine.daemon(ledger, stage.store).step()
    ((dataset, found, count),) = ledger.plain_gradients()
    assert (dataset, found, count) == (ledger.datasets()[0].name, campaign, 1)
    (plain,) = json.loads(mine.call("privacy", "--json").stdout)["plain_gradients"]
    assert plain == {"dataset": dataset, "campaign": f"0x{campaign.hex()}", "gradients": 1}
    assert "sent without noise, of which no budget tells" in mine.call("privacy").stdout


def test_a_dry_run_charges_no_budget_and_says_what_a_gradient_would_cost(stage, opened_mine):
    mine, ledger = opened_mine
    mine.agree(privacy=ON)
    campaign = stage.campaign()
    tried = mine.call("train", f"0x{campaign.hex()}", "--dry-run", "--allow-insecure-small-key", "--json")
    assert json.loads(tried.stdout)["state"] == "dry-run", tried.stderr
    assert "at no charge; for a gradient it would bring what is spent to epsilon 1.0 of 1.2" in tried.stderr
    assert [ledger.charges(pool) for pool in ledger.pools()] == [[]]
    assert "released" not in {entry.kind for entry in ledger.audit_entries()}
    assert stage.submitted(campaign) == []


def test_a_campaign_cannot_count_records_by_its_ranges_and_its_least_number(stage, opened_mine):
    mine, ledger = opened_mine
    mine.agree(privacy={**ON, "budget": 5.0})
    records = ledger.datasets()[0].records
    asked = [
        stage.campaign(stage.spec(name=name, features=(feature, {"name": "x1"}), min_records=least))
        for name, feature, least in (
            ("a box of few", {"name": "x0", "minimum": -1e-6, "maximum": 1e-6}, records // 2),
            ("whole numbers", {"name": "x0", "type": "integer"}, records // 2),
        )
    ]  # fmt: skip
    mine.daemon(ledger, stage.store).step()
    assert [len(stage.submitted(campaign)) for campaign in asked] == [1, 1]


def test_a_second_table_of_a_database_is_added_with_a_word_on_the_budget_that_it_shares(stage, tmp_path):
    mine = stage.mine()
    path = tmp_path / "h.db"
    with sqlite3.connect(path) as db:
        for table in ("visits", "staff"):
            db.execute(f"CREATE TABLE {table} (x0 REAL, outcome INTEGER)")
            db.executemany(f"INSERT INTO {table} VALUES (?, ?)", [(at / 7, at % 2) for at in range(200)])
    for table, policy, said in (
        ("visits", ON, False), ("staff", ON, True), ("staff", {**ON, "separate": ["staff"]}, False),
        ("staff", {}, False),
    ):  # fmt: skip
        mine.agree(privacy=policy)
        done = mine.call("add", table, str(path), "--table", table, "--target", "outcome", "--replace")
        assert done.returncode == 0, done.stderr
        assert ("staff shares its privacy budget with visits, which is read from the same place" in done.stderr) is said
    # Who turns privacy on later is told before anything is shared.
    for policy, pairs in (
        ({}, []), (ON, [("staff", "visits"), ("visits", "staff")]), ({**ON, "separate": ["staff"]}, []),
    ):  # fmt: skip
        mine.agree(privacy=policy)
        lines = mine.call("privacy").stderr.splitlines()
        assert any("staff, visits. What has records of another" in line for line in lines) is bool(policy)
        told = [line for line in lines if "shares its privacy budget" in line]
        assert [line.split(", which")[0] for line in told] == [
            f"{one} shares its privacy budget with {other}" for one, other in pairs
        ]
