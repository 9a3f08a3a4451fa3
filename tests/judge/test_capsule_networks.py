"""Campaigns for networks in a whole Capsule: admission, weights for those whom the terms admit, rounds, delivery."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sqlalchemy import create_engine, delete, update
from torch import nn

from capsule.errors import CapsuleRefusedError, CapsuleUnavailableError
from capsule.http.app import Limits
from capsule.secret import decrypt, generate_key
from capsule.state import tables as t
from capsule.wire import DeliveryReply, WeightsRequest, hexadecimal
from mine.networks import train_network
from sonar.chain.records import Status, Verdict
from sonar.network import NetworkTraining
from sonar.network.building import build
from sonar.network.parameters import decode, encode, in_rows, joined, parted
from sonar.network.tracing import trace
from sonar.network.training import outputs_of
from sonar.protocol.errors import SignatureError
from sonar.protocol.messages import CapsuleRequest, SignedRequest, request_for, sign_request, verify_request
from sonar.protocol.payloads import decode_weights, design_matrix
from sonar.protocol.sealing import BoxContext, Purpose, SealingKeyPair, open_box_for
from sonar.protocol.spec import Encoding, Feature, NetworkTerms, Payout, Rounds, Spec
from sonar.syft import CiphertextError, Obfuscator, dump_gradient, encrypt
from sonar.units import Address, CampaignId, Digest, digest_of, ether


def refused(code: str, action: Callable[[], Any]) -> str:
    with pytest.raises(CapsuleRefusedError) as caught:
        action()
    assert caught.value.code == code, caught.value
    return str(caught.value)


def blobs(**terms: Any) -> tuple[Spec, Any]:
    """The spec of a small network on three blobs, and its start weights."""
    torch.manual_seed(2)
    graph, tensors = trace(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)), (4,))
    spec = Spec(
        name="blobs", mode="network", features=tuple(Feature(name=f"f{i}", scale=2.0) for i in range(4)),
        classes=("red", "green", "blue"), encoding=Encoding.for_network(),
        network=NetworkTerms(graph=graph, training=NetworkTraining(learning_rate=0.02), **terms),
        rounds=Rounds(round_size=2, round_seconds=60, max_rounds=5, noise=1.0), payout=Payout(target=990_000),
    )  # fmt: skip
    row = encode(joined(graph, tensors), spec.encoding.weight_bits, spec.encoding.weight_bound)
    return spec, in_rows(row, spec.shape)


def campaign_of(scientist: Any, **terms: Any) -> Any:
    spec, weights = blobs(**terms)
    return scientist.campaign(spec, weights=weights)


def terms_of(campaign: Any) -> Digest:
    return campaign.draft.spec.digest


def weights_for(world: Any, campaign: Any, mine: Any) -> Any:
    """The present weights as an admitted mine gets them."""
    pair = SealingKeyPair.generate()
    box = world.client(mine).weights(campaign.id, terms_of(campaign), pair.public)
    version = world.chain.campaign(campaign.id).version
    context = BoxContext(
        Purpose.WEIGHTS, world.domain.chain_id, world.domain.contract, Address(mine.address), campaign.id.hex(), version
    )
    return decode_weights(open_box_for(box, pair, context), campaign.draft.parsed)


def gradient_of(world: Any, campaign: Any, mine: Any, *, shuffled: bool = False) -> bytes:
    """What a mine posts: trained in the clear on weights that the Capsule gave it, encrypted under the round's key."""
    spec = campaign.draft.parsed
    features, labels = world.data.draw(300, shuffled=shuffled)
    records = design_matrix(spec, features)[:, :-1]
    weights = weights_for(world, campaign, mine)
    return train_network(spec, campaign.model().key, weights, records, np.eye(3)[labels]).payload


def accuracy_of(world: Any, spec: Spec, weights: Any) -> float:
    graph = spec.network.graph
    features, labels = world.data.draw(500)
    network = build(graph, parted(graph, decode(weights.reshape(-1)[: graph.size], spec.encoding.weight_bits)))
    return float((outputs_of(network, design_matrix(spec, features)[:, :-1]).argmax(axis=1) == labels).mean())


def step(world: Any, campaign: Any, number: int) -> None:
    """Serves until a round is settled on chain."""
    for _ in range(20):
        world.worker.step()
        if world.chain.round(campaign.id).number > number:
            world.worker.step()
            return
    raise AssertionError("the round is not settled")


