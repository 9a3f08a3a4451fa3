"""The mine in this process on a real chain: what it posts is right, what it leaves alone has a said reason."""

import fcntl
from dataclasses import replace

import numpy as np
import pytest

from mine.data import gather, match
from mine.errors import AuditError, DataError, PolicyError
from mine.policy.approval import Approval
from mine.records import State
from sonar import syft
from sonar.chain.records import Verdict
from sonar.protocol.errors import SignatureError
from sonar.protocol.messages import hash_admission
from sonar.protocol.payloads import design_matrix
from sonar.units import Address, ether


def test_the_posted_gradient_is_the_plain_training_step(stage, opened_mine):
    mine, ledger = opened_mine
    spec = stage.spec()
    campaign = stage.campaign(spec)

    mine.daemon(ledger, stage.store).step()

    (event,) = stage.submitted(campaign)
    assert event.mine == mine.account.address
    (dataset,) = ledger.datasets()
    statistics = gather(dataset, match(dataset, spec), spec)[0]
    training = spec.training
    wanted = syft.training_map(statistics, epochs=training.epochs, rate=training.rate, l2=training.l2).constant
    assert np.abs(stage.opened(event, stage.paillier, spec) - wanted).max() < 1e-6
    assert ledger.submission(campaign, 0).state is State.SENT
    assert mine.words() == ["campaign", "at risk", "trained", "posted"]


@pytest.mark.parametrize(
    "changes",
    [
        {"feature_map": {"kind": "fourier", "count": 12, "gamma": 0.2}, "training": {"loss": "taylor-logistic"}},
        {"feature_map": {"kind": "polynomial"}, "training": {"batch_size": 16, "class_weights": (1.0, 2.0, 3.0)}},
    ],
    ids=["fourier, logistic", "polynomial, mini-batches, class weights"],
)
def test_the_posted_gradient_is_the_plain_training_on_the_specs_feature_map(stage, opened_mine, changes):
    mine, ledger = opened_mine
    spec = stage.spec(**changes)
    campaign = stage.campaign(spec)

    mine.daemon(ledger, stage.store).step()

    (event,) = stage.submitted(campaign)
    table = np.loadtxt(ledger.datasets()[0].location, delimiter=",", skiprows=1)
    design, targets = design_matrix(spec, table[:, :-1]), np.eye(3)[table[:, -1].astype(int)]
    schedule = spec.training.schedule
    wanted = schedule.training_map(schedule.gather([(design, targets)], *spec.shape)).constant
    assert np.abs(stage.opened(event, stage.paillier, spec) - wanted).max() < 1e-6


def test_what_was_gathered_is_kept_only_for_specs_that_gather_the_same(stage, opened_mine, monkeypatch):
    mine, ledger = opened_mine
    worker, policy = mine.worker(ledger, stage.store), mine.home.policy()
    passes = []
    read = worker.room.gather
    monkeypatch.setattr(worker.room, "gather", lambda *given: passes.append(given) or read(*given))

    def gathers(**changes) -> bool:
        before = len(passes)
        found, _ = worker.gather(ledger.datasets()[0], stage.spec(**changes), policy)
        dataset, wanted = ledger.datasets()[0], stage.spec(**changes)
        fresh, _ = gather(dataset, match(dataset, wanted), wanted)
        name = "gram" if hasattr(fresh, "gram") else "augmented"
        np.testing.assert_array_equal(getattr(found, name), getattr(fresh, name))
        return len(passes) > before

    fourier = {"kind": "fourier", "count": 5, "gamma": 0.2}
    assert gathers()
    assert not gathers(training={"epochs": 7, "rate": 0.5, "l2": 0.1, "loss": "taylor-logistic"})
    assert gathers(training={"class_weights": (1.0, 2.0, 3.0)})
    assert gathers(training={"batch_size": 16})
    assert not gathers(training={"batch_size": 16, "epochs": 7})
    assert gathers(training={"batch_size": 17})
    assert gathers(training={"batch_size": 16, "rate": 0.5})
    assert gathers(feature_map=fourier)
    assert gathers(feature_map={**fourier, "seed": 1})
    assert not gathers(feature_map=fourier)


