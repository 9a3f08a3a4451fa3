"""The judge of networks: real gradients of real records, and those of who has none."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from capsule.judge import NetworkSet, ValidationSet, judge_round, score, validation_of
from capsule.judge.networks import NetworkGame
from sonar.chain.records import Verdict
from sonar.network import NetworkTraining, building
from sonar.network.building import build
from sonar.network.parameters import decode, encode, in_rows, joined, parted
from sonar.network.tracing import trace
from sonar.network.training import outputs_of, train
from sonar.protocol.payloads import design_matrix
from sonar.protocol.spec import Encoding, Feature, NetworkTerms, Payout, Rounds, Spec

MINES = 3


class Round:
    """A small network on digits, and what it learns of three mines' shares."""

    def __init__(self):
        torch.manual_seed(3)
        module = nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))
        self.graph, tensors = trace(module, (64,))
        images, digits = load_digits(return_X_y=True)
        order = np.random.default_rng(1).permutation(len(images))
        self.images, self.digits = images[order], digits[order].astype(np.int64)
        self.spec = Spec.build(
            name="digits", mode="network", features=tuple(Feature(name=f"p{i}", scale=16.0) for i in range(64)),
            classes=tuple("0123456789"), encoding=Encoding.for_network(), rounds=Rounds(round_size=4),
            network=NetworkTerms(graph=self.graph, training=NetworkTraining(learning_rate=0.01)),
            payout=Payout(target=950_000),
        )  # fmt: skip
        encoding = self.spec.encoding
        start = encode(joined(self.graph, tensors), encoding.weight_bits, encoding.weight_bound)
        self.weights = in_rows(start, self.spec.shape)
        self.validation = validation_of(self.spec, self.images[:300], self.digits[:300])
        self.current = score(self.validation, self.weights)
        self.gradients = [self.gradient(mine) for mine in range(MINES)]

    def gradient(self, mine):
        own = slice(300 + 300 * mine, 600 + 300 * mine)
        records, targets = design_matrix(self.spec, self.images[own])[:, :-1], np.eye(10)[self.digits[own]]
        encoding = self.spec.encoding
        row = decode(self.weights.reshape(-1)[: self.graph.size], encoding.weight_bits)
        change = train(self.graph, row, records, targets, self.spec.network.training, seed=mine)
        return in_rows(encode(change, encoding.gradient_scale, encoding.gradient_bound), self.spec.shape)

    def judge(self, gradients):
        return judge_round(self.spec, self.validation, self.weights, self.current, gradients, b"seed")


@pytest.fixture(scope="module")
def digits():
    return Round()


def test_a_network_is_scored_by_what_torch_makes_of_it(digits):
    row = decode(digits.weights.reshape(-1)[: digits.graph.size], digits.spec.encoding.weight_bits)
    network = build(digits.graph, parted(digits.graph, row))
    found = outputs_of(network, design_matrix(digits.spec, digits.images[:300])[:, :-1]).argmax(axis=1)
    assert digits.current == int((found == digits.digits[:300]).mean() * 1_000_000)
    assert np.abs(digits.validation.scores(digits.weights)).max() < 2**34


def test_honest_gradients_are_kept_and_share_what_they_raise(digits):
    found = digits.judge(digits.gradients)
    assert [one.verdict for one in found.results] == [Verdict.KEPT] * MINES
    assert sum(one.share for one in found.results) == 1_000_000
    assert min(one.share for one in found.results) > 200_000
    assert found.score > digits.current + 500_000
    assert found.score == score(digits.validation, found.weights)
    weights = np.array([one.weight for one in found.results])[:, None, None]
    moved = digits.weights * 2**found.exponent + (weights * np.array(digits.gradients)).sum(axis=0)
    assert np.abs(found.weights - moved / 2**found.exponent).max() <= 0.5


def test_the_same_round_is_judged_the_same(digits):
    one, other = digits.judge(digits.gradients), digits.judge(digits.gradients)
    assert one.results == other.results
    assert (one.weights == other.weights).all()


