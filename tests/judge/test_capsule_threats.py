"""What each party tries against a Capsule and must not get: docs/SECURITY.md says which test holds which line.

The contract's part is in tests/contracts; what the service and the judge refuse one by one is in the files beside.
"""

import contextlib
import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from eth_abi import abi as codec
from eth_utils.abi import function_abi_to_4byte_selector
from worker_checks import refused

from capsule.errors import CapsuleRefusedError, CapsuleUnavailableError
from mine.offer import read_offer
from mine.policy import Policy as MinePolicy
from mine.records import KnownCampaign
from sonar.chain._artifact import arguments_type, artifact
from sonar.chain.calls import EncodedCall, accept_campaign, create_campaign, transfer_campaign
from sonar.chain.cursor import campaign_events
from sonar.chain.events import CampaignCreated
from sonar.chain.records import Status, Verdict
from sonar.errors import SonarError
from sonar.protocol.messages import hash_admission
from sonar.protocol.payloads import encode_validation
from sonar.protocol.sealing import Purpose, SealingKeyPair, open_box
from sonar.protocol.spec import MAX_SPEC_BYTES, Payout
from sonar.storage import Artifact
from sonar.syft import (
    Obfuscator,
    dump_gradient,
    dump_model,
    encrypt,
    load_gradient,
    load_model,
    load_product,
    rerandomise,
)
from sonar.units import Address, digest_of, ether


def steps(world: Any, count: int = 2) -> None:
    for _ in range(count):
        world.worker.step()
        assert world.worker.health()["ok"], world.worker.health()


def report(world: Any, campaign: Any, number: int = 0) -> Any:
    return world.client().round(campaign.id, number)


def verdicts(world: Any, campaign: Any, number: int = 0) -> list[Verdict]:
    return [outcome.verdict for outcome in report(world, campaign, number).settlement.outcomes]


def crafted(campaign: Any, values: Any) -> Any:
    """A gradient of these integers (features + 1, classes), in the spec's form, under the campaign's present key."""
    encoding, key = campaign.draft.parsed.encoding, campaign.model().key
    stride = encoding.stride(key, values.shape[1])
    return encrypt(
        values, key, Obfuscator(key), slot_width=encoding.slot_width, scale=encoding.gradient_scale,
        bound=encoding.gradient_bound, stride=stride, rows_per_plaintext=stride,
    )  # fmt: skip


def shifted(gradient: Any, place: int, number: int) -> bytes:
    """The gradient with a number added to one of its plaintexts, as anybody can."""
    n = gradient.key.n
    changed = list(gradient.ciphertexts)
    changed[place] = changed[place] * pow(1 + n, number, n * n) % (n * n)
    return dump_gradient(dataclasses.replace(gradient, ciphertexts=tuple(changed)))


def zeros(campaign: Any) -> Any:
    return np.zeros(campaign.draft.parsed.shape, dtype=object)