def test_what_was_gathered_for_a_campaign_of_few_records_is_refused_to_one_of_more(stage, write_csv):
    path = write_csv(stage.folder / "mine.csv", records=60)
    mine = stage.mine(path)
    write_csv(path, records=25)
    with mine.home.ledger() as ledger:
        worker, policy = mine.worker(ledger, stage.store), mine.home.policy()
        (dataset,) = ledger.datasets()
        assert worker.gather(dataset, stage.spec(min_records=20), policy)[0].records == 25
        with pytest.raises(DataError, match="has 25 usable records now, but campaign 'test' needs 50"):
            worker.gather(dataset, stage.spec(min_records=50), policy)


def test_data_that_have_changed_are_not_trained_on_in_mini_batches_before_their_classes_are_counted(stage, write_csv):
    path = write_csv(stage.folder / "mine.csv", records=60)
    mine = stage.mine(path)
    with mine.home.ledger() as ledger:
        worker, policy = mine.worker(ledger, stage.store), mine.home.policy()
        (dataset,) = ledger.datasets()
        of = stage.spec(training={"batch_size": 16})
        worker.gather(dataset, of, policy)
        write_csv(path, records=61)
        with pytest.raises(DataError, match="61 usable records, not the 60 in which the classes were counted"):
            worker.gather(dataset, of, policy)


@pytest.mark.parametrize("change", ["denied", "privacy", "owner"])
def test_a_trained_gradient_is_given_up_where_its_owner_has_changed_his_mind(stage, opened_mine, change):
    mine, ledger = opened_mine
    campaign = stage.campaign(stage.spec())
    worker = mine.worker(ledger, stage.store)
    worker.follow(mine.home.policy())
    prepared = worker.store(worker.prepare(worker.train(ledger.campaign(campaign), mine.home.policy())))
    if change == "denied":
        ledger.approve(Approval(campaign, False, "consent was withdrawn", stage.owner.address, 0.0))
    elif change == "privacy":
        mine.agree(privacy={"mode": "on"})
    else:
        mine.agree(accept={"refuse_owners": [stage.owner.address]})
    mine.daemon(ledger, stage.store).step()
    given_up = ledger.submission(campaign, prepared.round)
    assert given_up.state is State.MISSED
    assert "after it was trained" in given_up.note
    assert ledger.box(given_up) is None
    assert stage.submitted(campaign) == []


def test_a_trained_gradient_is_posted_where_only_money_has_changed(stage, opened_mine):
    mine, ledger = opened_mine
    campaign = stage.campaign(stage.spec())
    worker = mine.worker(ledger, stage.store)
    worker.follow(mine.home.policy())
    worker.prepare(worker.train(ledger.campaign(campaign), mine.home.policy()))
    mine.agree(money={"max_gas_gwei": 500.0})
    mine.daemon(ledger, stage.store).step()
    assert len(stage.submitted(campaign)) == 1


def test_a_mine_posts_once_a_round_and_again_in_the_next_one(stage, opened_mine, next_paillier):
    mine, ledger = opened_mine
    spec = stage.spec(rounds={"round_size": 2})
    campaign = stage.campaign(spec)
    daemon = mine.daemon(ledger, stage.store)
    daemon.step()
    daemon.step()
    assert len(stage.submitted(campaign)) == 1

    stage.submit_other(campaign)
    daemon.step()
    weights = np.arange(np.prod(spec.shape)).reshape(spec.shape) << 16
    model = stage.encrypted(weights, next_paillier, spec)
    stage.settle(campaign, [Verdict.KEPT, Verdict.KEPT], model=model, key=next_paillier.public.key_id)
    daemon.step()

    first, other, second = stage.submitted(campaign)
    assert (first.round, other.round, second.round) == (0, 0, 1)
    judged = ledger.submission(campaign, 0)
    assert (judged.state, judged.verdict, judged.share) == (State.SETTLED, Verdict.KEPT, 500_000)
    assert judged.payout > 0
    assert judged.bond_returned == judged.bond
    assert ledger.submission(campaign, 1).version == 1
    # The second gradient starts from the model that was settled, under its key.
    (dataset,) = ledger.datasets()
    training = syft.training_map(gather(dataset, match(dataset, spec), spec)[0], epochs=100, rate=1.0, l2=1e-3)
    wanted = training.change @ (weights / 2.0**24) + training.constant
    assert np.abs(stage.opened(second, next_paillier, spec) - wanted).max() < 1e-3


