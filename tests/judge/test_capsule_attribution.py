"""How a model splits by mines: exact shares for every owner, exact parts where the spec opens them."""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from capsule.attribution import told_shares
from capsule.custody.retention import delete_secrets
from capsule.errors import CapsuleRefusedError, CapsuleUnavailableError
from capsule.judge import PULL_BOUND, ValidationSet
from capsule.secret import decrypt
from capsule.weights import open_weights
from sonar.network.parameters import encode, in_rows, joined
from sonar.network.tracing import trace
from sonar.protocol.attribution import SHARE_STEP, Parts, Shares, decode_parts, decode_shares
from sonar.protocol.payloads import decode_weights, design_matrix, encode_validation
from sonar.protocol.sealing import BoxContext, Purpose, SealingKeyPair, open_box_for
from sonar.protocol.spec import Encoding, Feature, FourierMap, NetworkTerms, Payout, PolynomialMap, Rounds, Spec
from sonar.syft import Obfuscator, Statistics, apply_map, dump_gradient, load_gradient, training_map
from sonar.units import PPM, Address, CampaignId


def refused(code: str, action: Callable[[], Any]) -> str:
    with pytest.raises(CapsuleRefusedError) as caught:
        action()
    assert caught.value.code == code, caught.value
    return str(caught.value)


@dataclass
class Played:
    """A campaign that was trained by mines whose records the test knows, and what it takes to train it again."""

    world: Any
    scientist: Any
    campaign: Any
    validation: Any
    epochs: int = 2
    maps: dict[str, Any] = field(default_factory=dict)
    posted: dict[tuple[int, str], bytes] = field(default_factory=dict)
    spoiler: str = ""

    @property
    def spec(self) -> Any:
        return self.campaign.draft.parsed

    def mine(self, *, shuffled: bool = False) -> Any:
        account, rows = self.world.new_account(), self.spec.shape[0]
        features, labels = self.world.data.draw(300, shuffled=shuffled)
        statistics = Statistics.empty(*self.spec.shape)
        batch = design_matrix(self.spec, features)
        assert batch.shape == (300, rows)
        statistics = statistics.add_batch(batch, np.eye(3)[labels]) or statistics
        self.maps[account.address] = training_map(statistics, epochs=self.epochs, rate=1.0, l2=1e-3)
        return account

    def round(self, *mines: Any) -> None:
        """The mines post, and the round is settled."""
        number, model = self.world.chain.round(self.campaign.id).number, self.campaign.model()
        for account in mines:
            encoding = self.spec.encoding
            data = dump_gradient(
                apply_map(
                    self.maps[account.address], model, map_bits=encoding.map_bits, factor_bits=encoding.factor_bits,
                    gradient_bound=encoding.gradient_bound, obfuscator=Obfuscator(model.key),
                )
            )  # fmt: skip
            self.posted[number, account.address] = data
            self.campaign.submit(account, data)
        self.world.advance_time(61)
        for _ in range(20):
            self.world.worker.step()
            if self.world.chain.round(self.campaign.id).number > number:
                break
        for _ in range(2):
            self.world.worker.step()

    def end(self) -> None:
        self.world.advance_time(4000)
        self.world.worker.step()

    def settlements(self) -> list[Any]:
        """Those of the rounds that advanced, with the versions that they were judged on."""
        state = self.world.capsule.state
        rounds = [self.world.client().round(self.campaign.id, stored.round).settlement
                  for stored in state.rounds(self.campaign.id)]  # fmt: skip
        return [(settlement, state.version(self.campaign.id, number))
                for number, settlement in enumerate(one for one in rounds if one.advances)]  # fmt: skip

    def weights(self, number: int) -> Any:
        state = self.world.capsule.state
        opened = open_weights(self.world.vault, self.campaign.id, state.version(self.campaign.id, number))
        return decode_weights(opened, self.spec).astype(object)

    def opened(self, box: bytes, pair: SealingKeyPair, purpose: Purpose) -> bytes:
        domain, version = self.world.domain, self.world.chain.campaign(self.campaign.id).version
        context = BoxContext(
            purpose, domain.chain_id, domain.contract, self.scientist.address, self.campaign.id.hex(), version
        )
        return open_box_for(box, pair, context)

    def asked(self) -> bytes:
        pair = SealingKeyPair.generate()
        box = self.scientist.client.attribution(self.campaign.id, pair.public)
        return self.opened(box, pair, Purpose.ATTRIBUTION)

    def shares(self) -> Shares:
        return decode_shares(self.asked())

    def parts(self, first: int = 0) -> Parts:
        pair = SealingKeyPair.generate()
        box = self.scientist.client.parts(self.campaign.id, first, pair.public)
        return decode_parts(self.opened(box, pair, Purpose.PARTS), self.spec)

    def sums(self) -> tuple[dict[str, Any], int]:
        """Each mine's part in integers, from what it posted, decrypted by the test; and their fractional bits."""
        found: dict[str, Any] = defaultdict(int)
        for settlement, version in self.settlements():
            secret = self.world.capsule.keys.secret(version.key)
            entries = self.world.capsule.state.submissions(self.campaign.id, settlement.round)
            for submission, outcome in zip(entries, settlement.outcomes, strict=True):
                if outcome.weight:
                    data = self.posted[settlement.round, submission.entry.mine]
                    values = decrypt(secret, load_gradient(data, secret.public)).astype(object)
                    found[submission.entry.mine] = found[submission.entry.mine] + outcome.weight * values
        return found, self.spec.encoding.gradient_scale + self.spec.encoding.step_bits

    def retrained(self) -> dict[str, Any]:
        """Each mine's part in floats: its own affine map of each version, by the settlements' weights."""
        found: dict[str, Any] = defaultdict(float)
        for number, (settlement, _) in enumerate(self.settlements()):
            present = self.weights(number).astype(float) / 2.0**self.spec.encoding.weight_bits
            entries = self.world.capsule.state.submissions(self.campaign.id, settlement.round)
            for submission, outcome in zip(entries, settlement.outcomes, strict=True):
                if outcome.weight:
                    affine = self.maps[submission.entry.mine]
                    step = affine.change @ present + affine.constant
                    found[submission.entry.mine] += outcome.weight / 2.0**settlement.exponent * step
        return found

    def expected_shares(self, parts: dict[str, Any]) -> dict[str, float]:
        """The definition, record by record."""
        design = design_matrix(self.spec, self.validation[0])
        last = self.world.chain.campaign(self.campaign.id).version
        moved = design @ ((self.weights(last) - self.weights(0)).astype(float) / 2.0**self.spec.encoding.weight_bits)
        whole = sum(m @ m for m in moved)
        return {mine: sum(p @ m for p, m in zip(design @ part, moved, strict=True)) / whole
                for mine, part in parts.items()}  # fmt: skip


