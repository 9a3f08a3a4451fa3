"""Campaigns that change while a mine works for them: topped up, handed over, paid in tokens."""

import numpy as np
import pytest

from mine.ledger import Ledger
from mine.overview import campaign_rows, campaign_table, sentence
from mine.records import Aim, Purpose, State
from mine.status import status_report, status_table
from sonar.chain import calls
from sonar.chain.events import BountyRaised, CampaignCreated, CampaignTransferred, CampaignTransferStarted
from sonar.chain.records import NATIVE, Verdict
from sonar.units import Address, Wei, ether, round_ether


def hand_over(stage, campaign):
    """Gives a campaign to another account."""
    heir = stage.new_account()
    stage.client.transact(calls.transfer_campaign(campaign, Address(heir.address)))
    stage.client_for(heir).transact(calls.accept_campaign(campaign))
    return heir


def test_a_bounty_that_rises_makes_a_campaign_worth_the_work(stage, opened_mine):
    mine, ledger = opened_mine
    mine.agree(money={"min_bounty_left": "2"})
    campaign = stage.campaign()
    daemon = mine.daemon(ledger, stage.store)
    daemon.step()
    daemon.step()
    stage.client.transact(calls.top_up(campaign, ether("0.5")))
    daemon.step()
    assert stage.submitted(campaign) == []
    assert mine.reasons("declined") == [
        "1 ether of its bounty is left, less than `min_bounty_left` 2 in [money]",
        "1.5 ether of its bounty is left, less than `min_bounty_left` 2 in [money]",
    ]
    stage.client_for(stage.new_account()).transact(calls.top_up(campaign, ether("0.5")))
    daemon.step()
    assert len(stage.submitted(campaign)) == 1
    raised = [facts for what, facts in mine.told if what == "raised"]
    assert [(facts["bounty_wei"], facts["token"]) for facts in raised] == [(ether("1.5"), None), (ether(2), None)]
    assert sentence("raised", raised[1]) == f"campaign 0x{campaign.hex()[:12]}: the bounty is 2 ether now"


def test_a_top_up_does_not_bring_back_a_campaign_that_was_left_for_another_reason(stage, opened_mine):
    mine, ledger = opened_mine
    campaign = stage.campaign(oracle=stage.new_account())
    daemon = mine.daemon(ledger, stage.store)
    for _ in range(2):
        daemon.step()
        stage.client.transact(calls.top_up(campaign, Wei(1)))
    daemon.step()
    assert stage.submitted(campaign) == []
    assert len(mine.reasons("declined")) == 1, "the same reason is said once"


def test_a_campaign_that_changes_hands_in_mid_round_is_paid_and_mined_on(stage, opened_mine, next_paillier):
    mine, ledger = opened_mine
    spec = stage.spec(rounds={"round_size": 2})
    campaign = stage.campaign(spec)
    daemon = mine.daemon(ledger, stage.store)
    daemon.step()
    heir = hand_over(stage, campaign)
    stage.client.transact(calls.top_up(campaign, ether(1)))
    stage.submit_other(campaign)
    model = stage.encrypted(np.zeros(spec.shape, dtype=int), next_paillier, spec)
    stage.settle(campaign, [Verdict.KEPT, Verdict.KEPT], model=model, key=next_paillier.public.key_id)
    daemon.step()
    first = ledger.submission(campaign, 0)
    assert (first.state, first.verdict) == (State.SETTLED, Verdict.KEPT)
    assert first.payout == stage.client.campaign(campaign).paid // 2 > 0
    assert ledger.submission(campaign, 1).state is State.SENT
    assert ledger.campaign(campaign).owner == heir.address
    worker = mine.worker(ledger, stage.store)
    (row,) = campaign_rows(worker, mine.home.policy())
    assert (row["owner"], row["bounty_wei"], row["token"]) == (heir.address, ether(2), None)
    assert f"  {round_ether(ether(2) - stage.client.campaign(campaign).paid)} ether\n" in campaign_table([row])


