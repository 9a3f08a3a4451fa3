"""The worker on a real chain: rounds judged, settled and paid, restarts, and what a bad mine can post."""

import dataclasses
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from worker_checks import steps

from capsule.probe import PROBE
from capsule.sandbox import Limits, Sandbox, SandboxError
from capsule.secret import decrypt
from capsule.state import Told
from capsule.worker.background import Background
from sonar.chain.calls import close_campaign, create_campaign, expire_round, settle_round, submit_gradient
from sonar.chain.cursor import campaign_events
from sonar.chain.events import GradientSubmitted
from sonar.chain.records import Entry, Status, Verdict
from sonar.protocol.messages import hash_admission, verify_settlement
from sonar.protocol.payloads import decode_weights
from sonar.protocol.sealing import BoxContext, Purpose, SealingKeyPair, open_box_for, seal
from sonar.storage import Artifact, StoreUnavailableError, open_store
from sonar.syft import (
    Obfuscator,
    dump_gradient,
    dump_product,
    encrypt,
    load_gradient,
    load_model,
    load_product,
    product,
    rerandomise,
)
from sonar.units import PPM, Address, Ppm, digest_of, ether


def verdicts(world: Any, campaign: Any, number: int = 0) -> list[Verdict]:
    return [outcome.verdict for outcome in world.client().round(campaign.id, number).settlement.outcomes]


