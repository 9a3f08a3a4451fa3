"""The audit of a campaign, from chain and store alone: a true one holds in every point, each kind of lie is named."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

import gmpy2
import httpx
import numpy as np
import pytest

from capsule.client import CapsuleClient
from pysonar.auditing import audit
from sonar.audit import Verdict
from sonar.audit.chain import fold
from sonar.audit.report import Notes
from sonar.audit.running import audit_story
from sonar.audit.story import Story, read_story
from sonar.chain.calls import top_up
from sonar.chain.events import (
    BountyRaised,
    CampaignClosed,
    CampaignCreated,
    CampaignFinished,
    CampaignTransferred,
    CampaignTransferStarted,
    Event,
    GradientJudged,
    GradientSubmitted,
    RoundSettled,
    Withdrawn,
)
from sonar.chain.records import NATIVE, PayoutBase, Status
from sonar.chain.records import Verdict as Judged
from sonar.protocol.spec import Spec
from sonar.storage.base import Artifact
from sonar.storage.cids import cid_of, upgraded_cid
from sonar.storage.directory import DirectoryStore
from sonar.storage.errors import ArtifactNotFoundError
from sonar.syft import (
    CiphertextError,
    Obfuscator,
    PublicKey,
    dump_gradient,
    dump_model,
    dump_product,
    encrypt,
    load_gradient,
    load_model,
    load_product,
    product,
)
from sonar.units import Address, CampaignId, Digest, KeyId, Ppm, Wei, digest_of

SOMEBODY = Address("0x00000000000000000000000000000000000000AA")


@dataclass
class Audited:
    """A campaign of two rounds as a true node tells it, and a store of its own."""

    story: Story
    files: Path

    @property
    def store(self) -> DirectoryStore:
        return DirectoryStore(self.files)

    def findings(self, story: Story | None = None) -> dict[tuple[str, str], Verdict]:
        """What is not as it must be, by check and place."""
        report = audit_story(story or self.story, self.store, allow_insecure_small_key=True)
        return {(one.check, one.place): one.verdict for one in report.findings if one.verdict is not Verdict.HOLDS}

    def file(self, digest: Digest) -> Path:
        return self.files / cid_of(digest)


_TOLD: dict[str, Any] = {}


@pytest.fixture
def audited(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Audited:
    """The same campaign for all tests, its artifacts in a fresh directory for each."""
    if not _TOLD:
        world = request.getfixturevalue("world")
        _TOLD["story"] = play(world, request.getfixturevalue("scientist"))
        _TOLD["files"] = tmp_path_factory.mktemp("artifacts") / "store"
        shutil.copytree(world.home / "store", _TOLD["files"])
    files = tmp_path / "audited"
    shutil.copytree(_TOLD["files"], files)
    return Audited(_TOLD["story"], files)


@dataclass
class WithoutBlue:
    """Data that lack a class, so that much is left to learn for who has it."""

    data: Any

    def draw(self, records: int, *, shuffled: bool = False) -> tuple[Any, Any]:
        features, labels = self.data.draw(records, shuffled=shuffled)
        return features[labels < 2], labels[labels < 2]


def play(world: Any, scientist: Any) -> Story:
    """Two rounds that advance, the bounty raised between them, and one gradient that waits."""
    campaign = scientist.campaign(scientist.spec(noise=0.0, min_gain=1))
    everything = world.data
    for round_, data in enumerate((WithoutBlue(everything), everything)):
        world.data = data
        for records in (40, 300, 900):
            campaign.submit(data=campaign.gradient(records=records))
        world.worker.step()  # settles it
        world.worker.step()  # sees that it is settled, and publishes
        assert world.chain.round(campaign.id).number == round_ + 1
        if round_ == 0:
            world.chain.transact(top_up(campaign.id, Wei(12_345)))
    campaign.submit()
    world.worker.step()
    story = read_story(world.chain, campaign.id, 0)
    assert [event.advances for event in story.events if isinstance(event, RoundSettled)] == [True, True]
    return story


def changed(story: Story, kind: type, changes: dict[str, Any], at: int = 0) -> Story:
    """The story of a node that changes one of its events."""
    places = [place for place, event in enumerate(story.events) if isinstance(event, kind)]
    events = list(story.events)
    events[places[at]] = replace(events[places[at]], **changes)
    return replace(story, events=tuple(events))


def test_a_true_campaign_holds_in_every_point(audited: Audited) -> None:
    report = audit_story(audited.story, audited.store, allow_insecure_small_key=True)
    assert not report.differences
    assert not report.unchecked
    assert report.exit_code == 0
    checks = {finding.check for finding in report.findings}
    assert checks == {
        "contract", "admission", "signature", "order", "entries", "verdicts", "payout", "share", "bond", "bounty",
        "record", "conservation", "spec", "model", "key", "product",
    }  # fmt: skip
    assert {"round 0", "round 1"} <= {one.place for one in report.findings if one.check == "product"}
    told = report.to_dict()
    created = audited.story.events[0]
    assert isinstance(created, CampaignCreated)
    assert told["oracle"] == report.oracle == created.oracle
    assert f"judged by {created.oracle}: " in str(report)
    assert report.stranger_to(None) is report.stranger_to(created.oracle.lower()) is None
    assert str(report.stranger_to(SOMEBODY)).startswith(f"the oracle {created.oracle} is not the Capsule that")
    assert told["differs"] == 0
    assert len(told["findings"]) == told["holds"]
    assert str(report).endswith(" checks hold, 0 differ, 0 could not be made")


EVENT_LIES: list[tuple[str, type, dict[str, Any], set[tuple[str, str]]]] = [
    ("another model of the start", CampaignCreated, {"admission": {"model": Digest(bytes(32))}},
     {("admission", "campaign"), ("signature", "campaign")}),
    ("a higher start score", CampaignCreated, {"admission": {"start_score": Ppm(1)}},
     {("admission", "campaign"), ("signature", "campaign"), ("payout", "round 0")}),
    ("another oracle", CampaignCreated, {"oracle": SOMEBODY}, {("admission", "campaign")}),
    ("another bond", CampaignCreated, {"terms": {"bond": Wei(5)}},
     {("record", "campaign"), ("spec", "campaign"), ("bond", "round 0, gradient 0")}),
    ("a larger bounty", CampaignCreated, {"terms": {"bounty": Wei(10**20)}},
     {("payout", "round 0"), ("record", "campaign"), ("bounty", "campaign")}),
    ("another gradient", GradientSubmitted, {"gradient": Digest(bytes(32))},
     {("signature", "round 0")}),
    ("another mine", GradientSubmitted, {"mine": SOMEBODY}, {("entries", "round 0")}),
    ("another place in the round", GradientSubmitted, {"index": 2}, {("order", "round 0, gradient 2")}),
    ("a score that pays more", RoundSettled, {"score": Ppm(990_000)},
     {("signature", "round 0"), ("payout", "round 0")}),
    ("a payout beyond the formula", RoundSettled, {"payout": Wei(10**18)}, {("payout", "round 0")}),
    ("another product", RoundSettled, {"product": Digest(b"p" * 32)},
     {("signature", "round 0"), ("product", "round 0")}),
    ("another next model", RoundSettled, {"model": Digest(b"m" * 32)},
     {("signature", "round 0"), ("model", "round 0")}),
    ("another next key", RoundSettled, {"key": KeyId(b"k" * 32)},
     {("signature", "round 0"), ("key", "round 0")}),
    ("another exponent", RoundSettled, {"exponent": 63}, {("signature", "round 0"), ("product", "round 0")}),
    ("a weight that was not signed", GradientJudged, {"weight": 10**6}, {("signature", "round 0")}),
    ("a share that was not signed", GradientJudged, {"share": Ppm(999_999)},
     {("signature", "round 0"), ("verdicts", "round 0")}),
    ("pay for another share", GradientJudged, {"payout": Wei(3)},
     {("share", "round 0, gradient 0"), ("conservation", "campaign")}),
    ("a bond that was lost", GradientJudged, {"bond_returned": Wei(0)},
     {("bond", "round 0, gradient 0"), ("conservation", "campaign")}),
    ("a verdict that was not signed", GradientJudged, {"verdict": Judged.COPY},
     {("signature", "round 0"), ("verdicts", "round 0"), ("bond", "round 0, gradient 0")}),
    ("a bounty raised by more", BountyRaised, {"amount": Wei(99_999)},
     {("bounty", "campaign"), ("record", "campaign")}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "changes", "named"), [lie[1:] for lie in EVENT_LIES], ids=[lie[0] for lie in EVENT_LIES]
)
def test_a_node_that_changes_an_event_is_found(
    audited: Audited, kind: type, changes: dict[str, Any], named: set[tuple[str, str]]
) -> None:
    first = next(event for event in audited.story.events if isinstance(event, kind))
    whole = {name: replace(getattr(first, name), **value) if isinstance(value, dict) else value
             for name, value in changes.items()}  # fmt: skip
    assert whole != {name: getattr(first, name) for name in whole}
    found = audited.findings(changed(audited.story, kind, whole))
    assert named <= found.keys()
    assert all(found[place] is Verdict.DIFFERS for place in named)


def test_events_that_are_left_out_added_or_exchanged_are_found(audited: Audited) -> None:
    events = list(audited.story.events)
    gradients = [place for place, event in enumerate(events) if isinstance(event, GradientSubmitted)]

    def told(*order: int) -> Story:
        return replace(audited.story, events=tuple(events[place] for place in order))

    everything = range(len(events))
    without = told(*(place for place in everything if place != gradients[1]))
    assert ("entries", "round 0") in audited.findings(without)
    twice = told(*(place for one in everything for place in ([one, one] if one == gradients[1] else [one])))
    assert ("entries", "round 0") in audited.findings(twice)
    exchanged = list(everything)
    exchanged[gradients[0]], exchanged[gradients[1]] = gradients[1], gradients[0]
    assert ("entries", "round 0") in audited.findings(told(*exchanged))
    raises = next(place for place, event in enumerate(events) if isinstance(event, BountyRaised))
    assert ("record", "campaign") in audited.findings(told(*(place for place in everything if place != raises)))
    assert ("order", "campaign") in audited.findings(told(*everything[1:]))
    finish = CampaignFinished(events[-1].block, 99, bytes(32), audited.story.campaign, audited.story.record.score)
    ended = replace(audited.story, events=(*events, finish))
    assert ("order", "campaign") in audited.findings(ended)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("record", {"id": CampaignId(bytes(32))}),
        ("record", {"status": Status.CLOSED}),
        ("record", {"start_score": Ppm(7)}),
        ("record", {"score": Ppm(7)}),
        ("record", {"base": Ppm(7)}),
        ("record", {"version": 9}),
        ("record", {"paid": Wei(1)}),
        ("record", {"owner": SOMEBODY}),
        ("record", {"oracle": SOMEBODY}),
        ("round", {"opened_at": 7}),
        ("round", {"closes_at": 7}),
        ("round", {"expires_at": 7}),
        ("round", {"settled": 7}),
    ],
    ids=str,
)
def test_a_contract_that_holds_something_else_than_its_events_is_found(
    audited: Audited, part: str, change: dict[str, Any]
) -> None:
    story = replace(audited.story, **{part: replace(getattr(audited.story, part), **change)})
    assert audited.findings(story) == {("record", "campaign"): Verdict.DIFFERS}


def test_an_offer_that_no_event_tells_of_is_found(audited: Audited) -> None:
    found = audited.findings(replace(audited.story, pending_owner=SOMEBODY))
    assert found == {("record", "campaign"): Verdict.DIFFERS}


def test_a_contract_that_has_less_than_the_campaign_must_still_pay_is_found(audited: Audited) -> None:
    record, bond = audited.story.record, audited.story.record.terms.bond
    due = record.terms.bounty - record.paid + bond * audited.story.round.count
    assert not audited.findings(replace(audited.story, held={NATIVE: due}))
    found = audited.findings(replace(audited.story, held={NATIVE: due - 1}))
    assert found == {("conservation", "campaign"): Verdict.DIFFERS}


def other_value(value: Any) -> Any:
    """Something else of the same kind."""
    match value:
        case IntEnum():
            return next(one for one in type(value) if one is not value)
        case int():
            return value + 1
        case bytes():
            return bytes([value[0] ^ 1]) + value[1:]
        case str():
            return SOMEBODY if value.startswith("0x") else "bafkother"
    return None


NOT_SEEN = {
    "log_index": "the order of events is what is looked at",
    "cid": "where a sealed box lies is for the Capsule",
    "sender": "who raised a bounty is nobody's promise",
    ("CampaignCreated", "spec_cid"): "a hint, which the store refuses",
    ("CampaignCreated", "model_cid"): "a hint, which the store refuses",
    ("GradientSubmitted", "transaction"): "nothing in it is signed by the oracle",
    ("BountyRaised", "transaction"): "nothing in it is signed by the oracle",
    ("RoundSettled", "block"): "settling late is valid until somebody expires the round",
    ("GradientJudged", "block"): "it is judged in the transaction that settles its round",
}


def test_every_field_of_every_event_is_compared_with_something(audited: Audited) -> None:
    """A node that changes one value of one event is found, whatever it is, but for what no promise is made of."""
    story, unseen = audited.story, set()
    for place, event in enumerate(story.events):
        for field in fields(event):
            value = getattr(event, field.name)
            changes = (
                [replace(value, **{inner.name: other_value(getattr(value, inner.name))}) for inner in fields(value)]
                if is_dataclass(value) and not isinstance(value, type)
                else [other_value(value)]
            )
            for change in changes:
                events = [*story.events]
                events[place] = replace(event, **{field.name: change})
                # A node that moves an event to another block tells a time of it.
                times = {**story.times, events[place].block: story.times[event.block] + 10_000}
                notes = Notes()
                fold(replace(story, events=tuple(events), times=times if field.name == "block" else story.times), notes)
                if all(one.verdict is Verdict.HOLDS for one in notes.findings):
                    unseen.add((type(event).__name__, field.name))
    assert {name for name in unseen if name not in NOT_SEEN and name[1] not in NOT_SEEN} == set()
    assert {
        ("CampaignCreated", "spec_cid"),
        ("RoundSettled", "block"),
    } <= unseen  # the list is not longer than it must be


def test_the_story_of_another_campaign_is_not_taken_for_the_one_that_was_asked_for(audited: Audited) -> None:
    """A node that made up all of it, oracle and signatures too, cannot make the id that was asked for."""
    asked = CampaignId(digest_of(b"the one that was asked for"))
    story = replace(audited.story, campaign=asked, record=replace(audited.story.record, id=asked))
    assert audited.findings(story)[("admission", "campaign")] is Verdict.DIFFERS


def test_what_the_contract_would_not_have_done_is_found(audited: Audited) -> None:
    story, events = audited.story, audited.story.events
    created, last = events[0], events[-1]
    assert isinstance(created, CampaignCreated)
    place = (last.block, 99, bytes(32), story.campaign)

    def also(*more: Event) -> dict[tuple[str, str], Verdict]:
        return audited.findings(replace(story, events=(*events, *more)))

    judged = next(event for event in events if isinstance(event, GradientJudged))
    settled = [event for event in events if isinstance(event, RoundSettled)][-1]
    assert ("entries", "round 2") in also(replace(judged, round=2, payout=Wei(0)))
    closed = CampaignClosed(*place, created.owner, Wei(story.record.terms.bounty - story.record.paid))
    assert ("order", "campaign") in also(closed)
    assert ("order", "campaign") in also(closed, closed)
    assert ("order", "round 1") in also(closed, settled)
    assert ("owner", "campaign") in also(CampaignTransferStarted(*place, SOMEBODY, SOMEBODY))
    assert ("owner", "campaign") in also(CampaignTransferred(*place, created.owner, SOMEBODY))
    assert ("order", "campaign") in also(Withdrawn(*place[:3], NATIVE, SOMEBODY, SOMEBODY, Wei(1)))
    assert ("order", "campaign") in also(replace(created, id=CampaignId(bytes(32))))
    late = {**story.times, last.block + 1: created.terms.deadline}
    raised = BountyRaised(last.block + 1, 1, bytes(32), story.campaign, SOMEBODY, Wei(1), Wei(10**18 + 12_346))
    assert ("bounty", "campaign") in audited.findings(replace(story, events=(*events, raised), times=late))
    # An end that was not told, and an addition after it, of which there is nothing that it could be paid for.
    few = replace(created.terms, max_rounds=1)
    assert ("order", "campaign") in audited.findings(changed(story, CampaignCreated, {"terms": few}))
    low = replace(created.terms, target=Ppm(400_000), payout_base=PayoutBase.GAIN)
    found = audited.findings(changed(story, CampaignCreated, {"terms": low}))
    assert {("order", "campaign"), ("bounty", "campaign")} <= found.keys()
    for target in (0, created.admission.start_score):
        none = replace(created.terms, target=Ppm(target), payout_base=PayoutBase.GAIN)
        assert ("admission", "campaign") in audited.findings(changed(story, CampaignCreated, {"terms": none}))


def test_a_gradient_that_was_kept_twice_is_found(audited: Audited) -> None:
    """A Capsule that lets one gradient of several accounts make up the least number of mines."""
    first = next(event for event in audited.story.events if isinstance(event, GradientSubmitted))
    found = audited.findings(changed(audited.story, GradientSubmitted, {"gradient": first.gradient}, at=1))
    assert found[("verdicts", "round 0, gradient 1")] is Verdict.DIFFERS


@pytest.mark.parametrize(
    "keys", [[(0, 1), (2, 3), (0, 4)], [(0, 1), (2, 3), (0, 2)]], ids=["one of its primes", "both of its primes"]
)
def test_keys_with_a_prime_in_common_are_found(audited: Audited, keys: list[tuple[int, int]]) -> None:
    """Whoever computes the greatest common divisor of two moduli then has the secret keys of both."""
    created = audited.story.events[0]
    assert isinstance(created, CampaignCreated)
    spec = Spec.parse(audited.file(created.admission.spec).read_bytes())
    primes = [int(gmpy2.next_prime(3 << 254 | number << 128)) for number in range(1, 6)]
    story = audited.story
    for version, (p, q) in enumerate(keys):
        key = PublicKey(primes[p] * primes[q], allow_insecure_small_key=True)
        encoding = spec.encoding
        model = encrypt(
            np.zeros(spec.shape, dtype=np.int64), key, Obfuscator(key), slot_width=encoding.slot_width,
            scale=encoding.weight_bits, bound=encoding.weight_bound, stride=encoding.stride(key, spec.shape[1]),
        )  # fmt: skip
        stored = audited.store.put(dump_model(model))
        changes = {"model": stored.digest, "key": key.key_id}
        if version == 0:
            admission = replace(created.admission, **changes)
            story = changed(story, CampaignCreated, {"admission": admission, "model_cid": stored.cid})
        else:
            story = changed(story, RoundSettled, {**changes, "model_cid": stored.cid}, at=version - 1)
    report = audit_story(story, audited.store, allow_insecure_small_key=True)
    told = [one.sentence for one in report.differences if (one.check, one.place) == ("key", "round 1")]
    assert told == ["the model's key has a prime in common with an earlier one's, so that everybody can work out both"]


def test_another_contract_at_the_address_is_named(audited: Audited) -> None:
    found = audited.findings(replace(audited.story, code_problem="the code at the address is another"))
    assert found == {("contract", "campaign"): Verdict.DIFFERS}


def test_a_round_settled_too_early_and_a_gradient_too_late_are_found(audited: Audited) -> None:
    first = next(event for event in audited.story.events if isinstance(event, GradientSubmitted))
    settled = next(event for event in audited.story.events if isinstance(event, RoundSettled))
    times = {**audited.story.times, first.block: audited.story.times[first.block] - 10_000}
    late = audited.findings(replace(audited.story, times=times))
    assert ("order", "round 0, gradient 1") in late
    small = replace(audited.story.events[0].terms, round_size=64)  # type: ignore[union-attr]
    early = audited.findings(changed(audited.story, CampaignCreated, {"terms": small}))
    assert ("order", f"round {settled.round}") in early


def test_signatures_that_are_missing_or_anothers_are_found(audited: Audited) -> None:
    settled = next(event for event in audited.story.events if isinstance(event, RoundSettled))
    signatures = dict(audited.story.signatures)
    other = signatures.pop(settled.transaction)
    missing = audited.findings(replace(audited.story, signatures=signatures))
    assert missing == {("signature", "round 0"): Verdict.UNCHECKED}
    forged = {**signatures, settled.transaction: other[:-2] + bytes(2)}
    assert audited.findings(replace(audited.story, signatures=forged)) == {("signature", "round 0"): Verdict.DIFFERS}
    # Its own key's word counts for an account that has code as well; what other words it takes, it alone knows.
    assert not audited.findings(replace(audited.story, oracle_is_contract=True))
    contract = replace(audited.story, oracle_is_contract=True, signatures=forged)
    assert audited.findings(contract) == {("signature", "round 0"): Verdict.UNCHECKED}


def artifacts(audited: Audited) -> Iterator[tuple[str, str, Digest]]:
    """Every artifact that an audit reads: its check, place and digest."""
    created = audited.story.events[0]
    assert isinstance(created, CampaignCreated)
    yield "spec", "campaign", created.admission.spec
    yield "model", "campaign", created.admission.model
    for event in audited.story.events:
        if isinstance(event, RoundSettled):
            yield "model", f"round {event.round}", event.model
            yield "product", f"round {event.round}", event.product
    kept = {(event.round, event.index) for event in audited.story.events
            if isinstance(event, GradientJudged) and event.weight}  # fmt: skip
    for event in audited.story.events:
        if isinstance(event, GradientSubmitted) and (event.round, event.index) in kept:
            yield "gradient", f"round {event.round}, gradient {event.index}", event.gradient


def test_every_artifact_that_was_changed_is_named_and_one_that_is_gone_is_not_believed(audited: Audited) -> None:
    everything = list(artifacts(audited))
    assert len(everything) >= 9
    for check, place, digest in everything:
        file = audited.file(digest)
        data = file.read_bytes()
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        assert audited.findings()[(check, place)] is Verdict.DIFFERS, (check, place)
        file.unlink()
        assert audited.findings()[(check, place)] is Verdict.UNCHECKED, (check, place)
        file.write_bytes(data)
    assert not audited.findings()


def test_a_product_that_the_oracle_signed_but_nobody_can_make_is_found(audited: Audited) -> None:
    """The Capsule's own lie: bytes that fit their digest, under a signature that fits, but of another model."""
    settled = [event for event in audited.story.events if isinstance(event, RoundSettled)]
    created = audited.story.events[0]
    assert isinstance(created, CampaignCreated)
    model = load_model(audited.file(created.admission.model).read_bytes(), allow_insecure_small_key=True)
    true = load_product(audited.file(settled[0].product).read_bytes(), model.key)
    # Another encryption of other numbers, in the true one's form.
    squares = tuple(ciphertext * ciphertext % model.key.n_squared for ciphertext in true.ciphertexts)
    lie = audited.store.put(dump_product(replace(true, ciphertexts=squares)))
    story = changed(audited.story, RoundSettled, {"product": lie.digest, "product_cid": lie.cid})
    found = audited.findings(story)
    assert found.pop(("signature", "round 0")) is Verdict.DIFFERS  # the test cannot sign for the Capsule
    assert found == {("product", "round 0"): Verdict.DIFFERS}


