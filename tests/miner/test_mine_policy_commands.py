"""`mine policy`, `mine approve` and `mine deny`, and what the daemon makes of them, on a real chain."""

import json
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from click.testing import CliRunner
from eth_account import Account

from mine.cli import main
from mine.policy import Policy
from mine.policy.file import Policy as Loaded
from sonar.chain import calls
from sonar.chain.errors import ChainError
from sonar.chain.records import Verdict
from sonar.protocol.errors import ProtocolError
from sonar.units import Ppm, Wei, ether

LEFT = Verdict.LEFT_OUT


@pytest.fixture
def shell(monkeypatch):
    """Runs `mine` for a mine in this process; gives the result."""

    def run(mine, *words):
        monkeypatch.setenv("SONAR_NETWORK", str(mine.network_file))
        return CliRunner().invoke(main, [*words, "--home", str(mine.home.path)])

    return run


@pytest.fixture
def clock(opened_mine):
    """The time by which the rules of the opened mine go, which tests set; noon of a Monday at first."""
    now = [datetime(2026, 11, 2, 12, 0).astimezone().timestamp()]
    opened_mine[0].clock = lambda: now[0]
    return now


def _past_hour():
    """Hours that are over or to come, whenever the test runs."""
    later = datetime.now() + timedelta(hours=6)
    return f"{later:%H:%M}-{later + timedelta(hours=1):%H:%M}"


def test_show_prints_a_policy_that_can_be_read_and_marks_what_was_changed(stage, shell, tmp_path):
    mine = stage.mine()
    name = f"datasets.{mine.account.address[:8]}"
    mine.agree(**{"money": {"max_bond": "0.5"}, name: {"purposes": ["research"]}})
    shown = shell(mine, "policy", "show")
    assert shown.exit_code == 0
    assert 'max_bond = "0.5"  # changed' in shown.stdout
    assert "min_mines = 2\n" in shown.stdout
    assert "policy.toml, digest " in shown.stderr
    copy = tmp_path / "copy.toml"
    copy.write_text(shown.stdout)
    assert Loaded.load(copy) == mine.home.policy()
    assert 'max_bond = "0.5"\n' in shell(mine, "policy", "show", "--changed").stdout
    assert "min_mines" not in shell(mine, "policy", "show", "--changed").stdout
    assert json.loads(shell(mine, "policy", "show", "--json").stdout)["money"]["max_bond"] == "0.5"


def test_a_table_for_a_data_set_that_is_not_there_ends_commands_and_the_daemon(stage, shell):
    mine = stage.mine()
    campaign = stage.campaign().hex()
    mine.agree(**{"datasets.clinic": {"owners": []}})
    for words in (["policy", "show"], ["policy", "check", campaign], ["campaigns"], ["run", "--once"]):
        done = shell(mine, *words)
        assert done.exit_code == 9, words
        assert "line 4: [datasets.clinic] is for a data set that is not there, so it restricts none" in done.stderr


def test_a_table_that_comes_before_its_data_set_is_warned_of(stage, shell):
    mine = stage.mine()
    with mine.home.ledger() as ledger, ledger._database.write():
        ledger._database.execute("DELETE FROM datasets")
    mine.agree(**{"datasets.clinic": {"owners": []}})
    shown = shell(mine, "policy", "show")
    assert shown.exit_code == 0
    assert "warning: [datasets.clinic] is for a data set that is not there yet" in shown.stderr


def test_show_of_a_policy_at_its_defaults_has_nothing_changed(stage, shell):
    mine = stage.mine()
    mine.home.policy_file.write_text(Policy.template())
    assert shell(mine, "policy", "show", "--changed").stdout == "every setting is at its default\n"
    assert "changed" not in shell(mine, "policy", "show").stdout