def test_a_full_round_is_judged_settled_paid_and_published(world: Any, scientist: Any) -> None:
    campaign = scientist.campaign()
    before = campaign.model()
    mines = [campaign.submit() for _ in range(3)]
    steps(world)
    report = world.client().round(campaign.id, 0)
    verify_settlement(world.domain, report.settlement, report.signature, Address(world.attester.address))
    record = world.chain.campaign(campaign.id)
    assert record.version == 1
    assert record.score == report.settlement.score > 800_000
    paid = [world.chain.credit(Address(mine.address)) for mine in mines]
    bond = record.terms.bond
    kept = [outcome.verdict is Verdict.KEPT for outcome in report.settlement.outcomes]
    assert all((credit > bond) == keep for credit, keep in zip(paid, kept, strict=True))
    assert all(reason.startswith("kept") == keep for reason, keep in zip(report.reasons, kept, strict=True))

    # Anyone can recompute the product from public artifacts, and it is the next model at another scale.
    gradients, weights = [], []
    for outcome, artifact in zip(report.settlement.outcomes, report.published, strict=True):
        assert (artifact is not None) == (outcome.verdict is Verdict.KEPT)
        if artifact is not None:
            gradients.append(load_gradient(world.store.get(artifact, max_bytes=10**6), before.key))
            weights.append(outcome.weight)
    again = product(before, gradients, weights, report.settlement.exponent)
    assert again.layout == gradients[0].layout == campaign.draft.parsed.encoding.gradient_layout(before.key, 3)
    assert again.rows_per_plaintext == 2
    assert digest_of(dump_product(again)) == report.settlement.product
    place = Artifact(report.settlement.product_cid, report.settlement.product)
    stored = load_product(world.store.get(place, max_bytes=10**6), before.key)
    exact = decrypt(world.capsule.keys.secret(before.key.key_id), stored)
    after = campaign.model()
    assert after.key.key_id == report.settlement.key != before.key.key_id
    found = decrypt(world.capsule.keys.secret(after.key.key_id), after)
    shift = stored.scale - after.scale
    assert (found == (exact + (1 << (shift - 1))) // (1 << shift)).all()


def test_the_next_round_is_trained_from_the_new_model_under_its_fresh_key(world: Any, scientist: Any) -> None:
    campaign = scientist.campaign()
    mines = [campaign.submit() for _ in range(3)]
    steps(world)
    for mine in mines:
        campaign.submit(mine)
    steps(world)
    first, second = (world.client().round(campaign.id, number).settlement for number in (0, 1))
    assert second.score >= first.score
    assert world.chain.campaign(campaign.id).score == second.score
    assert world.chain.round(campaign.id).number == 2


def test_a_round_that_is_not_full_is_judged_after_its_time_and_not_before(world: Any, scientist: Any) -> None:
    campaign = scientist.campaign()
    for _ in range(2):
        campaign.submit()
    steps(world)
    assert world.chain.round(campaign.id).number == 0
    world.advance_time(61)
    steps(world)
    assert world.chain.round(campaign.id).number == 1
    assert verdicts(world, campaign) == [Verdict.KEPT] * 2


def test_a_round_of_poison_leaves_the_model_and_pays_nobody(world: Any, scientist: Any) -> None:
    campaign = scientist.campaign()
    flat = np.zeros(campaign.draft.parsed.shape, dtype=object)
    model = campaign.model()
    for sign in (1, -1, 2):
        values = flat.copy()
        values[-1, :] = [sign * 1000, 0, 0]
        values[0, 1] = sign
        campaign.submit(data=gradient_of(campaign, model.key, values))
    steps(world)
    settlement = world.client().round(campaign.id, 0).settlement
    assert not settlement.advances
    assert settlement.score == world.chain.campaign(campaign.id).start_score
    assert all(outcome.share == 0 for outcome in settlement.outcomes)
    assert world.chain.campaign(campaign.id).paid == 0
    assert campaign.model() == model


def test_no_gradient_is_judged_by_a_capsule_whose_engine_cannot_be_used(
    world: Any, scientist: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = scientist.campaign()
    for _ in range(3):
        campaign.submit()
    broken = Sandbox(Limits(processes=1), allow_insecure_small_key=True)
    with monkeypatch.context() as changed:
        changed.setenv("SONAR_ENGINE", "nonsense")
        with pytest.raises(SandboxError, match="no engine 'nonsense'"):
            broken.start()
    world.use(broken)
    for _ in range(3):
        world.worker.step()
    assert any("judge processes" in problem for problem in world.worker.health()["problems"].values())
    assert world.chain.round(campaign.id).number == 0
    world.use(world.sandbox)
    steps(world)
    assert world.chain.round(campaign.id).number == 1
    assert Verdict.INVALID not in verdicts(world, campaign)


def gradient_of(campaign: Any, key: Any, values: Any, **changes: Any) -> bytes:
    encoding = campaign.draft.parsed.encoding
    stride = changes.get("stride", encoding.stride(key, values.shape[1]))
    return dump_gradient(
        encrypt(
            values,
            key,
            Obfuscator(key),
            slot_width=changes.get("slot_width", encoding.slot_width),
            scale=changes.get("scale", encoding.gradient_scale),
            bound=changes.get("bound", encoding.gradient_bound),
            stride=stride,
            rows_per_plaintext=stride,
        )
    )


def beyond_bound(campaign: Any) -> bytes:
    """A gradient whose header claims the spec's bound, and whose values break it."""
    key, bound = campaign.model().key, campaign.draft.parsed.encoding.gradient_bound
    values = np.full(campaign.draft.parsed.shape, bound * 2, dtype=object)
    honest = load_gradient(gradient_of(campaign, key, values, bound=bound * 2), key)
    return dump_gradient(dataclasses.replace(honest, bound=bound))


def other_key(campaign: Any) -> bytes:
    key = campaign.owner.key()
    return gradient_of(campaign, key, np.zeros(campaign.draft.parsed.shape, dtype=object))


def other_scale(campaign: Any) -> bytes:
    values = np.zeros(campaign.draft.parsed.shape, dtype=object)
    return gradient_of(campaign, campaign.model().key, values, scale=30)


def other_stacks(campaign: Any) -> bytes:
    values = np.zeros(campaign.draft.parsed.shape, dtype=object)
    return gradient_of(campaign, campaign.model().key, values, stride=1)


def other_shape(campaign: Any) -> bytes:
    return gradient_of(campaign, campaign.model().key, np.zeros((4, 3), dtype=object))


@pytest.mark.parametrize(
    "make",
    [beyond_bound, other_key, other_scale, other_stacks, other_shape, lambda _: b"", lambda _: b"garbage" * 100],
    ids=["beyond the bound", "another key", "another scale", "other stacks", "another shape", "nothing", "garbage"],
)
def test_a_gradient_that_breaks_the_spec_is_invalid_and_does_not_harm_the_others(
    world: Any, scientist: Any, make: Callable[[Any], bytes]
) -> None:
    campaign = scientist.campaign()
    attacker = campaign.submit(data=make(campaign))
    for _ in range(2):
        campaign.submit()
    steps(world)
    assert verdicts(world, campaign) == [Verdict.INVALID, Verdict.KEPT, Verdict.KEPT]
    assert world.client().round(campaign.id, 0).reasons[0].startswith("invalid")
    assert world.chain.credit(Address(attacker.address)) == 0


def test_a_copied_box_earns_nothing_even_when_the_thief_comes_first(world: Any, scientist: Any) -> None:
    campaign = scientist.campaign()
    victim, data = world.new_account(), campaign.gradient()
    box = seal(data, campaign.context(victim), world.sealing.public)
    thief = campaign.submit(data=data, box=box)
    campaign.submit(victim, data, box=box)
    campaign.submit()
    steps(world)
    assert verdicts(world, campaign) == [Verdict.COPY, Verdict.KEPT, Verdict.KEPT]
    assert world.chain.credit(Address(thief.address)) == 0


def test_the_same_work_twice_shares_one_pay_and_the_very_same_is_proved_a_copy(world: Any, scientist: Any) -> None:
    campaign = scientist.campaign(scientist.spec(round_size=4))
    data, key = campaign.gradient(), campaign.model().key
    again = dump_gradient(rerandomise(load_gradient(data, key), Obfuscator(key)))
    accounts = [campaign.submit(data=data), campaign.submit(data=again), campaign.submit(data=data), campaign.submit()]
    steps(world)
    found = verdicts(world, campaign)
    assert found[2] is Verdict.COPY
    assert Verdict.COPY not in (found[0], found[1], found[3])
    back = [world.chain.credit(Address(account.address)) for account in accounts]
    assert back[2] == 0
    # To a millionth, and with their bonds, which all have back who are kept.
    assert back[0] == pytest.approx(back[1], rel=1e-5)


def test_a_box_for_another_round_campaign_or_purpose_is_invalid(world: Any, scientist: Any) -> None:
    campaign, other = scientist.campaign(), scientist.campaign()
    mines = [world.new_account() for _ in range(3)]
    data = campaign.gradient()
    contexts = [
        dataclasses.replace(campaign.context(mines[0]), round=1),
        other.context(mines[1]),
        dataclasses.replace(campaign.context(mines[2]), purpose=Purpose.DELIVERY),
    ]
    for mine, context in zip(mines, contexts, strict=True):
        campaign.submit(mine, data, box=seal(data, context, world.sealing.public))
    steps(world)
    assert verdicts(world, campaign) == [Verdict.INVALID] * 3


def test_a_box_that_does_not_open_or_hides_other_bytes_is_invalid(world: Any, scientist: Any) -> None:
    campaign = scientist.campaign()
    mine, data = world.new_account(), campaign.gradient()
    campaign.submit(mine, data, box=seal(data, campaign.context(mine), SealingKeyPair.generate().public))
    campaign.submit(data=data, digest=digest_of(b"something else"))
    campaign.submit(data=data, box=b"not a box")
    steps(world)
    assert verdicts(world, campaign) == [Verdict.INVALID] * 3


def test_a_gradient_that_cannot_be_fetched_is_unavailable(world: Any, scientist: Any) -> None:
    campaign = scientist.campaign()
    campaign.submit(stored=False)
    for _ in range(2):
        campaign.submit()
    steps(world)
    assert verdicts(world, campaign) == [Verdict.UNAVAILABLE, Verdict.KEPT, Verdict.KEPT]
    assert "unavailable" in world.client().round(campaign.id, 0).reasons[0]


def test_an_unfetchable_gradient_is_waited_for(world: Any, scientist: Any) -> None:
    object.__setattr__(world.capsule, "policy", dataclasses.replace(world.policy, fetch_seconds=3600))
    campaign = scientist.campaign()
    data, mine = campaign.gradient(), world.new_account()
    box = seal(data, campaign.context(mine), world.sealing.public)
    campaign.submit(mine, data, box=box, stored=False)
    for _ in range(2):
        campaign.submit()
    for _ in range(2):
        world.worker.step()
    assert world.chain.round(campaign.id).number == 0
    world.store.put(box)
    steps(world)
    assert Verdict.UNAVAILABLE not in verdicts(world, campaign)


def test_a_store_that_lies_about_a_gradient_is_asked_again_and_then_costs_its_mine_a_part_of_the_bond_at_most(
    world: Any, scientist: Any
) -> None:
    object.__setattr__(world.capsule, "policy", dataclasses.replace(world.policy, fetch_seconds=3600))
    campaign = scientist.campaign()
    mines = [campaign.submit() for _ in range(3)]
    found = campaign_events(world.chain, campaign.id, 0)
    first, second = [world.home / "store" / event.cid for event in found if isinstance(event, GradientSubmitted)][:2]
    honest = first.read_bytes()
    for place in (first, second):
        place.write_bytes(b"other bytes")
    for _ in range(3):
        world.worker.step()
    assert world.chain.round(campaign.id).number == 0
    assert world.worker.tally.wrong_artifacts.value >= 2
    first.write_bytes(honest)
    object.__setattr__(world.capsule, "policy", dataclasses.replace(world.policy, fetch_seconds=0))
    steps(world)
    assert verdicts(world, campaign) == [Verdict.KEPT, Verdict.UNAVAILABLE, Verdict.KEPT]
    terms = world.chain.campaign(campaign.id).terms
    assert 0 < terms.slash < PPM
    lost = terms.bond * terms.slash // PPM
    assert world.chain.credit(Address(mines[1].address)) == terms.bond - lost


def test_what_contradicts_itself_on_chain_is_invalid_whatever_the_store_says(world: Any, scientist: Any) -> None:
    campaign = scientist.campaign()
    mine = world.new_account()
    chain, other = world.chain_for(mine), world.store.put(b"something else")
    terms = chain.campaign(campaign.id).terms
    chain.transact(submit_gradient(campaign.id, 0, digest_of(b"a"), digest_of(b"b"), other.cid, terms.bond))
    for _ in range(2):
        campaign.submit()
    steps(world)
    assert verdicts(world, campaign) == [Verdict.INVALID, Verdict.KEPT, Verdict.KEPT]


def test_nobody_is_punished_while_the_capsules_own_store_is_down(world: Any, scientist: Any) -> None:
    campaign = scientist.campaign()
    for _ in range(3):
        campaign.submit()
    with open_store("kubo:http://127.0.0.1:9", timeout=2) as down:
        object.__setattr__(world.capsule, "store", down)
        for _ in range(3):
            world.worker.step()
        assert not world.worker.health()["ok"]
        assert world.chain.round(campaign.id).number == 0
    object.__setattr__(world.capsule, "store", world.store)
    steps(world)
    assert verdicts(world, campaign) == [Verdict.KEPT] * 3


def test_a_store_that_goes_down_between_product_and_model_uses_up_one_key(
    world: Any, scientist: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = scientist.campaign()
    for _ in range(3):
        campaign.submit()
    put, failing, sent = world.store.put, [False, True] * 3, []

    def unsteady(data: bytes) -> Artifact:
        if data == PROBE:
            return put(data)
        sent.append(data)
        if failing and failing.pop(0):
            raise StoreUnavailableError("the store went away")
        return put(data)

    monkeypatch.setattr(world.store, "put", unsteady)
    before = world.capsule.state.keys_by_use().get("round", 0)
    for _ in range(3):
        world.worker.step()
        assert campaign.id.hex() in world.worker.health()["problems"]
    steps(world)
    assert verdicts(world, campaign) == [Verdict.KEPT] * 3
    assert world.capsule.state.keys_by_use()["round"] == before + 1
    assert sent[0:2] == sent[2:4] == sent[4:6] == sent[6:8]


def test_a_history_that_changed_is_read_again(world: Any, scientist: Any) -> None:
    campaign = scientist.campaign()
    for _ in range(2):
        campaign.submit()
    steps(world, 1)
    seen = world.capsule.state.submissions(campaign.id, 0)
    other = dataclasses.replace(seen[0], entry=dataclasses.replace(seen[0].entry, gradient=digest_of(b"reorganised")))
    position = world.capsule.state.position()
    told = Told(position.block, submitted=((campaign.id, other),))
    assert world.capsule.state.follow(told, since=position)
    campaign.submit()
    steps(world, 4)
    assert world.chain.round(campaign.id).number == 1
    assert world.capsule.state.submissions(campaign.id, 0)[:2] == seen


def test_a_gradient_published_by_another_mine_cannot_be_posted_again_later(world: Any, scientist: Any) -> None:
    campaign = scientist.campaign()
    data = campaign.gradient()
    campaign.submit(data=data)
    for _ in range(2):
        campaign.submit()
    steps(world)
    for number in range(3):
        campaign.submit(data=data if number == 0 else None)
    steps(world)
    assert verdicts(world, campaign, 1)[0] is Verdict.COPY


def test_a_restart_between_signing_and_settling_sends_what_was_signed(world: Any, scientist: Any, funder: Any) -> None:
    campaign = scientist.campaign()
    for _ in range(3):
        campaign.submit()
    rest = world.chain.balance(Address(world.attester.address))
    drain(world, rest)
    world.worker.step()
    assert not world.worker.health()["ok"]
    assert world.chain.round(campaign.id).number == 0
    signed = world.client().round(campaign.id, 0)
    assert signed.published == (None, None, None)

    world.restart()
    funder(world.attester.address, ether(1))
    steps(world)
    after = world.client().round(campaign.id, 0)
    assert (after.settlement, after.signature) == (signed.settlement, signed.signature)
    assert any(after.published)
    assert world.chain.campaign(campaign.id).version == 1


def drain(world: Any, balance: int) -> None:
    web3, sender = world.chain.web3, world.attester
    price = 10 * web3.eth.gas_price
    transaction = {
        "to": world.new_account(0).address, "value": balance - 21_000 * price, "gas": 21_000, "gasPrice": price,
        "nonce": web3.eth.get_transaction_count(sender.address), "chainId": web3.eth.chain_id,
    }  # fmt: skip
    signed = sender.sign_transaction(transaction)
    web3.eth.wait_for_transaction_receipt(web3.eth.send_raw_transaction(signed.raw_transaction))


def test_a_restart_after_every_step_ends_where_an_unbroken_run_would(world: Any, scientist: Any) -> None:
    campaign = scientist.campaign()
    for number in range(2):
        for _ in range(3):
            campaign.submit()
            world.restart()
            world.worker.step()
        for _ in range(2):
            world.restart()
            world.worker.step()
        assert world.chain.round(campaign.id).number == number + 1
    assert world.capsule.state.version(campaign.id).number == world.chain.campaign(campaign.id).version
    assert world.capsule.state.counts()["unsettled"] == 0


def test_anyone_may_relay_a_settlement_once(world: Any, scientist: Any) -> None:
    campaign = scientist.campaign()
    for _ in range(3):
        campaign.submit()
    drain(world, world.chain.balance(Address(world.attester.address)))
    world.worker.step()
    report = world.client().round(campaign.id, 0)
    stranger = world.chain_for(world.new_account())
    entries = entries_of(world, campaign)
    stranger.transact(settle_round(report.settlement, entries, report.signature))
    steps(world)
    assert world.chain.campaign(campaign.id).version == 1
    assert any(world.client().round(campaign.id, 0).published)


def entries_of(world: Any, campaign: Any) -> list[Entry]:
    found = campaign_events(world.chain, campaign.id, 0)
    return [Entry(e.mine, e.artifact, e.gradient) for e in found if type(e).__name__ == "GradientSubmitted"]


def test_an_expired_round_is_never_settled_and_the_next_one_is_judged(world: Any, scientist: Any, funder: Any) -> None:
    campaign = scientist.campaign(scientist.spec(settlement_seconds=600))
    for _ in range(3):
        campaign.submit()
    drain(world, world.chain.balance(Address(world.attester.address)))
    world.worker.step()
    world.advance_time(3000)
    world.chain_for(scientist.account).transact(expire_round(campaign.id, 0, entries_of(world, campaign)))
    funder(world.attester.address, ether(1))
    for _ in range(3):
        campaign.submit()
    steps(world)
    assert world.chain.round(campaign.id).number == 2
    assert world.chain.campaign(campaign.id).version == 1
    assert world.capsule.state.version(campaign.id).number == 1


def test_a_campaign_with_other_terms_than_its_spec_is_not_judged(world: Any, scientist: Any) -> None:
    draft = scientist.draft()
    given = scientist.admit(draft)
    chain = world.chain_for(scientist.account)
    terms = draft.parsed.terms(bounty=ether(1), deadline=chain.now() + 3600)
    other = dataclasses.replace(terms, slash=Ppm(PPM))
    chain.transact(create_campaign(other, given.admission, given.signature, draft.spec.cid, draft.model.cid))
    campaign = hash_admission(world.domain, given.admission)
    for _ in range(3):
        scientist.taking_part_in(campaign, draft).submit()
    for _ in range(2):
        world.worker.step()
    assert "the contract holds 1000000" in world.worker.health()["problems"][campaign.hex()]
    assert world.chain.round(campaign).count == 3
    assert world.capsule.state.round(campaign, 0) is None


def test_the_owner_gets_the_last_weights_sealed_to_her_once_the_campaign_is_over(world: Any, scientist: Any) -> None:
    campaign = scientist.campaign(seconds=1000)
    for _ in range(3):
        campaign.submit()
    steps(world)
    world.advance_time(1001)
    steps(world)
    pair = SealingKeyPair.generate()
    box = scientist.client.deliver(campaign.id, pair.public)
    domain = world.domain
    expected = BoxContext(Purpose.DELIVERY, domain.chain_id, domain.contract, scientist.address, campaign.id.hex(), 1)
    weights = decode_weights(open_box_for(box, pair, expected), campaign.draft.parsed)
    model = campaign.model()
    assert (decrypt(world.capsule.keys.secret(model.key.key_id), model) == weights).all()
    world.chain_for(scientist.account).transact(close_campaign(campaign.id))
    assert world.chain.campaign(campaign.id).status is Status.CLOSED
    assert scientist.client.deliver(campaign.id, pair.public)


def test_the_models_of_two_versions_are_under_different_keys_and_only_ciphertexts(world: Any, scientist: Any) -> None:
    campaign = scientist.campaign()
    for _ in range(3):
        campaign.submit()
    steps(world)
    settlement = world.client().round(campaign.id, 0).settlement
    data = world.store.get(Artifact(settlement.model_cid, settlement.model), max_bytes=10**6)
    model = load_model(data, allow_insecure_small_key=True)
    weights = decrypt(world.capsule.keys.secret(settlement.key), model)
    assert all(int(w).to_bytes(8, "big", signed=True) not in data for w in weights.ravel() if abs(w) > 1000)
    assert settlement.key != campaign.draft.key.key_id


def test_background_jobs_are_few_and_their_errors_reach_who_asks() -> None:
    background: Background[int] = Background(threading.Semaphore(2), limit=1)
    gate = threading.Event()

    def wait(_: Any) -> int:
        assert gate.wait(30)
        return 7

    first = background.start(wait)
    assert first is not None
    assert background.start(wait) is None
    gate.set()
    assert first.answer.result(30) == 7
    deadline = time.monotonic() + 30
    while (second := background.start(lambda _: 1 // 0)) is None:
        assert time.monotonic() < deadline
    with pytest.raises(ZeroDivisionError):
        second.answer.result(30)