@pytest.mark.parametrize("change", ["scale", "bound"])
def test_gradients_that_were_kept_though_the_spec_does_not_take_them_are_found(audited: Audited, change: str) -> None:
    """Of a gradient at twice the scale that is kept the model takes half, and the product tells nothing of that."""
    story, settled = audited.story, next(one for one in audited.story.events if isinstance(one, RoundSettled))
    created = story.events[0]
    assert isinstance(created, CampaignCreated)
    model = load_model(audited.file(created.admission.model).read_bytes(), allow_insecure_small_key=True)
    posted = [one for one in story.events if isinstance(one, GradientSubmitted) and one.round == 0]
    judged = [one for one in story.events if isinstance(one, GradientJudged) and one.round == 0]
    gradients, weights = [], []
    for at, (gradient, outcome) in enumerate(zip(posted, judged, strict=True)):
        if not outcome.weight:
            continue
        true = load_gradient(audited.file(gradient.gradient).read_bytes(), model.key)
        other = replace(true, **{change: getattr(true, change) + 1})
        story = changed(story, GradientSubmitted, {"gradient": audited.store.put(dump_gradient(other)).digest}, at=at)
        gradients, weights = [*gradients, other], [*weights, outcome.weight]
    made = audited.store.put(dump_product(product(model, gradients, weights, settled.exponent)))
    story = changed(story, RoundSettled, {"product": made.digest, "product_cid": made.cid})
    found = audited.findings(story)
    assert ("product", "round 0") not in found
    assert [place for check, place in found if check == "gradient"] == [
        f"round 0, gradient {at}" for at, outcome in enumerate(judged) if outcome.weight
    ]


