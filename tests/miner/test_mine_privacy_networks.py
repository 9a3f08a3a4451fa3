"""A mine with privacy on and campaigns for networks, on a real chain: each round is paid for once, and sent as made."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mine.learning
from mine.apart.workroom import Limits, Workroom
from mine.data import inspect, match
from mine.privacy.accountant import epsilon_of
from mine.privacy.steps import Noise
from mine.records import State
from sonar import syft
from sonar.chain.records import Verdict
from sonar.protocol.payloads import encode_weights
from sonar.protocol.spec import Encoding, Spec

PRIVATE: dict[str, Any] = {"mode": "on", "epsilon": 1.0, "round_epsilon": 0.8, "budget": 1.3, "max_noise": 100.0}
TAKING = {"modes": ["encrypted-linear", "network"], "min_mines_of_networks": 2}
LAYERS = (
    {"op": "linear", "of": (0,), "units": 3},
    {"op": "tanh", "of": (1,)},
    {"op": "linear", "of": (2,), "units": 3},
)


def network(stage: Any, **more: Any) -> Spec:
    """The spec of a small network on the stage's data."""
    terms = {"graph": {"takes": (4,), "layers": LAYERS}, "training": {"epochs": 2, "batch_size": 30}}
    return stage.spec(mode="network", network=terms, encoding=Encoding.for_network(), **more)


@pytest.fixture(autouse=True)
def weights(monkeypatch: pytest.MonkeyPatch, stage: Any) -> list[int]:
    """The Capsule's part, as the stage plays it: zero weights for whoever asks. The versions that were asked for."""
    asked: list[int] = []

    def given(_network: object, _account: object, offer: Any, version: int) -> bytes:
        asked.append(version)
        return encode_weights(np.zeros(offer.spec.shape, dtype=np.int64))

    monkeypatch.setattr(mine.learning, "fetch_weights", given)
    return asked


def settle_without_gain(stage: Any, campaign: Any) -> None:
    while stage.client.round(campaign).open:
        stage.submit_other(campaign)
    stage.settle(campaign, [Verdict.LEFT_OUT] * 3)


def test_a_network_is_trained_with_noise_and_each_round_is_paid_for(stage, opened_mine, weights):
    mine, ledger = opened_mine
    mine.agree(privacy=PRIVATE, accept=TAKING)
    spec = network(stage)
    campaign = stage.campaign(spec)
    daemon = mine.daemon(ledger, stage.store)
    daemon.step()
    (event,) = stage.submitted(campaign)
    change = stage.opened(event, stage.paillier, spec).reshape(-1)
    assert np.count_nonzero(change[: spec.network.graph.size]) > 20
    assert not change[spec.network.graph.size :].any()
    told = [word for word in mine.words() if word not in {"reading", "training"}]  # which a slow machine tells of
    assert told == ["campaign", "released", "at risk", "trained", "posted"]
    (told,) = [facts for word, facts in mine.told if word == "released"]
    assert (told["round"], told["epsilon"]) == (0, pytest.approx(0.8, abs=1e-3))
    assert ledger.plain_gradients() == []
    assert weights == [0]

    settle_without_gain(stage, campaign)
    daemon.step()
    first, second = ledger.charges(1)
    assert (first.campaign, first.round, second.round) == (campaign, 0, 1)
    entries = [json.loads(entry.facts) for entry in ledger.audit_entries() if entry.kind == "released"]
    assert [(entry["campaign"], entry["round"]) for entry in entries] == [("0x" + campaign.hex(), at) for at in (0, 1)]
    settle_without_gain(stage, campaign)
    daemon.step()
    assert [event.round for event in stage.submitted(campaign) if event.mine == mine.account.address] == [0, 1]
    assert "each round of a network costs epsilon 0.8 anew, and this one would bring" in mine.reasons("declined")[-1]
    (budget,) = json.loads(mine.call("privacy", "--json").stdout)["budgets"]
    assert (budget["statistics"], budget["rounds"], budget["rounds_left"], budget["unknown_gradients"]) == (0, 2, 0, 0)


def test_a_linear_campaign_and_a_network_spend_one_budget(stage, opened_mine):
    mine, ledger = opened_mine
    mine.agree(privacy={**PRIVATE, "max_loss": 1.0, "budget": 1.5}, accept=TAKING)
    linear, net = stage.campaign(), stage.campaign(network(stage))
    mine.daemon(ledger, stage.store).step()
    assert (len(stage.submitted(linear)), len(stage.submitted(net))) == (1, 1)
    assert len(ledger.charges(1)) == 2
    assert 1.3 < epsilon_of(ledger.spent(1), 1e-6) < 1.4