def test_a_round_that_nobody_settles_is_expired_and_the_bond_comes_back(stage, opened_mine, advance_time):
    mine, ledger = opened_mine
    campaign = stage.campaign(
        stage.spec(rounds={"round_size": 3, "round_seconds": 60, "settlement_seconds": 600}), seconds=3600
    )
    daemon = mine.daemon(ledger, stage.store)
    daemon.step()
    stage.submit_other(campaign)
    daemon.step()
    assert ledger.submission(campaign, 0).state is State.SENT

    advance_time(1000)
    daemon.step()
    daemon.step()

    assert ledger.submission(campaign, 0).state is State.EXPIRED
    assert stage.client.credit(mine.account.address) == ledger.submission(campaign, 0).bond
    assert ledger.submission(campaign, 1).state is State.SENT
    assert "expired" in mine.words()


def test_expiring_a_round_keeps_other_processes_from_the_same_nonce(stage, opened_mine, advance_time, monkeypatch):
    mine, ledger = opened_mine
    campaign = stage.campaign(
        stage.spec(rounds={"round_size": 3, "round_seconds": 60, "settlement_seconds": 600}), seconds=3600
    )
    worker = mine.worker(ledger, stage.store)
    policy = mine.home.policy()
    worker.follow(policy)
    worker.work(ledger.campaign(campaign), policy)
    worker.follow(policy)
    advance_time(1000)
    send, held = worker.client.send, []

    def watched(*arguments):
        with (mine.home.path / "sending.lock").open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held.append(True)
        return send(*arguments)

    monkeypatch.setattr(worker.client, "send", watched)
    assert worker.expire(ledger.campaign(campaign))
    assert held


def test_a_mine_leaves_a_campaign_after_its_bond_was_taken(stage, opened_mine):
    mine, ledger = opened_mine
    campaign = stage.campaign(stage.spec(rounds={"round_size": 2}))
    daemon = mine.daemon(ledger, stage.store)
    daemon.step()
    stage.submit_other(campaign)
    stage.settle(campaign, [Verdict.COPY, Verdict.LEFT_OUT])
    daemon.step()
    daemon.step()
    assert len([event for event in stage.submitted(campaign) if event.mine == mine.account.address]) == 1
    (reason,) = mine.reasons("declined")
    assert "leave_when_bond_is_lost" in reason


def test_a_mine_leaves_after_too_many_unpaid_rounds_and_returns_when_the_policy_changes(stage, opened_mine):
    mine, ledger = opened_mine
    mine.agree(work={"max_unpaid_rounds": 1})
    campaign = stage.campaign(stage.spec(rounds={"round_size": 2}))
    daemon = mine.daemon(ledger, stage.store)
    daemon.step()
    stage.submit_other(campaign)
    stage.settle(campaign, [Verdict.LEFT_OUT, Verdict.LEFT_OUT])
    daemon.step()
    (reason,) = mine.reasons("declined")
    assert "max_unpaid_rounds" in reason
    mine.agree(work={"max_unpaid_rounds": 2})
    daemon.step()
    assert ledger.submission(campaign, 1).state is State.SENT


@pytest.mark.parametrize(
    ("rounds", "payout", "reason"),
    [
        ({"round_size": 1, "min_mines": 1}, {"target": 900_000}, "min_mines"),
        ({}, {"target": 900_000, "bond": int(ether(1))}, "max_bond"),
    ],
)
def test_a_campaign_outside_the_policy_is_left_alone_with_the_setting_named(stage, opened_mine, rounds, payout, reason):
    mine, ledger = opened_mine
    campaign = stage.campaign(stage.spec(rounds=rounds, payout=payout))
    mine.daemon(ledger, stage.store).step()
    assert stage.submitted(campaign) == []
    assert reason in mine.reasons("declined")[0]


def test_a_capsule_that_the_owner_does_not_trust_gets_nothing(stage, opened_mine):
    mine, ledger = opened_mine
    stranger = stage.new_account()
    campaign = stage.campaign(oracle=stranger)
    daemon = mine.daemon(ledger, stage.store)
    daemon.step()
    assert stage.submitted(campaign) == []
    assert "not trusted" in mine.reasons("declined")[0]
    mine.agree(accept={"capsules": [stranger.address]})
    daemon.step()
    assert len(stage.submitted(campaign)) == 1