def test_a_policy_about_owners_sees_who_owns_a_campaign_now(stage, opened_mine, next_paillier):
    mine, ledger = opened_mine
    mine.agree(accept={"owners": [stage.owner.address.lower()]})
    spec = stage.spec(rounds={"round_size": 2})
    campaign = stage.campaign(spec)
    daemon = mine.daemon(ledger, stage.store)
    daemon.step()
    heir = hand_over(stage, campaign)
    stage.submit_other(campaign)
    model = stage.encrypted(np.zeros(spec.shape, dtype=int), next_paillier, spec)
    stage.settle(campaign, [Verdict.KEPT, Verdict.KEPT], model=model, key=next_paillier.public.key_id)
    daemon.step()
    assert ledger.submission(campaign, 1) is None
    assert mine.reasons("declined") == [
        f"it belongs to {heir.address}: add that to `owners` in [accept] to take it",
    ]
    stage.client_for(heir).transact(calls.transfer_campaign(campaign, Address(stage.owner.address)))
    daemon.step()
    assert ledger.submission(campaign, 1) is None, "an offer is not a hand-over"
    stage.client.transact(calls.accept_campaign(campaign))
    daemon.step()
    assert ledger.submission(campaign, 1).state is State.SENT


def test_the_ledger_knows_the_last_owner_and_no_offer_that_was_not_accepted(stage, tmp_path):
    campaign = stage.campaign()
    heir = hand_over(stage, campaign)
    stage.client_for(heir).transact(calls.transfer_campaign(campaign, Address(stage.owner.address)))
    mine = stage.mine()
    with Ledger(tmp_path / "other.db") as ledger:
        worker = mine.worker(ledger, stage.store)
        events = worker.follow(mine.home.policy())
        assert [type(event) for event in events] == [
            CampaignCreated, CampaignTransferStarted, CampaignTransferred, CampaignTransferStarted,
        ]  # fmt: skip
        assert ledger.campaign(campaign).owner == heir.address
        stage.client.transact(calls.accept_campaign(campaign))
        worker.follow(mine.home.policy())
        assert ledger.campaign(campaign).owner == stage.owner.address
        stage.client.transact(calls.top_up(campaign, Wei(5)))
        (event,) = worker.follow(mine.home.policy())
        assert isinstance(event, BountyRaised)


@pytest.fixture
def token(stage, new_token):
    """A token of which the owner holds 10,000."""
    return Address(new_token("HonestToken", {stage.owner.address: 10_000}).address)


def test_pay_in_a_token_is_told_apart_from_ether_and_withdrawn(stage, opened_mine, token):
    mine, ledger = opened_mine
    mine.agree(money={"tokens": [token], "min_bounty_left": "0.5"})
    spec = stage.spec(rounds={"round_size": 2})
    campaign = stage.campaign(spec, bounty=Wei(9_000), token=token)
    daemon = mine.daemon(ledger, stage.store)
    daemon.step()
    stage.submit_other(campaign)
    model = stage.encrypted(np.zeros(spec.shape, dtype=int), stage.paillier, spec)
    stage.settle(campaign, [Verdict.KEPT, Verdict.KEPT], model=model, key=stage.paillier.public.key_id)
    daemon.step()
    (judged,) = [facts for what, facts in mine.told if what == "judged"]
    assert (judged["payout_wei"], judged["token"]) == (2_000, token)

    report = status_report(mine.home.path, mine.network_file)
    assert [(row["payout_wei"], row["token"]) for row in report["submissions"]] == [(2_000, token), (None, token)]
    assert report["earned_wei"] == 0
    assert report["tokens"] == [{"token": token, "earned": 2_000, "credit": 2_000}]
    shown = status_table(report)
    assert f"token     2000 of {token} earned, 2000 to withdraw" in shown
    assert f"kept, 2000 of token {token}" in shown
    rows = campaign_rows(mine.worker(ledger, stage.store), mine.home.policy())
    assert f"5000 of token {token}" in campaign_table(rows)
    assert mine.call("withdraw", "--token", token).stdout == f"2000 of {token} to {mine.account.address}\n"
    assert stage.client.credit(Address(mine.account.address), token) == 0


def test_a_token_that_the_owner_lists_is_withdrawn_by_itself_once_a_day(stage, opened_mine, token):
    mine, ledger = opened_mine
    now = [1_700_000_000.0]
    mine.clock = lambda: now[0]
    mine.agree(money={"tokens": [token]})
    spec = stage.spec(rounds={"round_size": 2})
    campaign = stage.campaign(spec, bounty=Wei(9_000), token=token)
    model = stage.encrypted(np.zeros(spec.shape, dtype=int), stage.paillier, spec)
    daemon = mine.daemon(ledger, stage.store)

    def play_round(score):
        daemon.step()
        stage.submit_other(campaign)
        kept = [Verdict.KEPT, Verdict.KEPT]
        stage.settle(campaign, kept, model=model, key=stage.paillier.public.key_id, score=score)
        daemon.step()

    play_round(500_000)
    owed = stage.client.credit(Address(mine.account.address), token)
    assert owed == 2_000, "it is not listed"
    mine.agree(money={"tokens": [token], "withdraw_tokens": [token]})
    daemon.step()
    assert stage.client.credit(Address(mine.account.address), token) == 0
    (told,) = [facts for what, facts in mine.told if what == "withdrawn"]
    assert (told["amount_wei"], told["token"], told["to"]) == (2_000, token, mine.account.address)
    assert sentence("withdrawn", told) == f"withdrawn 2000 of token {token} to {mine.account.address}"

    (sent,) = ledger.transactions(daemon.worker.deployment, aim=Aim(Purpose.WITHDRAW, token=token))
    now[0] = sent.time + 1
    play_round(600_000)
    assert stage.client.credit(Address(mine.account.address), token) > 0, "a day is not over"
    now[0] = sent.time + 24 * 3600 + 1
    daemon.step()
    assert stage.client.credit(Address(mine.account.address), token) == 0