def test_a_published_gradient_is_read_under_its_rounds_key_only(audited: Audited) -> None:
    settled = [event for event in audited.story.events if isinstance(event, RoundSettled)]
    gradient = next(digest for check, place, digest in artifacts(audited) if place.startswith("round 0, gradient"))
    other = load_model(audited.file(settled[0].model).read_bytes(), allow_insecure_small_key=True).key
    with pytest.raises(Exception, match="names the key") as caught:
        load_gradient(audited.file(gradient).read_bytes(), other)
    assert not isinstance(caught.value, CiphertextError)


class ByNodes(DirectoryStore):
    """A store that finds no artifact by its digest alone, as IPFS nodes do not that keep no raw blocks."""

    def __init__(self, inner: DirectoryStore, elsewhere: dict[Digest, Any]) -> None:
        self._inner, self._elsewhere = inner, elsewhere

    def get(self, artifact: Artifact, *, max_bytes: int) -> bytes:
        if artifact.digest in self._elsewhere:
            if artifact.cid != self._elsewhere[artifact.digest]:
                raise ArtifactNotFoundError(f"{artifact.cid} was not found")
            artifact = Artifact(cid_of(artifact.digest), artifact.digest)
        return self._inner.get(artifact, max_bytes=max_bytes)


def test_small_gradients_that_no_digest_finds_are_found_where_the_capsule_published_them(audited: Audited) -> None:
    elsewhere = upgraded_cid("QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH")
    nodes = {digest: elsewhere for check, _, digest in artifacts(audited) if check == "gradient"}
    store = ByNodes(audited.store, nodes)
    told = audit_story(audited.story, store, places=lambda _: nodes, allow_insecure_small_key=True)
    alone = audit_story(audited.story, store, allow_insecure_small_key=True)
    assert (told.exit_code, alone.exit_code) == (0, 11)