def begin(world: Any, scientist: Any, *, wrong: float = 0.2, epochs: int = 2, **changes: Any) -> Played:
    """A campaign whose start model is wrong, of weights of about this size, and mended in some rounds of few epochs."""
    usual = scientist.spec(max_rounds=5, min_mines=1, noise=0.3, round_size=4)
    validation = world.data.draw(200)
    spec = Spec.build(**{name: getattr(usual, name) for name in Spec.model_fields} | changes)
    start = np.random.default_rng(3).normal(scale=wrong, size=spec.shape)
    weights = np.rint(start * 2.0**spec.encoding.weight_bits).astype(np.int64)
    campaign = scientist.campaign(spec, validation=encode_validation(*validation), weights=weights)
    return Played(world, scientist, campaign, validation, epochs)


def one_round(world: Any, scientist: Any, **changes: Any) -> Played:
    """A campaign of one round of two mines."""
    played = begin(world, scientist, **changes)
    played.round(played.mine(), played.mine())
    return played


@pytest.fixture(params=["linear", "fourier", "polynomial"])
def played(request: pytest.FixtureRequest, world: Any, scientist: Any) -> Played:
    """A campaign of each kind of model: one mine in every round, others in some, and one of random labels."""
    maps = {"linear": {}, "fourier": {"feature_map": FourierMap(count=24, gamma=0.2), "wrong": 0.1, "epochs": 3},
            "polynomial": {"feature_map": PolynomialMap(), "wrong": 0.1}}  # fmt: skip
    made = begin(world, scientist, attribution="open", **maps[request.param])
    always, first, later, spoiler = made.mine(), made.mine(), made.mine(), made.mine(shuffled=True)
    made.spoiler = spoiler.address
    made.round(always, first, spoiler)
    made.round(always, later)
    made.round(always, first, later)
    made.end()
    return made