def test_noise_nothing_and_poison_earn_nothing_of_a_network(digits):
    random = np.random.default_rng(8)
    noise = random.permutation(digits.gradients[0].reshape(-1)).reshape(digits.spec.shape)
    noise.reshape(-1)[digits.graph.size :] = 0
    for wrong in (noise, np.zeros_like(noise), -digits.gradients[1]):
        *honest, last = digits.judge([*digits.gradients, wrong]).results
        assert last.share == 0
        assert all(one.share > 0 for one in honest)


def test_a_replica_shares_with_whom_it_repeats(digits):
    alone = digits.judge(digits.gradients).results
    twice = digits.judge([*digits.gradients, digits.gradients[0]]).results
    assert twice[0].share + twice[3].share == pytest.approx(alone[0].share, abs=120_000)


def test_a_coalitions_network_is_run_and_not_summed_from_its_pushes(digits):
    pushes = [digits.validation.push(digits.weights, move) for move in digits.gradients]
    game = NetworkGame(digits.validation, digits.weights, digits.gradients, pushes)
    half = 1 << 15
    scores = next(game._scores([[half, half, 0]]))[0]
    moved = digits.weights + (digits.gradients[0] + digits.gradients[1]) / 2
    exact = digits.validation.scores_of(moved.reshape(-1)[: digits.graph.size] / 2.0**14)
    assert np.abs(scores / 2.0**16 - exact).max() <= 1
    summed = digits.validation.scores(digits.weights) + (pushes[0] + pushes[1]) // 2
    assert np.abs(exact - summed).max() > 2**15


def test_numbers_that_overflow_predict_nothing_and_raise_nothing(digits):
    found = digits.validation.scores_of(np.full(digits.graph.size, 1e300))
    assert np.abs(found).max() <= 2**34


def test_each_mode_has_its_own_validation_set(digits):
    linear = Spec.build(name="linear", features=(Feature(name="a"),), classes=("x", "y"), payout=Payout(target=900_000))
    assert isinstance(validation_of(linear, np.zeros((2, 1)), np.array([0, 1])), ValidationSet)
    assert isinstance(digits.validation, NetworkSet)
    with pytest.raises(ValueError, match="no network"):
        NetworkSet.of(linear, np.zeros((2, 1)), np.array([0, 1]))


def test_judging_leaves_torchs_threads_as_they_were(digits):
    before = torch.get_num_threads()
    digits.validation.scores(digits.weights)
    assert torch.get_num_threads() == before


def test_a_network_is_run_once_while_there_is_room_to_remember_it(digits, monkeypatch):
    runs = []
    run = NetworkSet._run
    monkeypatch.setattr(NetworkSet, "_run", lambda self, row: runs.append(row.tobytes()) or run(self, row))

    def judged():
        runs.clear()
        validation = validation_of(digits.spec, digits.images[:300], digits.digits[:300])
        found = judge_round(digits.spec, validation, digits.weights, digits.current, digits.gradients, b"seed")
        return validation, found, len(runs), len(set(runs))

    validation, found, count, distinct = judged()
    monkeypatch.setattr("capsule.judge.networks._MOST_KEPT", 0)
    _, again, every, same = judged()
    assert (found.results, found.weights.tolist()) == (again.results, again.weights.tolist())
    assert count == distinct == same < every
    row = np.frombuffer(runs[0])
    before = validation.scores_of(row)
    with pytest.raises(ValueError, match="read-only"):
        before += 1
    moved = row + 1
    assert (validation.scores_of(moved) != before).any(), "what is remembered goes by the numbers"


def test_a_judge_builds_a_network_once(digits, monkeypatch):
    built = []
    make = building.build
    monkeypatch.setattr(building, "build", lambda *given: built.append(1) or make(*given))
    validation = validation_of(digits.spec, digits.images[:50], digits.digits[:50])
    found = [validation.scores(digits.weights + move) for move in digits.gradients]
    assert len(built) == 1
    for move, scores in zip(digits.gradients, found, strict=True):
        fresh = validation_of(digits.spec, digits.images[:50], digits.digits[:50])
        assert (fresh.scores(digits.weights + move) == scores).all()