def test_a_network_is_admitted_trained_by_admitted_mines_and_delivered(world: Any, scientist: Any) -> None:
    campaign = campaign_of(scientist)
    start = world.chain.campaign(campaign.id).score
    mines = [world.new_account() for _ in range(2)]
    for number in range(2):
        for mine in mines:
            campaign.submit(mine, gradient_of(world, campaign, mine))
        step(world, campaign, number)
    record = world.chain.campaign(campaign.id)
    assert record.score > start + 100_000
    settlement = world.client().round(campaign.id, 0)
    assert [outcome.verdict for outcome in settlement.settlement.outcomes] == [Verdict.KEPT] * 2
    assert sum(outcome.share for outcome in settlement.settlement.outcomes) == 1_000_000
    assert sum(world.chain.credit(Address(mine.address)) for mine in mines) > 0
    world.advance_time(4000)
    world.worker.step()
    pair = SealingKeyPair.generate()
    context = BoxContext(
        Purpose.DELIVERY, world.domain.chain_id, world.domain.contract, scientist.address, campaign.id.hex(),
        record.version,
    )  # fmt: skip
    delivered = decode_weights(
        open_box_for(scientist.client.deliver(campaign.id, pair.public), pair, context), campaign.draft.parsed
    )
    assert accuracy_of(world, campaign.draft.parsed, delivered) > 0.8


def test_who_has_no_data_is_not_paid_for_a_network(world: Any, scientist: Any) -> None:
    campaign = campaign_of(scientist)
    honest, idle = world.new_account(), world.new_account()
    campaign.submit(honest, gradient_of(world, campaign, honest))
    campaign.submit(idle, gradient_of(world, campaign, idle, shuffled=True))
    step(world, campaign, 0)
    outcomes = world.client().round(campaign.id, 0).settlement.outcomes
    assert outcomes[1].share == 0


def test_weights_are_given_to_whom_the_terms_name_and_nobody_else(world: Any, scientist: Any) -> None:
    named, stranger = world.new_account(), world.new_account()
    campaign = campaign_of(scientist, accounts=(named.address,))
    assert weights_for(world, campaign, named).shape == campaign.draft.parsed.shape
    assert "ask its owner" in refused("not_admitted", lambda: weights_for(world, campaign, stranger))
    refused("not_admitted", lambda: weights_for(world, campaign, scientist.account))


def test_weights_are_given_for_an_accepted_spec_alone(world: Any, scientist: Any) -> None:
    campaign, mine, public = campaign_of(scientist), world.new_account(), SealingKeyPair.generate().public
    client = world.client(mine)
    said = refused("other_terms", lambda: client.weights(campaign.id, Digest(bytes(32)), public))
    assert terms_of(campaign).hex() in said
    refused("unknown_campaign", lambda: client.weights(CampaignId(bytes(32)), terms_of(campaign), public))
    refused("bad_key", lambda: client.weights(campaign.id, terms_of(campaign), bytes(32)))