def test_shares_are_those_of_retraining_by_hand_and_parts_are_them_to_the_last_bit(played: Played) -> None:
    settlements, (sums, scale) = played.settlements(), played.sums()
    assert len(settlements) == 3
    assert len(sums) == 3
    kept = [sum(bool(one.outcomes[place].weight) for place in range(len(one.outcomes))) for one, _ in settlements]
    assert sum(kept) > len(sums), "a mine is kept in several rounds"
    assert played.spoiler not in sums
    page = played.parts()
    assert page.accounts == tuple(sorted(sums, key=str.lower))
    assert (page.scale, page.versions, page.mines) == (scale, len(settlements), len(sums))
    assert (page.start == played.weights(0)).all()
    for mine, part in zip(page.accounts, page.values, strict=True):
        assert (part == sums[mine]).all()
    by_hand = played.retrained()
    for mine, part in zip(page.accounts, page.values, strict=True):
        assert np.allclose((part / 2**scale).astype(float), by_hand[mine], atol=2e-3)
    # What remains is what each version was rounded by.
    shift = scale - played.spec.encoding.weight_bits
    last = played.weights(len(settlements))
    rounding = ((last - played.weights(0)) * (1 << shift)) - sum(sums.values())
    assert 0 < abs(rounding).max() <= len(settlements) << (shift - 1)

    shares = played.shares()
    assert [mine for mine, _ in shares.mines] == list(page.accounts)
    assert sum(ppm for _, ppm in shares.mines) + shares.rounding == PPM
    assert abs(shares.rounding) <= SHARE_STEP / 2 * len(sums) + 1
    exact = played.expected_shares({mine: (part / 2**scale).astype(float) for mine, part in sums.items()})
    about = played.expected_shares(by_hand)
    for mine, ppm in shares.mines:
        # The judge's inputs have 16 fractional bits.
        assert ppm == pytest.approx(exact[mine] * PPM, abs=SHARE_STEP / 2 + 20)
        assert ppm == pytest.approx(about[mine] * PPM, abs=4 * SHARE_STEP)
        assert ppm % SHARE_STEP == 0


def test_the_answer_is_the_same_bytes_however_often_it_is_asked_for_and_by_whichever_process(
    world: Any, scientist: Any
) -> None:
    played = one_round(world, scientist)
    played.end()
    first = played.asked()
    assert played.asked() == first
    world.restart()
    assert played.asked() == first


def test_an_owner_who_was_not_promised_parts_gets_shares_alone(world: Any, scientist: Any) -> None:
    played = one_round(world, scientist)
    assert b"attribution" not in played.spec.to_bytes()
    refused("not_over", played.shares)
    played.end()
    assert played.shares().mines
    assert "as its mines were promised" in refused("not_open", played.parts)


def test_nobody_but_the_owner_is_told_and_she_only_at_the_end(world: Any, scientist: Any) -> None:
    played = one_round(world, scientist, attribution="open")
    stranger, public = world.client(world.new_account()), SealingKeyPair.generate().public
    for ask in (lambda client: client.attribution(played.campaign.id, public),
                lambda client: client.parts(played.campaign.id, 0, public)):  # fmt: skip
        refused("not_over", lambda ask=ask: ask(scientist.client))
        refused("not_owner", lambda ask=ask: ask(stranger))
    played.end()
    refused("not_owner", lambda: stranger.attribution(played.campaign.id, public))
    refused("unknown_campaign", lambda: scientist.client.attribution(CampaignId(bytes(32)), public))
    refused("bad_key", lambda: scientist.client.attribution(played.campaign.id, bytes(32)))