def test_where_a_published_gradient_lies_may_be_told_and_proves_nothing(audited: Audited) -> None:
    asked: list[int] = []

    def places(number: int) -> dict[Digest, Any]:
        asked.append(number)
        return {digest: cid_of(Digest(bytes(32))) for check, _, digest in artifacts(audited) if check == "gradient"}

    # Whoever tells a wrong place does not make a true campaign false: each is looked for by its digest, too.
    report = audit_story(audited.story, audited.store, places=places, allow_insecure_small_key=True)
    assert (report.exit_code, asked) == (0, [0, 1])
    # What is not to be had anywhere is not called another one because of a hint.
    gone = next(digest for check, _, digest in artifacts(audited) if check == "gradient")
    audited.file(gone).unlink()
    report = audit_story(audited.story, audited.store, places=places, allow_insecure_small_key=True)
    assert (report.differences, {one.check for one in report.unchecked}) == ((), {"gradient", "product"})


class Asked(httpx.BaseTransport):
    """A Capsule that is not there, or answers nonsense, and what it was asked."""

    def __init__(self, answer: httpx.Response | None) -> None:
        self.answer, self.asked = answer, set[str]()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.add(request.url.path.rpartition("/")[2])
        if self.answer is None:
            raise httpx.ConnectError("nobody is there", request=request)
        return self.answer


def test_a_capsule_says_where_gradients_are_and_one_that_is_no_help_is_waited_for_once(
    world: Any, scientist: Any
) -> None:
    """All that it says is a hint: with it, without it and without any Capsule the audit is the same."""
    story = play(world, scientist)
    useless = [Asked(None), Asked(httpx.Response(200, content=b"[" * 1000)), Asked(httpx.Response(500))]
    clients = [CapsuleClient("http://capsule", world.domain, None, transport=one) for one in useless]
    reports = [
        audit(world.chain, world.store, story.campaign, start_block=0, capsule=capsule, allow_insecure_small_key=True)
        for capsule in (world.client(), None, *clients)
    ]
    assert [report.exit_code for report in reports] == [0] * 5
    assert all(report.findings == reports[0].findings for report in reports)
    assert [one.asked for one in useless] == [{"0"}] * 3
    for client in clients:
        client.close()