def test_check_explains_every_rule_and_ends_well_only_if_the_mine_would_train(stage, shell):
    mine = stage.mine()
    campaign = "0x" + stage.campaign().hex()
    done = shell(mine, "policy", "check", campaign)
    assert done.exit_code == 0, done.output
    *lines, last = done.stdout.splitlines()
    assert len(lines) > 20
    assert all(line.startswith("yes ") for line in lines)
    assert last.startswith("this mine would train 'test' on the data set ")
    mine.agree(money={"max_bond": "0"}, work={"hours": [_past_hour()]})
    refused = shell(mine, "policy", "check", campaign[:12])
    assert refused.exit_code == 9
    assert any(
        line.startswith("no ") and "above `max_bond` 0 in [money]" in line for line in refused.stdout.splitlines()
    )
    assert any(line.startswith("wait ") and "outside `hours`" in line for line in refused.stdout.splitlines())
    assert refused.stdout.splitlines()[-1].startswith("this mine would not train it: 1 of ")
    report = json.loads(shell(mine, "policy", "check", campaign, "--json").stdout)
    assert (report["campaign"], report["trains"]) == (campaign, False)
    assert [rule["rule"] for rule in report["rules"] if not rule["ok"] and not rule["passing"]] == ["bond"]


def test_check_of_what_cannot_be_believed_or_is_over_says_so(stage, shell):
    mine = stage.mine()
    stranger = stage.campaign(oracle=stage.new_account())
    done = shell(mine, "policy", "check", stranger.hex())
    assert done.exit_code == 9
    assert "is not trusted" in done.stdout
    over = stage.campaign()
    stage.client.transact(calls.close_campaign(over))
    done = shell(mine, "policy", "check", over.hex())
    assert done.exit_code == 9
    assert "nothing can be posted any more" in done.stdout
    assert shell(mine, "policy", "check", "0x1234").exit_code == 3


def test_check_of_a_round_that_is_full_says_that_the_next_one_is_waited_for(stage, shell):
    mine = stage.mine()
    campaign = stage.campaign(stage.spec(rounds={"round_size": 2}))
    for _ in range(2):
        stage.submit_other(campaign)
    done = shell(mine, "policy", "check", campaign.hex())
    assert done.exit_code == 9
    assert "round 0 is full or over: waiting for the next one" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("this mine would wait: 1 of ")


def test_commands_that_sign_nothing_ask_for_no_passphrase(stage, shell, monkeypatch):
    monkeypatch.delenv("SONAR_PASSPHRASE", raising=False)
    mine = stage.mine()
    campaign = stage.campaign().hex()
    mine.home.account_file.write_text(json.dumps(Account.encrypt(mine.account.key, "words", iterations=2)))
    for words in (("campaigns",), ("policy", "check", campaign), ("approve", campaign), ("match", campaign)):
        done = shell(mine, *words)
        assert done.exit_code == 0, done.output
    assert "SONAR_PASSPHRASE" in shell(mine, "train", campaign).stderr


def test_a_mistake_in_the_file_ends_every_command_with_its_line(stage, shell):
    mine = stage.mine()
    mine.home.policy_file.write_text("[accept]\nmin_mines = 0\n")
    for words in (("policy", "show"), ("policy", "check", "0x1234")):
        done = shell(mine, *words)
        assert done.exit_code == 9
        assert "policy.toml, line 2: `min_mines` in [accept] must be at least 1" in done.stderr