def test_where_nobody_is_named_a_bond_must_be_held_or_posted(world: Any, scientist: Any, chain_web3: Any) -> None:
    campaign = campaign_of(scientist)
    bond = world.chain.campaign(campaign.id).terms.bond
    poor, just = world.new_account(bond - 1), world.new_account(bond)
    assert "fund it before it asks" in refused("no_bond", lambda: weights_for(world, campaign, poor))
    assert weights_for(world, campaign, just).any()
    spent = world.new_account(ether(1) // 20)
    campaign.submit(spent, gradient_of(world, campaign, spent))
    left = chain_web3.eth.get_balance(spent.address)
    price = chain_web3.eth.gas_price
    transaction = {
        "to": scientist.address, "value": left - 21_000 * price - bond // 2, "gas": 21_000, "gasPrice": price,
        "nonce": chain_web3.eth.get_transaction_count(spent.address), "chainId": chain_web3.eth.chain_id,
    }  # fmt: skip
    sent = chain_web3.eth.send_raw_transaction(spent.sign_transaction(transaction).raw_transaction)
    chain_web3.eth.wait_for_transaction_receipt(sent)
    assert chain_web3.eth.get_balance(spent.address) < bond
    assert weights_for(world, campaign, spent).any(), "its bond is posted"


def test_who_lost_a_bond_here_is_given_no_weights_any_more(world: Any, scientist: Any) -> None:
    campaign = campaign_of(scientist)
    cheat, honest = world.new_account(), world.new_account()
    campaign.submit(cheat, b"no gradient")
    campaign.submit(honest, gradient_of(world, campaign, honest))
    step(world, campaign, 0)
    assert world.client().round(campaign.id, 0).settlement.outcomes[0].verdict is Verdict.INVALID
    assert "lost a bond" in refused("not_admitted", lambda: weights_for(world, campaign, cheat))
    assert weights_for(world, campaign, honest).any()


def test_no_weights_are_given_of_encrypted_models_nor_of_campaigns_that_are_over(world: Any, scientist: Any) -> None:
    mine, public = world.new_account(), SealingKeyPair.generate().public
    linear = scientist.campaign()
    refused("not_released", lambda: world.client(mine).weights(linear.id, terms_of(linear), public))
    campaign = campaign_of(scientist)
    world.advance_time(4000)
    assert world.chain.campaign(campaign.id).status is Status.RUNNING
    refused("over", lambda: weights_for(world, campaign, mine))


@pytest.mark.parametrize("consistent", [False, True], ids=["spec alone", "spec and digest"])
def test_who_edits_the_database_does_not_admit_himself_to_a_networks_weights(
    world: Any, scientist: Any, consistent: bool
) -> None:
    named, writer = world.new_account(), world.new_account()
    campaign = campaign_of(scientist, accounts=(named.address,))
    assert weights_for(world, campaign, named).any()
    spec, _ = blobs(accounts=(writer.address,))
    values = {"spec": spec.to_bytes()} | ({"spec_digest": digest_of(spec.to_bytes())} if consistent else {})
    _edited(world, update(t.admissions).values(values))
    for terms in (terms_of(campaign), digest_of(spec.to_bytes())):
        with pytest.raises(CapsuleUnavailableError, match="not in order in the Capsule's database"):
            world.client(writer).weights(campaign.id, terms, SealingKeyPair.generate().public)


def _edited(world: Any, *statements: Any) -> None:
    engine = create_engine(f"sqlite:///{world.home / 'capsule.db'}")
    with engine.begin() as db:
        for statement in statements:
            db.execute(statement)
    engine.dispose()


@pytest.mark.parametrize(
    "what", ["verdict", "settlement", "deleted", "gradient", "another's", "state", "state and gradient", "admission"]
)
def test_who_edits_the_database_does_not_undo_that_he_lost_his_bond(world: Any, scientist: Any, what: str) -> None:
    campaign = campaign_of(scientist)
    cheat, honest = world.new_account(), world.new_account()
    campaign.submit(cheat, b"no gradient")
    campaign.submit(honest, gradient_of(world, campaign, honest))
    step(world, campaign, 0)
    refused("not_admitted", lambda: weights_for(world, campaign, cheat))
    (stored,) = world.capsule.state.rounds(campaign.id)
    lenient, his = json.loads(stored.settlement), t.submissions.c.mine == cheat.address
    lenient["outcomes"][0]["verdict"] = "left_out"
    rename = update(t.submissions).where(his).values(mine=world.new_account().address)
    unsettle = update(t.rounds).values(state="expired")
    edits: dict[str, tuple[Any, ...]] = {
        "verdict": (update(t.rounds).values(settlement=json.dumps(lenient)),),
        "settlement": (update(t.rounds).values(settlement="{}"),),
        "deleted": (delete(t.rounds), delete(t.submissions)),
        "gradient": (delete(t.submissions).where(his),),
        "another's": (rename,),
        "state": (unsettle,),
        "state and gradient": (unsettle, rename),
        "admission": (update(t.admissions).values(start_score=1 << 40),),
    }
    _edited(world, *edits[what])
    if what == "state":
        assert "lost a bond" in refused("not_admitted", lambda: weights_for(world, campaign, cheat))
        return
    said = "not yet seen all rounds" if what == "state and gradient" else "not in order in the Capsule's database"
    with pytest.raises(CapsuleUnavailableError, match=said):
        weights_for(world, campaign, cheat)


def test_an_account_is_given_weights_a_few_times_a_minute(world: Any, scientist: Any) -> None:
    campaign, mine, other = campaign_of(scientist), world.new_account(), world.new_account()
    for _ in range(Limits().weights_per_minute):
        weights_for(world, campaign, mine)
    assert "6 times a minute" in refused("too_many_requests", lambda: weights_for(world, campaign, mine))
    assert weights_for(world, campaign, other).any()


@pytest.mark.parametrize("box", [b"", b"\x00\xff", bytes(range(256)) * 40])
def test_a_box_is_written_as_its_reply_would_be(box: bytes) -> None:
    content = DeliveryReply.content(box)
    assert content == DeliveryReply(box=hexadecimal(box)).model_dump_json().encode()
    assert DeliveryReply.model_validate_json(content).data() == box


def test_every_release_is_in_the_audit_log(world: Any, scientist: Any) -> None:
    campaign, mine = campaign_of(scientist), world.new_account()
    weights_for(world, campaign, mine)
    entry = [entry for entry in world.capsule.state.audit.entries() if entry.kind == "weights"][-1]
    for part in (campaign.id.hex(), mine.address, terms_of(campaign).hex(), '"version":0'):
        assert part in entry.body


def test_the_log_proves_to_anybody_which_terms_a_mine_accepted(world: Any, scientist: Any) -> None:
    campaign, mine = campaign_of(scientist), world.new_account()
    weights_for(world, campaign, mine)
    (entry,) = [entry for entry in world.capsule.state.audit.entries() if entry.kind == "weights"]
    told = json.loads(entry.body)
    body = told["request"].encode()
    request = CapsuleRequest(told["account"], "weights", digest_of(body), bytes.fromhex(told["nonce"]), told["expiry"])
    verify_request(world.domain, request, bytes.fromhex(told["signature"]), body, request.expiry)
    accepted = WeightsRequest.model_validate_json(body)
    assert (accepted.campaign_id(), accepted.terms_digest()) == (campaign.id, terms_of(campaign))
    other = CapsuleRequest(request.account, "weights", request.body, bytes(32), request.expiry)
    with pytest.raises(SignatureError):
        verify_request(world.domain, other, bytes.fromhex(told["signature"]), body, request.expiry)


def test_a_request_for_weights_that_would_fill_the_log_is_refused(world: Any, scientist: Any) -> None:
    campaign, mine = campaign_of(scientist), world.new_account()
    public, terms = SealingKeyPair.generate().public, terms_of(campaign)
    body = WeightsRequest(
        campaign=hexadecimal(campaign.id), sealing_key=hexadecimal(public), terms=hexadecimal(terms)
    ).model_dump_json().encode()  # fmt: skip
    padded = body[:-1] + b" " * 1024 + b"}"
    request = request_for(Address(mine.address), "weights", padded, int(world.capsule.clock()))
    accepted = SignedRequest(request, padded, sign_request(world.domain, request, mine))
    said = refused("bad_request", lambda: world.service.release(accepted, campaign.id, terms, public))
    assert "without white space" in said


def unreadable(bound: int) -> str:
    """What is said of any plaintext that is wrong, as a secret key's holder says it of one that is too large."""
    key = generate_key(512, allow_insecure_small_key=True)
    large = encrypt(
        np.array([[2 * bound]]), key.public, Obfuscator(key.public), slot_width=40, scale=0, bound=2 * bound
    )
    with pytest.raises(CiphertextError) as caught:
        decrypt(key, replace(large, bound=bound))
    return str(caught.value)


def test_numbers_behind_the_last_parameter_make_a_gradient_invalid_and_a_model_refused(
    world: Any, scientist: Any
) -> None:
    spec, _ = blobs()
    torch.manual_seed(2)
    graph, tensors = trace(nn.Sequential(nn.Linear(4, 17), nn.Tanh(), nn.Linear(17, 3)), (4,))
    spec = Spec(**{**dict(spec), "network": NetworkTerms(graph=graph)})
    wide = in_rows(encode(joined(graph, tensors), 14, spec.encoding.weight_bound), spec.shape)
    assert wide.size > graph.size
    crafted = wide.copy()
    crafted[-1, -1] = 5
    assert refused("bad_model", lambda: scientist.campaign(spec, weights=crafted)) == unreadable(
        spec.encoding.weight_bound
    )
    campaign, mine, honest = scientist.campaign(spec, weights=wide), world.new_account(), world.new_account()
    key, encoding = campaign.model().key, spec.encoding
    layout = encoding.gradient_layout(key, spec.shape[1])
    stray = encrypt(
        crafted - wide, key, Obfuscator(key), slot_width=encoding.slot_width, scale=encoding.gradient_scale,
        bound=encoding.gradient_bound, stride=layout.stride, rows_per_plaintext=layout.rows_per_plaintext,
    )  # fmt: skip
    campaign.submit(mine, dump_gradient(stray))
    campaign.submit(honest, gradient_of(world, campaign, honest))
    step(world, campaign, 0)
    report = world.client().round(campaign.id, 0)
    assert report.settlement.outcomes[0].verdict is Verdict.INVALID
    assert report.reasons[0] == f"invalid: {unreadable(spec.encoding.gradient_bound)}"