def test_a_campaign_that_no_round_advanced_has_nothing_to_split(world: Any, scientist: Any) -> None:
    spec = Spec.build(**{name: getattr(scientist.spec(), name) for name in Spec.model_fields} | {"attribution": "open"})
    validation = world.data.draw(200)
    campaign = scientist.campaign(spec, seconds=100, validation=encode_validation(*validation))
    played = Played(world, scientist, campaign, validation)
    world.advance_time(101)
    world.worker.step()
    assert played.shares() == Shares((), 0)
    page = played.parts()
    assert (page.accounts, page.mines, page.versions) == ((), 0, 0)
    assert not page.start.any()


def test_after_the_retention_time_a_sentence_says_that_it_is_too_late(world: Any, scientist: Any) -> None:
    played = one_round(world, scientist)
    played.end()
    assert played.shares().mines
    with world.capsule.state.transaction() as db:
        delete_secrets(world.capsule.state, db, played.campaign.id, time.time())
    assert "retention" in refused("deleted", played.shares)


def test_pages_together_have_every_mine_once(world: Any, scientist: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sonar.protocol.attribution.PAGE_BYTES", 1)
    played = one_round(world, scientist, attribution="open")
    played.end()
    sums, _ = played.sums()
    pages = [played.parts(first) for first in range(len(sums) + 1)]
    assert [len(page.accounts) for page in pages] == [1] * len(sums) + [0]
    assert {mine for page in pages for mine in page.accounts} == set(sums)
    assert {page.mines for page in pages} == {len(sums)}


def test_each_answer_is_in_the_log_by_the_digest_of_its_box_which_tells_nothing(world: Any, scientist: Any) -> None:
    played = one_round(world, scientist, attribution="open")
    played.end()
    played.asked(), played.asked(), played.parts()
    told = [entry for entry in world.capsule.state.audit.entries() if entry.kind == "attribution"]
    assert [('"what":"attribution"' in entry.body, '"what":"parts"' in entry.body) for entry in told] == [
        (True, False), (True, False), (False, True)]  # fmt: skip
    assert all(scientist.address in entry.body for entry in told)
    # A digest of the few numbers themselves could be searched for.
    assert len({entry.body for entry in told}) == 3


def edited(world: Any, statement: str) -> None:
    with world.capsule.state.transaction() as db:
        assert db.exec_driver_sql(statement).rowcount > 0


def test_a_mine_that_was_put_into_anothers_place_is_credited_with_nothing(world: Any, scientist: Any) -> None:
    played = one_round(world, scientist)
    played.end()
    other = Address(world.new_account().address)
    edited(world, f"UPDATE submissions SET mine = '{other}' WHERE round = 0 AND place = 0")
    with pytest.raises(CapsuleUnavailableError, match="not in order"):
        played.shares()


@pytest.mark.parametrize("settlement", ["replace(settlement, '\"exponent\":10', '\"exponent\":9')", "'{}'"])
def test_a_settlement_whose_weights_were_changed_splits_nothing(world: Any, scientist: Any, settlement: str) -> None:
    played = one_round(world, scientist)
    played.end()
    edited(world, f"UPDATE rounds SET settlement = {settlement}")
    with pytest.raises(CapsuleUnavailableError, match="not in order"):
        played.shares()


def test_what_is_not_published_yet_is_split_and_what_the_store_has_lost_is_told(world: Any, scientist: Any) -> None:
    played = one_round(world, scientist)
    played.end()
    before = played.asked()
    state, (first, version) = world.capsule.state, played.settlements()[0]
    places = state.kept(played.campaign.id, first.round, first.head)
    artifact = next(iter(places.values()))
    path = world.home / "store" / artifact.cid
    data = path.read_bytes()
    path.unlink()
    world.restart()
    with pytest.raises(CapsuleUnavailableError, match="cannot be fetched"):
        played.shares()
    with world.capsule.state.transaction() as db:
        db.exec_driver_sql("UPDATE kept SET gradient = ?, cid = NULL, digest = NULL WHERE cid = ?",
                           (data, artifact.cid))  # fmt: skip
    assert played.asked() == before
    assert version.number == 0


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 700]), st.booleans())
def test_what_a_weight_counts_for_is_exact_at_every_bound_of_the_encoding(
    seed: int, records: int, extreme: bool
) -> None:
    spec = Spec(
        name="wide", features=tuple(Feature(name=f"f{i}") for i in range(6)), classes=("a", "b"),
        encoding=Encoding(weight_bits=32, weight_bound_bits=4, map_bits=8, slot_width=80, gradient_bound_bits=8),
        payout=Payout(target=900_000),
    )  # fmt: skip
    rng, bound = np.random.default_rng(seed), spec.encoding.weight_bound
    features = rng.choice([-16.0, 16.0], (records, 6)) if extreme else rng.normal(scale=9, size=(records, 6))
    examples = ValidationSet.of(spec, features, rng.integers(0, 2, records))
    first, last = ((rng.choice([-bound, bound], (7, 2)) if extreme else rng.integers(-bound, bound + 1, (7, 2)))
                   for _ in range(2))  # fmt: skip
    inputs, move = examples.inputs.astype(object), (last - first).astype(object)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("capsule.judge.validation._PULLED", 64)
        pull = examples.pull(last - first)
    assert (pull == inputs.T.dot(inputs.dot(move))).all()
    assert np.abs(pull).max() <= PULL_BOUND