def test_a_spec_that_promises_other_terms_than_the_contract_holds_is_refused(stage, opened_mine):
    mine, ledger = opened_mine
    campaign = stage.campaign(stage.spec(), terms_spec=stage.spec(payout={"target": 900_000, "slash": 1_000_000}))
    mine.daemon(ledger, stage.store).step()
    assert stage.submitted(campaign) == []
    assert "slash" in mine.reasons("declined")[0]


def test_a_model_under_another_key_than_the_chain_names_is_not_trained(stage, opened_mine, next_paillier):
    mine, ledger = opened_mine
    campaign = stage.campaign(key=next_paillier.public.key_id)
    mine.daemon(ledger, stage.store).step()
    assert stage.submitted(campaign) == []
    assert "key" in mine.reasons("declined")[0]


def test_a_model_in_another_encoding_than_the_spec_promises_is_not_trained(stage, opened_mine):
    mine, ledger = opened_mine
    spec = stage.spec()
    model = stage.encrypted(
        np.zeros(spec.shape, dtype=int), stage.paillier, spec, bound=spec.encoding.weight_bound // 2
    )
    campaign = stage.campaign(spec, model=model)
    mine.daemon(ledger, stage.store).step()
    assert stage.submitted(campaign) == []
    assert "bound" in mine.reasons("declined")[0]


@pytest.mark.parametrize("model", [b"not a model", b"\x00" * 9, b"x" * 1_000_000], ids=["text", "zeros", "too large"])
def test_bytes_that_are_no_model_are_declined_and_do_not_stop_other_campaigns(stage, opened_mine, model):
    mine, ledger = opened_mine
    bad = stage.campaign(model=model)
    good = stage.campaign()
    mine.daemon(ledger, stage.store).step()
    assert stage.submitted(bad) == []
    assert len(stage.submitted(good)) == 1
    assert len(mine.reasons("declined")) == 1


def test_a_small_key_is_refused_unless_a_test_says_otherwise(stage, opened_mine):
    from mine.worker import Options, Worker

    mine, ledger = opened_mine
    campaign = stage.campaign()
    worker = Worker(mine.home, ledger, mine.account, mine.network, stage.store, lambda *_: None, Options())
    worker.follow(mine.home.policy())
    with pytest.raises(syft.SyftError, match="2048"):
        worker.work(ledger.campaign(campaign), mine.home.policy())


def test_a_mine_without_data_says_how_to_add_some(stage):
    mine = stage.mine()
    stage.campaign()
    empty = stage.mine()
    with empty.home.ledger() as ledger:
        for dataset in ledger.datasets():
            ledger.remove_dataset(dataset.name)
        empty.daemon(ledger, stage.store).step()
    assert "mine add" in empty.reasons("declined")[0]
    assert mine.told == []


def test_an_unfunded_mine_waits_and_posts_once_it_is_funded(stage, funder):
    mine = stage.mine(ether_held=0)
    campaign = stage.campaign()
    now = [0.0]
    with mine.home.ledger() as ledger:
        daemon = mine.daemon(ledger, stage.store, clock=lambda: now[0])
        daemon.step()
        assert mine.account.address in mine.reasons("waiting")[0]
        assert ledger.submission(campaign, 0) is None, "it is told before hours of training"
        funder(mine.account.address, 10**18)
        now[0] += 3600
        daemon.step()
        assert ledger.submission(campaign, 0).state is State.SENT
    assert mine.words().count("trained") == 1


def test_a_store_that_lost_everything_gets_the_pending_gradients_again(stage, opened_mine):
    mine, ledger = opened_mine
    campaign = stage.campaign()
    mine.daemon(ledger, stage.store).step()
    (event,) = stage.submitted(campaign)
    for file in (stage.folder / "store").rglob("*"):
        if file.is_file():
            file.unlink()
    mine.daemon(ledger, stage.store).step()
    stage.opened(event, stage.paillier, stage.spec())