def test_a_campaign_waits_for_its_approval_and_is_left_once_it_is_denied(stage, shell, opened_mine):
    mine, ledger = opened_mine
    mine.agree(accept={"approval": True})
    campaign = stage.campaign(stage.spec(rounds={"round_size": 2}))
    now = [0.0]
    daemon = mine.daemon(ledger, stage.store, clock=lambda: now[0])
    daemon.step()
    assert "it waits for your word: `mine approve 0x" in mine.reasons("waiting")[0]
    assert daemon.waiting() is None
    said = shell(mine, "approve", campaign.hex(), "--reason", "agreed by the board")
    assert said.exit_code == 0
    assert said.stdout == f"approved 0x{campaign.hex()} of {stage.owner.address}\n"
    now[0] += 60
    daemon.step()
    assert len(stage.submitted(campaign)) == 1
    (waits, *_) = shell(mine, "policy", "check", campaign.hex()).stdout.splitlines()
    assert " ".join(waits.split()) == "wait round this mine has made its gradient of round 0"
    stage.submit_other(campaign)
    denied = json.loads(shell(mine, "deny", campaign.hex(), "--reason", "the study is over", "--json").stdout)
    assert (denied["approved"], denied["reason"]) == (False, "the study is over")
    stage.settle(campaign, [LEFT, LEFT])
    daemon.step()
    assert "you denied it (the study is over)" in mine.reasons("declined")[0]
    assert len(stage.submitted(campaign)) == 2
    log = [json.loads(line) for line in ledger.audit_log.read_text().splitlines()]
    words = [(entry["kind"], entry["facts"]["reason"]) for entry in log if entry["kind"] in {"approved", "denied"}]
    assert words == [("approved", "agreed by the board"), ("denied", "the study is over")]


def test_a_denial_that_is_taken_back_is_noticed_in_the_same_round(stage, shell, opened_mine):
    mine, ledger = opened_mine
    campaign = stage.campaign()
    shell(mine, "deny", campaign.hex(), "--reason", "by mistake")
    daemon = mine.daemon(ledger, stage.store)
    for _ in range(2):
        daemon.step()
    assert mine.words().count("declined") == 1
    shell(mine, "approve", campaign.hex())
    daemon.step()
    assert len(stage.submitted(campaign)) == 1


def test_an_approval_holds_for_the_owner_of_then(stage, shell, opened_mine):
    mine, ledger = opened_mine
    mine.agree(accept={"approval": True})
    campaign, heir = stage.campaign(), stage.new_account()
    assert shell(mine, "approve", campaign.hex()).exit_code == 0
    stage.client.transact(calls.transfer_campaign(campaign, heir.address))
    stage.client_for(heir).transact(calls.accept_campaign(campaign))
    mine.daemon(ledger, stage.store).step()
    assert f"and now {heir.address} does" in mine.reasons("waiting")[0]


def test_a_denial_needs_a_reason_and_a_reason_is_one_line(stage, shell):
    mine = stage.mine()
    campaign = stage.campaign()
    assert shell(mine, "deny", campaign.hex()).exit_code == 2
    done = shell(mine, "deny", campaign.hex(), "--reason", "two\nlines")
    assert done.exit_code == 9
    assert "one line" in done.stderr


def test_what_an_owners_earlier_campaigns_paid_is_asked_of_the_chain(stage, opened_mine, next_paillier):
    mine, ledger = opened_mine
    spec = stage.spec(rounds={"round_size": 2, "max_rounds": 1})
    worker = mine.worker(ledger, stage.store)

    def past(campaign):
        worker.follow(mine.home.policy())
        return worker.decide(ledger.campaign(campaign), mine.home.policy()).facts.past

    paying, stingy, present = stage.campaign(spec), stage.campaign(spec), stage.campaign()
    assert past(present) == ()
    for campaign in (paying, stingy):
        stage.submit_other(campaign)
        stage.submit_other(campaign)
    model = stage.encrypted(0 * stage_weights(spec), next_paillier, spec)
    stage.settle(paying, [Verdict.KEPT] * 2, model=model, key=next_paillier.public.key_id, score=500_000)
    stage.settle(stingy, [LEFT, LEFT])
    promised = ether(1) * 800_000 // 900_000
    found = past(present)
    assert sorted((one.promised, one.paid) for one in found) == [
        (promised, 0), (promised, stage.client.campaign(paying).paid)
    ]  # fmt: skip
    mine.agree(accept={"min_realised_pay": 60})
    mine.daemon(ledger, stage.store).step()
    assert "2 earlier campaigns paid 25% of what they promised" in " ".join(mine.reasons("declined"))


def stage_weights(spec):
    import numpy as np

    return np.zeros(spec.shape, dtype=int)