def test_after_a_stop_the_gradient_that_was_made_is_sent(stage, opened_mine, weights):
    mine, ledger = opened_mine
    mine.agree(privacy=PRIVATE, accept=TAKING)
    campaign = stage.campaign(network(stage))
    worker = mine.worker(ledger, stage.store)
    worker.follow(mine.home.policy())
    known = ledger.campaign(campaign)
    made = worker.train(known, mine.home.policy())
    # Here it stops, before anything of it is written down besides what it cost and what it is.
    again = mine.worker(ledger, stage.store)
    served = again.train(known, mine.home.policy())
    assert served.gradient == made.gradient
    assert weights == [0], "its Capsule is not asked again"
    assert served.provenance.rows == made.gradient.records == 60
    submission = again.prepare(served)
    assert submission.gradient == made.gradient.digest
    assert again.post(submission, mine.home.policy()).state is State.SENT
    assert len(ledger.charges(1)) == 1


def test_after_a_stop_no_gradient_is_sent_of_records_that_others_have_taken_the_place_of(stage, opened_mine):
    mine, ledger = opened_mine
    mine.agree(privacy={**PRIVATE, "budget": 3.0}, accept=TAKING)
    campaign = stage.campaign(network(stage))
    worker = mine.worker(ledger, stage.store)
    worker.follow(mine.home.policy())
    made = worker.train(ledger.campaign(campaign), mine.home.policy())
    # Here it stops, and its owner puts other records in the place of these.
    (former,) = ledger.datasets()
    path = Path(former.location)
    head, first, *others = path.read_text().splitlines()
    path.write_text("\n".join([head, first, first, *others[1:]]) + "\n")
    ledger.add_dataset(inspect(former.name, path, former.target), replace=True)
    other = mine.worker(ledger, stage.store).train(ledger.campaign(campaign), mine.home.policy())
    assert other.gradient != made.gradient
    assert len(ledger.charges(1)) == 2


def test_a_rehearsal_charges_nothing_and_says_what_a_gradient_would(stage, opened_mine):
    mine, ledger = opened_mine
    mine.agree(privacy=PRIVATE, accept=TAKING)
    campaign = stage.campaign(network(stage))
    worker = mine.worker(ledger, stage.store)
    worker.follow(mine.home.policy())
    trained = worker.train(ledger.campaign(campaign), mine.home.policy(), rehearse=True)
    assert trained.noised
    assert [ledger.charges(pool) for pool in ledger.pools()] == [[]]
    (told,) = [facts for word, facts in mine.told if word == "rehearsed"]
    assert told["epsilon"] == pytest.approx(0.8, abs=1e-3)


def test_an_older_home_is_charged_for_each_round_of_a_network_that_it_does_not_know(stage, opened_mine):
    mine, ledger = opened_mine
    mine.agree(privacy={**PRIVATE, "budget": 3.0}, accept=TAKING, work={"back_off": False})
    ledger.close()
    backup = stage.folder / "backup"
    shutil.copytree(mine.home.path, backup)
    campaign = stage.campaign(network(stage))
    with mine.home.ledger() as lost:
        daemon = mine.daemon(lost, stage.store)
        for _ in range(2):
            daemon.step()
            settle_without_gain(stage, campaign)
    shutil.rmtree(mine.home.path)
    shutil.copytree(backup, mine.home.path)
    with mine.home.ledger() as older:
        mine.daemon(older, stage.store).step()
        assert [(charge.round, charge.own) for charge in older.charges(1)] == [(0, False), (1, False), (2, True)]
        assert epsilon_of(older.spent(1), 1e-6) == pytest.approx(
            epsilon_of(3 * older.charges(1)[2].rho, 1e-6), rel=1e-4
        )


def test_whether_a_mine_posts_does_not_depend_on_how_many_records_there_are_now(stage, opened_mine):
    mine, ledger = opened_mine
    mine.agree(privacy=PRIVATE, accept=TAKING)
    path = Path(ledger.datasets()[0].location)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:4], "1.0,,,oops,nobody"]) + "\n")
    campaign = stage.campaign(network(stage, min_records=50))
    mine.daemon(ledger, stage.store).step()
    assert len(stage.submitted(campaign)) == 1, mine.told


def test_a_process_apart_without_files_and_network_trains_with_noise(stage, tmp_path, write_csv: Callable[..., Path]):
    dataset, spec, warned = inspect("d", write_csv(tmp_path / "d.csv"), "target"), network(stage), []
    room = Workroom(warned.append, allow_insecure_small_key=True)
    model = stage.encrypted(np.zeros(spec.shape, dtype=int), stage.paillier, spec)
    given = encode_weights(np.zeros(spec.shape, dtype=np.int64))

    def learned(noise: Noise, limits: Limits) -> Any:
        told: list[float] = []
        gradient, read = room.learn_with_noise(
            spec, model, stage.paillier.public.key_id, given, dataset, match(dataset, spec), noise, limits, told.append
        )
        assert gradient.records == read.used == 60
        return syft.load_gradient(gradient.payload, stage.paillier.public)

    limits = Limits(seconds=120, threads=1, memory=4 << 30)
    assert tuple(learned(Noise(1 << 30, 1.0, 60), limits).shape) == spec.shape