def as_told(parts: list[int]) -> list[int]:
    return [ppm for _, ppm in told_shares({Address(f"0x{n:040d}"): part for n, part in enumerate(parts)}, sum(parts))]


@given(st.lists(st.integers(-(10**40), 10**40), min_size=1, max_size=8).filter(lambda parts: sum(parts) > 0))
def test_a_share_has_three_digits_of_what_all_parts_are_together(parts: list[int]) -> None:
    """Not of what they add up to: an owner who mines could make that small, by undoing what the others did."""
    whole, together = sum(parts), sum(abs(part) for part in parts)
    told = as_told(parts)
    step = SHARE_STEP * max(1, (2 * together + whole) // (2 * whole))
    assert all(ppm % step == 0 for ppm in told)
    for part, ppm in zip(parts, told, strict=True):
        assert abs(ppm) <= 1500 * step
        assert abs(ppm * whole - part * PPM) * 2 <= step * whole


def test_who_undoes_the_others_work_learns_no_more_of_it() -> None:
    honest = [312_345_678_901_234_567_890, 598_765_432_109_876_543_210]
    for left in (10**20, 10**15, 10**10):
        told, whole = as_told([*honest, left - sum(honest)]), left
        error = abs(told[0] * whole - honest[0] * PPM) / (honest[0] * PPM)
        assert error > 1e-6, "with a thousandth of the whole it would be as exact as the whole is small"
    assert as_told([300, 700]) == [300_000, 700_000]
    assert as_told([-100, 1100]) == [-100_000, 1_100_000]


def test_a_network_does_not_split(world: Any, scientist: Any) -> None:
    graph, tensors = trace(torch.nn.Sequential(torch.nn.Linear(4, 3)), (4,))
    spec = Spec(
        name="blobs", mode="network", features=tuple(Feature(name=f"f{i}") for i in range(4)),
        classes=("red", "green", "blue"), encoding=Encoding.for_network(), network=NetworkTerms(graph=graph),
        rounds=Rounds(round_size=2), payout=Payout(target=990_000),
    )  # fmt: skip
    row = encode(joined(graph, tensors), spec.encoding.weight_bits, spec.encoding.weight_bound)
    campaign = scientist.campaign(spec, weights=in_rows(row, spec.shape), seconds=100)
    world.advance_time(101)
    world.worker.step()
    public = SealingKeyPair.generate().public
    assert "no sum" in refused("not_split", lambda: scientist.client.attribution(campaign.id, public))
    refused("not_split", lambda: scientist.client.parts(campaign.id, 0, public))
    with pytest.raises(ValueError, match="do not split by mines"):
        Spec.model_validate({**dict(spec), "attribution": "open"})