def test_the_daemon_works_within_hours_only(stage, opened_mine, clock):
    mine, ledger = opened_mine
    campaign = stage.campaign()
    mine.agree(work={"hours": ["22:00-06:00"]})
    now = [0.0]
    daemon = mine.daemon(ledger, stage.store, clock=lambda: now[0])
    daemon.step()
    assert mine.reasons("waiting") == ["it is Mon 12:00, outside `hours` in [work]: waiting until Mon 22:00"]
    clock[0] += timedelta(hours=11).total_seconds()
    now[0] += 60
    daemon.step()
    assert len(stage.submitted(campaign)) == 1
    assert "resumed" in mine.words()


def test_a_new_reason_to_wait_is_told_and_the_same_one_is_not(stage, opened_mine, clock):
    mine, ledger = opened_mine
    stage.campaign()
    mine.agree(accept={"approval": True})
    now = [0.0]
    daemon = mine.daemon(ledger, stage.store, clock=lambda: now[0])
    for tables in ({"accept": {"approval": True}}, {"work": {"hours": ["22:00-06:00"]}}):
        mine.agree(**tables)
        for _ in range(2):
            daemon.step()
            now[0] += 60
            clock[0] += 60
    assert [reason.split(":")[0] for reason in mine.reasons("waiting")] == ["it waits for your word", "it is Mon 12"]


@pytest.mark.parametrize(
    ("lie", "says"),
    [
        ({"base": Ppm(0)}, "is not of what was admitted: is it honest?"),
        ({"start_score": Ppm(0)}, "is not of what was admitted: is it honest?"),
        ({"terms": {"bond": Wei(0)}}, "the spec promises bond"),
    ],
)
def test_a_node_that_tells_another_campaign_than_was_admitted_is_not_believed(
    stage, opened_mine, monkeypatch, lie, says
):
    mine, ledger = opened_mine
    campaign = stage.campaign()
    worker = mine.worker(ledger, stage.store)
    worker.follow(mine.home.policy())
    worker.offer(ledger.campaign(campaign), mine.home.policy())
    record = worker.client.campaign(campaign)
    terms = replace(record.terms, **lie.get("terms", {}))
    told = replace(record, **{**lie, "terms": terms})
    monkeypatch.setattr(worker.client, "campaign", lambda _campaign: told)
    with pytest.raises((ChainError, ProtocolError), match=says):
        worker.decide(ledger.campaign(campaign), mine.home.policy())


def test_a_campaign_that_pays_nothing_rests_and_is_tried_again(stage, opened_mine, clock):
    mine, ledger = opened_mine
    campaign = stage.campaign(stage.spec(rounds={"round_size": 2}))
    now = [0.0]
    daemon = mine.daemon(ledger, stage.store, clock=lambda: now[0])
    for _ in range(2):
        daemon.step()
        stage.submit_other(campaign)
        stage.settle(campaign, [LEFT, LEFT])
    daemon.step()
    assert "its last 2 rounds paid this mine nothing: it is left alone until round 3" in mine.reasons("waiting")[0]
    assert ledger.submission(campaign, 2) is None
    clock[0] += 601
    now[0] += 60
    daemon.step()
    assert ledger.submission(campaign, 2) is not None


def test_no_more_is_put_at_stake_and_posted_than_the_owner_allows(stage, opened_mine, clock):
    mine, ledger = opened_mine
    first, second = stage.campaign(), stage.campaign()
    mine.agree(money={"bond_budget": "0.0015"})
    daemon = mine.daemon(ledger, stage.store)
    daemon.step()
    assert len(stage.submitted(first)) + len(stage.submitted(second)) == 1
    assert "`bond_budget` 0.0015" in mine.reasons("waiting")[0]
    mine.agree(work={"max_submissions_per_day": 1})
    again = mine.daemon(ledger, stage.store)
    again.step()
    assert "`max_submissions_per_day` 1" in mine.reasons("waiting")[-1]
    clock[0] += timedelta(days=400).total_seconds()
    mine.daemon(ledger, stage.store).step()
    assert len(stage.submitted(first)) + len(stage.submitted(second)) == 2