@pytest.fixture
def opened(world: Any, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The fingerprints of the secret keys that were taken out of the vault, in their order."""
    taken: list[bytes] = []
    original = type(world.capsule.keys).secret

    def secret(self: Any, key_id: Any) -> Any:
        taken.append(bytes(key_id))
        return original(self, key_id)

    monkeypatch.setattr(type(world.capsule.keys), "secret", secret)
    return taken


# ---- a mine


def test_an_invalid_gradient_is_told_the_same_whichever_plaintext_breaks_which_rule(world: Any, scientist: Any) -> None:
    # Each plaintext may be made a question about one weight: "is it above so much?". One bit comes back for the bond.
    campaign = scientist.campaign(scientist.spec(round_size=4))
    gradient = crafted(campaign, zeros(campaign))
    encoding = campaign.draft.parsed.encoding
    last = len(gradient.ciphertexts) - 1
    above, stray = encoding.gradient_bound + 1, 1 << (campaign.model().key.bits - 3)
    for place, number in ((0, above), (last, above), (0, stray), (last, -stray)):
        campaign.submit(data=shifted(gradient, place, number))
    steps(world)
    assert verdicts(world, campaign) == [Verdict.INVALID] * 4
    assert len(set(report(world, campaign).reasons)) == 1


def test_being_first_with_nothing_earns_nothing_and_takes_nothing_from_the_others(world: Any, scientist: Any) -> None:
    campaign = scientist.campaign()
    idler = campaign.submit(data=dump_gradient(crafted(campaign, zeros(campaign))))
    workers = [campaign.submit() for _ in range(2)]
    steps(world)
    assert verdicts(world, campaign) == [Verdict.LEFT_OUT, Verdict.KEPT, Verdict.KEPT]
    terms = world.chain.campaign(campaign.id).terms
    assert world.chain.credit(Address(idler.address)) < terms.bond
    assert all(world.chain.credit(Address(worker.address)) > terms.bond for worker in workers)


def test_a_round_of_spam_pays_for_itself_and_goes_on(world: Any, scientist: Any) -> None:
    campaign = scientist.campaign()
    idle = dump_gradient(crafted(campaign, zeros(campaign)))
    spammers = [campaign.submit(data=data) for data in (idle, b"garbage", b"\x00" * 2000)]
    steps(world)
    terms = world.chain.campaign(campaign.id).terms
    back = [world.chain.credit(Address(spammer.address)) for spammer in spammers]
    assert back[0] == terms.bond - terms.bond * terms.slash // 10**6 < terms.bond
    assert back[1:] == [0, 0]
    assert world.chain.credit(scientist.address) == 3 * terms.bond - sum(back)
    for _ in range(3):
        campaign.submit()
    steps(world)
    assert world.chain.campaign(campaign.id).version == 1


def test_what_a_round_published_is_worth_nothing_in_the_next(world: Any, scientist: Any) -> None:
    """The last step, replayed, would earn a part of the next round without any data."""
    campaign = scientist.campaign(scientist.spec(round_size=4))
    for _ in range(4):
        campaign.submit()
    old = campaign.model().key
    steps(world)
    settled = report(world, campaign)
    kept = next(where for where in settled.published if where is not None)
    gradient = load_gradient(world.store.get(kept, max_bytes=10**6), old)
    made = Artifact(settled.settlement.product_cid, settled.settlement.product)
    product = load_product(world.store.get(made, max_bytes=10**6), old)
    model, fresh = campaign.model(), campaign.model().key
    assert fresh != old
    relabelled = dataclasses.replace(gradient, key=fresh, ciphertexts=tuple(c % fresh.n for c in gradient.ciphertexts))
    for data in (
        dump_gradient(rerandomise(gradient, Obfuscator(old))),
        dump_gradient(dataclasses.replace(product, scale=gradient.scale, bound=gradient.bound)),
        dump_gradient(relabelled),
        dump_model(model),
    ):
        campaign.submit(data=data)
    steps(world)
    assert verdicts(world, campaign, 1) == [Verdict.INVALID] * 4


# ---- a data scientist


def test_one_gradient_among_garbage_makes_no_version_and_is_not_published(world: Any, scientist: Any) -> None:
    # With her own accounts she can fill a round; what advances it must be the work of two all the same.
    campaign = scientist.campaign()
    before = campaign.model()
    campaign.submit()
    for _ in range(2):
        campaign.submit(data=dump_gradient(crafted(campaign, zeros(campaign))))
    steps(world)
    settled = report(world, campaign)
    assert not settled.settlement.advances
    assert settled.published == (None, None, None)
    assert all(outcome.weight == 0 for outcome in settled.settlement.outcomes)
    assert campaign.model() == before


def test_a_key_admits_one_model_however_many_ask_at_the_same_time(
    world: Any, scientist: Any, opened: list[bytes]
) -> None:
    key = scientist.key()
    drafts = [scientist.draft(key=key) for _ in range(4)]
    scientist.key()  # so that nobody is refused for having no key at all
    ended: list[object] = []
    barrier = threading.Barrier(len(drafts))

    def ask(draft: Any) -> None:
        barrier.wait(30)
        try:
            ended.append(
                world.service.admit(scientist.address, spec=draft.spec, model=draft.model, validation=draft.validation)
            )
        except CapsuleRefusedError as error:
            ended.append(error.code)

    threads = [threading.Thread(target=ask, args=(draft,)) for draft in drafts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(str(end) for end in ended if isinstance(end, str)) == ["key_used"] * 3
    assert len(ended) == 4
    assert opened == [key.key_id]


def _other_box(scientist: Any, key: Any) -> Any:
    context = dataclasses.replace(scientist.context(key), purpose=Purpose.GRADIENT)
    return scientist.draft(key=key, context=context)


def _bad_set(scientist: Any, key: Any) -> Any:
    return scientist.draft(key=key, validation=b"no tensors")


def _other_form(scientist: Any, key: Any) -> Any:
    return scientist.draft(key=key, slot_width=80)


def _too_good(scientist: Any, key: Any) -> Any:
    return scientist.draft(scientist.spec().model_copy(update={"payout": Payout(target=1)}), key=key)


def _stray_bits(scientist: Any, key: Any) -> Any:
    draft, store = scientist.draft(key=key), scientist.world.store
    model = load_model(store.get(draft.model, max_bytes=10**6), allow_insecure_small_key=True)
    n = key.n
    changed = (model.ciphertexts[0] * pow(1 + n, 1 << 500, n * n) % (n * n), *model.ciphertexts[1:])
    return dataclasses.replace(draft, model=store.put(dump_model(dataclasses.replace(model, ciphertexts=changed))))


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (_other_box, "bad_validation"),
        (_bad_set, "bad_validation"),
        (_other_form, "model_mismatch"),
        (_too_good, "target_reached"),
        (_stray_bits, "bad_model"),
    ],
)
def test_whatever_refuses_an_admission_after_a_secret_was_used_uses_the_key_up(
    world: Any, scientist: Any, make: Callable[[Any, Any], Any], code: str
) -> None:
    key = scientist.key()
    scientist.key()  # without another one, she would be refused before hers is looked at
    refused(code, lambda: scientist.admit(make(scientist, key)))
    good = scientist.draft(key=key)
    refused("key_used", lambda: scientist.admit(good))
    world.restart()
    refused("key_used", lambda: scientist.admit(good))
    assert world.capsule.state.counts()["admissions"] == 0


def test_a_campaigns_ciphertexts_are_not_decrypted_as_a_start_model(
    world: Any, scientist: Any, opened: list[bytes]
) -> None:
    """Admission tells a score: of somebody else's ciphertexts it would tell what they hold."""
    campaign = scientist.campaign()
    start = campaign.model()
    for _ in range(3):
        campaign.submit()
    steps(world)
    settled = report(world, campaign)
    kept = next(where for where in settled.published if where is not None)
    gradient = load_gradient(world.store.get(kept, max_bytes=10**6), start.key)
    rows = start.shape[0]
    unstacked = dataclasses.replace(start, ciphertexts=(gradient.ciphertexts * rows)[:rows])
    thief = type(scientist)(world)
    for asks in (scientist, thief):
        fresh = asks.draft()
        owned = "key_used" if asks is scientist else "unknown_key"
        opened.clear()
        for model, code in ((unstacked, owned), (start, owned), (campaign.model(), "unknown_key")):
            crafted_draft = dataclasses.replace(fresh, model=world.store.put(dump_model(model)))
            refused(code, lambda asks=asks, draft=crafted_draft: asks.admit(draft))
        assert opened == []
        assert asks.admit(fresh)  # none of this used her own key up


def test_the_model_is_not_given_away_before_the_chain_has_confirmed_the_end(world: Any, scientist: Any) -> None:
    """A short reorganisation could take the last settlement back, and the mines' pay with it, but not the model."""
    depth = 20  # blocks: the chain adds one a second by itself
    object.__setattr__(world.capsule, "policy", dataclasses.replace(world.policy, confirmations=depth))
    campaign = scientist.campaign(seconds=1000)
    public = SealingKeyPair.generate().public
    refused("not_over", lambda: scientist.client.deliver(campaign.id, public))
    running = world.chain.block_number()
    world.advance_time(1000)
    with pytest.raises(CapsuleUnavailableError, match=f"not for {depth} blocks yet"):
        scientist.client.deliver(campaign.id, public)
    box = None
    while box is None:
        world.advance_time(1)
        with contextlib.suppress(CapsuleUnavailableError):
            box = scientist.client.deliver(campaign.id, public)
        assert box is None or world.chain.block_number() > running + depth
    heir = world.new_account()
    world.chain_for(scientist.account).transact(transfer_campaign(campaign.id, Address(heir.address)))
    world.chain_for(heir).transact(accept_campaign(campaign.id))
    with pytest.raises(CapsuleUnavailableError, match=f"not for {depth} blocks yet"):
        world.client(heir).deliver(campaign.id, public)
    refused("not_owner", lambda: scientist.client.deliver(campaign.id, public))


# ---- whoever watches


def test_a_model_is_not_given_away_either_where_the_contract_is_newer_than_the_confirmations(
    world: Any, scientist: Any
) -> None:
    campaign = scientist.campaign(seconds=1000)
    world.advance_time(1000)
    depth = world.chain.block_number()
    object.__setattr__(world.capsule, "policy", dataclasses.replace(world.policy, confirmations=depth))
    with pytest.raises(CapsuleUnavailableError, match=f"not for {depth} blocks yet"):
        scientist.client.deliver(campaign.id, SealingKeyPair.generate().public)


def test_neither_the_store_nor_the_answers_hold_weights_gradients_or_data(world: Any, scientist: Any) -> None:
    features, labels = world.data.draw(200)
    draft = scientist.draft(validation=encode_validation(features, labels))
    campaign = _created(world, scientist, draft)
    gradients = [campaign.gradient() for _ in range(3)]
    mines = [campaign.submit(data=data) for data in gradients]
    steps(world)
    pair = SealingKeyPair.generate()
    world.advance_time(5000)
    steps(world)
    box = scientist.client.deliver(campaign.id, pair.public)
    context, payload = open_box(box, pair)
    assert context.account == scientist.address
    weights = np.frombuffer(payload[-8 * int(np.prod(draft.parsed.shape)) :], dtype="<i8")
    secrets = [payload, features.tobytes()[:64], labels.tobytes()]
    large = [int(weight) for weight in weights if abs(weight) > 10**6]
    secrets += [weight.to_bytes(8, order, signed=True) for weight in large for order in ("big", "little")]
    assert len(large) > 5

    client = world.client()
    said = [repr(client.round(campaign.id, 0)), repr(client.admission(campaign.id)), repr(client.health())]
    said += [repr(campaign_events(world.chain, campaign.id, 0)), repr(client.audit_head())]
    stored = [path.read_bytes() for path in (world.home / "store").iterdir()]
    for data in (*stored, box, *(text.encode() for text in said)):
        assert not any(secret in data for secret in secrets)
    for text in said:
        assert not any(str(weight) in text for weight in large)
    # What is there is the spec, what is encrypted, and boxes: of a gradient no other trace before it was kept.
    published = {where.digest for where in client.round(campaign.id, 0).published if where is not None}
    assert len(mines) == 3
    for data in gradients:
        assert (data in stored) == (digest_of(data) in published)


def _created(world: Any, scientist: Any, draft: Any) -> Any:
    given = scientist.admit(draft)
    chain = world.chain_for(scientist.account)
    terms = draft.parsed.terms(bounty=ether(1), deadline=chain.now() + 3600)
    chain.transact(create_campaign(terms, given.admission, given.signature, draft.spec.cid, draft.model.cid))
    return scientist.taking_part_in(hash_admission(world.domain, given.admission), draft)


# ---- anyone


def test_no_route_decrypts_scores_or_signs_what_it_is_given(world: Any) -> None:
    # Admitting once, releasing a network to admitted mines, delivering and attributing to the owner once it is over:
    # nothing else that a secret key takes part in can be asked for.
    asked = {
        (method, path)
        for path, methods in world.app.openapi()["paths"].items()
        for method in methods
        if method in {"get", "put", "post", "delete", "patch"}
    }
    assert {path for method, path in asked if method != "get"} == {
        "/v1/keys", "/v1/admissions", "/v1/weights", "/v1/deliveries", "/v1/attributions", "/v1/parts",
    }  # fmt: skip
    assert {path for method, path in asked if method == "get"} == {
        "/v1/info", "/v1/health", "/v1/live", "/v1/ready", "/v1/audit/head", "/v1/admissions/{campaign}",
        "/v1/campaigns/{campaign}/rounds/{number}",
    }  # fmt: skip


def test_artifacts_larger_than_their_kind_can_be_are_not_taken(world: Any, scientist: Any) -> None:
    fresh = scientist.draft()
    large = world.store.put(b" " * (MAX_SPEC_BYTES + 1))
    assert "more than" in refused("bad_artifact", lambda: scientist.admit(dataclasses.replace(fresh, spec=large)))
    model = world.store.put(bytes(10**6))
    assert "more than" in refused("bad_artifact", lambda: scientist.admit(dataclasses.replace(fresh, model=model)))
    campaign = scientist.campaign()
    campaign.submit(data=b"large", box=bytes(10**6))
    for _ in range(2):
        campaign.submit()
    steps(world)
    assert verdicts(world, campaign) == [Verdict.UNAVAILABLE, Verdict.KEPT, Verdict.KEPT]
    assert "more than" in report(world, campaign).reasons[0]


def test_a_validation_set_that_is_fetched_in_vain_uses_the_key_up(
    world: Any, scientist: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It may be a quarter of a gigabyte: each such fetch costs a key, and an account gets few of them.
    monkeypatch.setattr("capsule.admission.MAX_VALIDATION_BYTES", 10_000)
    fresh = scientist.draft()
    scientist.key()
    gone = dataclasses.replace(fresh, validation=Artifact(fresh.validation.cid, digest_of(b"another")))
    refused("bad_artifact", lambda: scientist.admit(gone))  # its CID says so: nothing was fetched
    large = dataclasses.replace(fresh, validation=world.store.put(bytes(20_000)))
    assert "more than" in refused("bad_artifact", lambda: scientist.admit(large))
    refused("key_used", lambda: scientist.admit(fresh))


def test_a_campaign_whose_names_are_no_text_stops_neither_mines_nor_capsule(world: Any, scientist: Any) -> None:
    draft = scientist.draft()
    given = scientist.admit(draft)
    chain = world.chain_for(scientist.account)
    terms = draft.parsed.terms(bounty=ether(1), deadline=chain.now() + 3600)
    entry = next(e for e in artifact()["abi"] if e["type"] == "function" and e["name"] == "createCampaign")
    kinds = ["bytes" if kind == "string" else kind for kind in arguments_type(entry)]
    values = [terms.to_abi(), given.admission.to_abi(), given.signature, b"\x80\xff", b"\xff" * 300]
    data = function_abi_to_4byte_selector(entry) + codec.encode(kinds, values)  # type: ignore[arg-type]
    chain.transact(EncodedCall(world.domain.contract, data, terms.bounty))
    campaign = hash_admission(world.domain, given.admission)
    assert world.chain.campaign(campaign).status is Status.RUNNING
    (made,) = (e for e in campaign_events(world.chain, campaign, 0) if isinstance(e, CampaignCreated))
    known = KnownCampaign(**_known(made))
    with pytest.raises(SonarError):
        read_offer(world.chain, world.store, known, MinePolicy(), world.attester.address)
    other = scientist.campaign()
    for _ in range(3):
        other.submit()
    steps(world)
    assert world.chain.campaign(other.id).version == 1


def _known(made: CampaignCreated) -> dict[str, Any]:
    spec = Artifact(made.spec_cid, made.admission.spec)
    model = Artifact(made.model_cid, made.admission.model)
    return {
        "id": made.id, "owner": made.owner, "token": made.terms.token, "admission": made.admission,
        "transaction": made.transaction, "spec": spec, "model": model, "key": made.admission.key, "version": 0,
        "round": 0, "score": made.admission.start_score, "status": Status.RUNNING, "block": made.block,
    }  # fmt: skip