def test_a_token_that_does_not_move_keeps_no_other_from_being_withdrawn(stage, opened_mine, token, new_token):
    mine, ledger = opened_mine
    paused = new_token("PausableToken", {stage.owner.address: 9_000})
    tokens = [paused.address, token]
    mine.agree(money={"tokens": tokens})
    spec = stage.spec(rounds={"round_size": 2})
    model = stage.encrypted(np.zeros(spec.shape, dtype=int), stage.paillier, spec)
    daemon = mine.daemon(ledger, stage.store)
    for one in tokens:
        campaign = stage.campaign(spec, bounty=Wei(9_000), token=one)
        daemon.step()
        stage.submit_other(campaign)
        kept = [Verdict.KEPT, Verdict.KEPT]
        stage.settle(campaign, kept, model=model, key=stage.paillier.public.key_id)
        daemon.step()
    paused.functions.pause(True).transact({"from": stage.client.web3.eth.accounts[0]})
    mine.agree(money={"tokens": tokens, "withdraw_tokens": tokens})
    daemon.step()
    left = [stage.client.credit(Address(mine.account.address), one) for one in tokens]
    assert left[0] > 0
    assert left[1] == 0
    assert daemon.reasons().keys() == {"withdrawal"}


def test_verdicts_are_told_in_the_coin_that_pays():
    facts = {"campaign": "0x" + "ab" * 32, "round": 1, "verdict": "left_out", "share_ppm": 0, "payout_wei": 10**17}
    assert sentence("judged", {**facts, "token": None}).endswith("left out, share 0.00%, 0.1 ether")
    token = "0x" + "70" * 20
    assert sentence("judged", {**facts, "token": token}).endswith(f"100000000000000000 of token {token}")
    assert NATIVE not in sentence("judged", {**facts, "token": None})


def test_a_gradient_of_a_data_set_that_was_removed_is_not_posted(stage, opened_mine):
    mine, ledger = opened_mine
    campaign = stage.campaign()
    worker, policy = mine.worker(ledger, stage.store), mine.home.policy()
    worker.follow(policy)
    trained = worker.train(ledger.campaign(campaign), policy)
    submission = worker.prepare(trained)
    assert ledger.unsigned_of(trained.dataset.name) == 1
    ledger.remove_dataset(trained.dataset.name)
    after = worker.post(submission, policy)
    assert after.state is State.MISSED
    assert after.note == f"the data set {trained.dataset.name!r} was removed after it was trained"
    assert stage.submitted(campaign) == []
    assert ledger.box(after) is None


def test_a_gradient_of_a_data_set_that_another_took_the_name_of_is_not_posted(stage, opened_mine, write_csv, tmp_path):
    mine, ledger = opened_mine
    campaign = stage.campaign()
    worker, policy = mine.worker(ledger, stage.store), mine.home.policy()
    worker.follow(policy)
    trained = worker.train(ledger.campaign(campaign), policy)
    submission = worker.prepare(trained)
    name = trained.dataset.name
    ledger.remove_dataset(name)
    mine.add(write_csv(tmp_path / f"{name}.csv", seed=9))
    after = worker.post(submission, policy)
    assert (after.state, after.note) == (State.MISSED, f"the data set {name!r} is another one since it was trained")
    assert stage.submitted(campaign) == []


def test_a_gradient_of_a_data_set_that_was_added_again_as_it_was_is_posted(stage, opened_mine):
    mine, ledger = opened_mine
    campaign = stage.campaign()
    worker, policy = mine.worker(ledger, stage.store), mine.home.policy()
    worker.follow(policy)
    trained = worker.train(ledger.campaign(campaign), policy)
    submission = worker.prepare(trained)
    ledger.add_dataset(ledger.remove_dataset(trained.dataset.name))
    assert worker.post(submission, policy).state is State.SENT