def test_a_lost_ledger_does_not_post_twice(stage):
    mine = stage.mine()
    campaign = stage.campaign()
    with mine.home.ledger() as ledger:
        mine.daemon(ledger, stage.store).step()
        datasets = ledger.datasets()
    for name in ("mine.db", "mine.db-wal", "mine.db-shm"):
        mine.home.path.joinpath(name).unlink(missing_ok=True)
    with mine.home.ledger() as ledger:
        # What stands in the log was sealed by a ledger that is gone: nothing is done until the owner says so.
        with pytest.raises(AuditError, match="was not written by this mine's ledger"):
            ledger.add_dataset(datasets[0])
        ledger.restart_audit("the disk of the ledger is broken")
        ledger.add_dataset(datasets[0])
        mine.daemon(ledger, stage.store).step()
        assert ledger.submission(campaign, 0).state is State.SENT
    assert len(stage.submitted(campaign)) == 1


@pytest.mark.parametrize("document", [b"{}", b"not json", b"[" * 5000, b"x" * 1_100_000])
def test_a_malformed_spec_is_declined(stage, opened_mine, document):
    mine, ledger = opened_mine
    campaign = stage.campaign(spec_bytes=document)
    mine.daemon(ledger, stage.store).step()
    assert stage.submitted(campaign) == []
    assert len(mine.reasons("declined")) == 1


def test_a_node_that_invents_an_admission_is_not_believed(stage, opened_mine):
    mine, ledger = opened_mine
    campaign = stage.campaign()
    worker, policy = mine.worker(ledger, stage.store), mine.home.policy()
    worker.follow(policy)
    known = ledger.campaign(campaign)
    forged = replace(known, admission=replace(known.admission, sealing_key=bytes(32)))
    with pytest.raises(PolicyError, match="does not hash to its id"):
        worker.offer(forged, policy)
    # An attacker can make a consistent campaign of her own, but not the trusted Capsule's signature under it.
    by_attacker = stage.campaign(stage.spec(name="trap"), oracle=stage.new_account())
    worker.follow(policy)
    theirs = ledger.campaign(by_attacker)
    renamed = replace(theirs.admission, oracle=Address(stage.attester.address))
    with pytest.raises(SignatureError):
        worker.offer(replace(theirs, id=hash_admission(stage.domain, renamed), admission=renamed), policy)
    assert worker.offer(known, policy).spec.name == "test"


def test_the_largest_data_set_that_fits_is_trained(stage, write_csv):
    small = write_csv(stage.folder / "small.csv", records=30)
    large = write_csv(stage.folder / "large.csv", records=90)
    other = write_csv(stage.folder / "other.csv", records=300, names=["p", "q", "r", "s"])
    mine = stage.mine(small, large, other)
    stage.campaign()
    with mine.home.ledger() as ledger:
        mine.daemon(ledger, stage.store).step()
    (trained,) = [facts for what, facts in mine.told if what == "trained"]
    assert (trained["dataset"], trained["records"]) == ("large", 90)


def test_too_few_records_for_the_policy_are_not_trained_on(stage, opened_mine):
    mine, ledger = opened_mine
    mine.agree(data={"min_records": 61})
    campaign = stage.campaign()
    mine.daemon(ledger, stage.store).step()
    assert stage.submitted(campaign) == []
    assert "min_records" in mine.reasons("declined")[0]


def test_records_that_class_weights_make_too_few_for_the_policy_are_not_trained_on(stage, opened_mine):
    mine, ledger = opened_mine
    mine.agree(data={"min_records": 22})
    # 20 records of each class: (20 * 62)^2 / (20 * (1 + 1 + 3600)) = 21.3
    campaign = stage.campaign(stage.spec(training={"class_weights": (1.0, 1.0, 60.0)}))
    mine.daemon(ledger, stage.store).step()
    assert stage.submitted(campaign) == []
    assert "count as 21.3, fewer than `min_records` 22" in mine.reasons("declined")[0]


def test_a_spoilt_file_is_declined_until_it_is_mended(stage, write_csv):
    path = write_csv(stage.folder / "mine.csv")
    mine = stage.mine(path)
    campaign = stage.campaign()
    good = path.read_text()
    path.write_text(good + "1,2,3,nan,0\n")
    with mine.home.ledger() as ledger:
        daemon = mine.daemon(ledger, stage.store)
        daemon.step()
        assert "record 61" in mine.reasons("declined")[0]
        path.write_text(good)
        daemon.step()
    assert len(stage.submitted(campaign)) == 1
