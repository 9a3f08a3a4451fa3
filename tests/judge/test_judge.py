"""The judge on plaintexts: exact scores, Shapley credit, the kept set."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer, load_digits

from capsule.judge import Judgement, ValidationSet, judge_round, next_weights, score
from capsule.judge.metrics import Accuracy
from sonar.chain.records import Verdict
from sonar.protocol.spec import Encoding, Feature, Payout, Rounds, Spec, Target
from sonar.units import PPM, Ppm


def spec_of(features: int, classes: int, encoding: Encoding | None = None, **rounds: Any) -> Spec:
    return Spec(
        name="test",
        features=tuple(Feature(name=f"f{i}", scale=16.0) for i in range(features)),
        classes=tuple(f"c{i}" for i in range(classes)),
        rounds=Rounds(**rounds),
        encoding=encoding or Encoding(),
        payout=Payout(target=950_000),
    )


class Digits:
    """Four honest shares of digits, a poisoner with shuffled labels, and the judge's validation set."""

    def __init__(self, seed: int = 0) -> None:
        self.spec = spec_of(64, 10)
        X, y = load_digits(return_X_y=True)
        order = np.random.default_rng(seed).permutation(len(X))
        X, y = X[order], y[order].astype(np.int64)
        self.labels = y[:360]
        self.validation = ValidationSet.of(self.spec, X[:360], self.labels)
        rest, labels = np.c_[X[360:] / 16.0, np.ones(len(X) - 360)], y[360:]
        self.shares = [(rest[i::5], labels[i::5].copy()) for i in range(5)]
        np.random.default_rng(seed).shuffle(self.shares[4][1])
        self.start = np.zeros((65, 10), dtype=np.int64)

    def gradient(self, index: int, weights: Any, epochs: int = 5, classes: int = 10) -> Any:
        X, y = self.shares[index]
        encoding = self.spec.encoding
        now = weights / 2.0**encoding.weight_bits
        gram = X.T @ X / len(X) + 1e-3 * np.eye(X.shape[1])
        moment = X.T @ np.eye(classes)[y] / len(X)
        eigen, vectors = np.linalg.eigh(gram)
        decay = (1 - eigen / eigen[-1]) ** epochs
        trained = vectors @ (decay[:, None] * (vectors.T @ now)) + vectors @ (
            ((1 - decay) / eigen)[:, None] * (vectors.T @ moment)
        )
        return np.rint((trained - now) * 2.0**encoding.gradient_scale).astype(np.int64).astype(object)

    def advanced(self) -> Any:
        """The model after a first round of honest mines."""
        weights = self.judge([self.gradient(i, self.start) for i in range(4)]).weights
        assert weights is not None
        return weights

    def judge(self, gradients: list[Any], weights: Any = None, current: int | None = None) -> Judgement:
        weights = self.start if weights is None else weights
        now = score(self.validation, weights) if current is None else Ppm(current)
        return judge_round(self.spec, self.validation, weights, now, gradients, b"seed")


@pytest.fixture(scope="module")
def digits() -> Digits:
    return Digits()


@given(st.data())
def test_the_next_model_is_the_exact_rational_rounded_half_up(data: st.DataObject) -> None:
    spec = spec_of(2, 2)
    bound, big = spec.encoding.weight_bound // 4, spec.encoding.gradient_bound // 2**12
    draw = lambda limit: np.array(data.draw(st.lists(st.integers(-limit, limit), min_size=6, max_size=6)), dtype=object)  # noqa: E731
    weights = draw(bound).reshape(3, 2).astype(np.int64)
    gradients = [draw(big).reshape(3, 2) for _ in range(3)]
    found = next_weights(spec, weights, gradients, [341, 341, 341], 10)
    assert found is not None
    for place in np.ndindex(3, 2):
        exact = int(weights[place]) * 2**25 + sum(341 * int(g[place]) for g in gradients)
        assert int(found[place]) == (2 * exact + 2**25) // 2**26


def test_a_model_beyond_the_weight_bound_is_no_model() -> None:
    spec = spec_of(1, 2)
    weights = np.full((2, 2), spec.encoding.weight_bound, dtype=np.int64)
    push = np.full((2, 2), 1 << spec.encoding.gradient_scale, dtype=object)
    assert next_weights(spec, weights, [push], [1024], 10) is None


def test_scores_are_exact_at_every_bound_of_the_encoding() -> None:
    encoding = Encoding(weight_bits=30, weight_bound_bits=6, map_bits=24, gradient_bound_bits=6, slot_width=128)
    spec = spec_of(2047, 2).model_copy(update={"encoding": encoding})
    inputs = np.full((3, 2047), 1e9)
    validation = ValidationSet.of(spec, inputs, np.array([0, 1, 1]))
    weights = np.full((2048, 2), encoding.weight_bound, dtype=np.int64)
    weights[-1, 0] -= 1
    assert score(validation, weights) == 666_666
    product = validation.inputs.astype(object) @ weights.astype(object)
    assert (product == validation.scores(weights).T).all()


def test_ties_go_to_the_lower_class(digits: Digits) -> None:
    zeros = np.zeros((65, 10), dtype=np.int64)
    assert score(digits.validation, zeros) == int((digits.labels == 0).sum()) * PPM // 360


def test_kept_mines_of_a_first_round_are_all_paid_and_a_poisoner_is_not(digits: Digits) -> None:
    gradients = [digits.gradient(i, digits.start) for i in range(5)]
    judged = digits.judge(gradients)
    assert judged.score > 800_000
    assert sum(result.kept for result in judged.results) >= 3
    assert not judged.results[4].kept
    assert all((result.share > 0) == (result.weight > 0) == result.kept for result in judged.results)
    assert sum(result.share for result in judged.results) == PPM
    assert max(result.share for result in judged.results) < 600_000
    assert judged.results[4].reason.startswith("left out")
    assert judged.weights is not None
    assert score(digits.validation, judged.weights) == judged.score
    multipliers = [result.weight for result in judged.results]
    assert (next_weights(digits.spec, digits.start, gradients, multipliers, judged.exponent) == judged.weights).all()


def test_without_noise_the_best_set_wins_and_with_noise_the_largest_that_is_as_good(digits: Digits) -> None:
    gradients = [digits.gradient(i, digits.start) for i in range(4)]
    start = score(digits.validation, digits.start)
    found = {}
    for noise in (0.0, 2.0):
        spec = digits.spec.model_copy(update={"rounds": Rounds(noise=noise)})
        found[noise] = judge_round(spec, digits.validation, digits.start, start, gradients, b"")
    best = 0
    for size in range(2, 5):
        for kept in itertools.combinations(range(4), size):
            for step in (1, 2, 4):
                chosen = [gradients[i] for i in kept]
                new = next_weights(digits.spec, digits.start, chosen, [1024 // (step * size)] * size, 10)
                best = max(best, score(digits.validation, new)) if new is not None else best
    assert found[0.0].score >= best - 3000  # one record of 360: the search ranks before it rounds
    assert found[2.0].score <= found[0.0].score
    assert sum(r.kept for r in found[2.0].results) >= sum(r.kept for r in found[0.0].results)


def test_the_same_round_is_judged_the_same_way_twice(digits: Digits) -> None:
    gradients = [digits.gradient(i, digits.start) for i in range(5)]
    first, again = digits.judge(gradients), digits.judge(gradients)
    assert first.results == again.results
    assert (first.weights == again.weights).all()


def test_a_round_without_enough_gain_leaves_the_model_and_pays_nobody(digits: Digits) -> None:
    gradients = [digits.gradient(i, digits.start) for i in range(4)]
    judged = digits.judge(gradients, current=999_000)
    assert judged.weights is None
    assert judged.score == 999_000
    assert judged.exponent == 0
    assert all(result.weight == 0 and result.share == 0 and not result.kept for result in judged.results)


def test_one_gradient_alone_cannot_advance_a_round_that_needs_two(digits: Digits) -> None:
    judged = digits.judge([digits.gradient(0, digits.start)])
    assert judged.weights is None
    assert "fewer gradients than the campaign's min_mines" in judged.results[0].reason


def test_one_gradient_advances_a_round_of_the_original_rule(digits: Digits) -> None:
    spec = spec_of(64, 10, round_size=1, min_mines=1)
    start = score(digits.validation, digits.start)
    judged = judge_round(spec, digits.validation, digits.start, start, [digits.gradient(0, digits.start)], b"")
    assert judged.weights is not None
    assert judged.results[0].share == PPM


def test_gradients_that_change_nothing_or_far_too_much_are_left_out(digits: Digits) -> None:
    nothing = np.zeros((65, 10), dtype=object)
    far = np.full((65, 10), digits.spec.encoding.gradient_bound, dtype=object)
    far[:, 0] *= -1
    gradients = [nothing, digits.gradient(0, digits.start), far, digits.gradient(1, digits.start)]
    judged = digits.judge(gradients)
    assert [result.kept for result in judged.results] == [False, True, False, True]
    assert "weight bound" in judged.results[2].reason


def test_what_is_within_the_noise_is_kept_without_pay_where_the_score_is_better_with_it(digits: Digits) -> None:
    weights = digits.advanced()
    strong = [digits.gradient(i, weights, epochs=50) for i in range(2)]
    nothing = np.zeros((65, 10), dtype=object)
    weak = digits.gradient(3, weights)
    judged = digits.judge([*strong, weak, nothing], weights)
    first, second, unpaid, zeros = judged.results
    assert first.share + second.share == PPM
    assert (unpaid.verdict, unpaid.share) == (Verdict.KEPT, 0)
    assert unpaid.weight > 0
    assert "without pay" in unpaid.reason
    assert not zeros.kept
    without = next_weights(digits.spec, weights, strong, [first.weight, second.weight], judged.exponent)
    assert without is not None
    assert score(digits.validation, without) < judged.score


def test_without_a_value_above_the_noise_a_round_stays_whatever_all_together_are_worth(digits: Digits) -> None:
    weights = digits.advanced()
    strong = [digits.gradient(i, weights, epochs=50) for i in range(2)]
    assert digits.judge(strong, weights).weights is not None
    spec = digits.spec.model_copy(update={"rounds": Rounds(noise=10.0)})
    judged = judge_round(spec, digits.validation, weights, score(digits.validation, weights), strong, b"")
    assert judged.weights is None
    assert {one.verdict for one in judged.results} == {Verdict.LEFT_OUT}


def test_a_good_gradient_that_would_leave_the_weight_bound_stops_nobody(digits: Digits) -> None:
    X, y = np.concatenate([s[0] for s in digits.shares[:4]]), np.concatenate([s[1] for s in digits.shares[:4]])
    many = Digits()
    many.shares = [(X, y), *((X[i::80], y[i::80]) for i in range(9))]
    start = many.start.copy()
    start[0] = many.spec.encoding.weight_bound  # of a pixel that is always dark
    gradients = [many.gradient(i, start) for i in range(10)]
    assert many.judge(gradients, start).results[0].kept
    gradients[0][0] = 1 << many.spec.encoding.gradient_scale
    judged = many.judge(gradients, start)
    assert judged.weights is not None
    assert not judged.results[0].kept
    assert "weight bound" in judged.results[0].reason


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 50, 2048]))
def test_scores_are_exact_up_to_the_largest_numbers(seed: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    largest = 2**20, 2 ** min(38, 42 - rows.bit_length()) - 1  # their sums fit 62 bits, as `ValidationSet.of` sees to
    inputs = rng.choice([largest[0], -largest[0], 1, 12345], size=(3, rows))
    weights = rng.choice([largest[1], -largest[1], 0, -1, 987654321], size=(rows, 2))
    found = ValidationSet(inputs, Accuracy(np.zeros(3, dtype=np.int64), 2), 40).scores(weights)
    assert found.T.tolist() == (inputs.astype(object) @ weights.astype(object)).tolist()


def test_spare_fractional_bits_of_a_gradient_change_no_judgement() -> None:
    weights, gradient = np.arange(6).reshape(3, 2), np.array([[7, -9], [1, 2], [-3, 4]], dtype=object)
    plain, spare = spec_of(2, 2), spec_of(2, 2, encoding=Encoding(factor_bits=7))
    expected = next_weights(plain, weights, [gradient << 15], [3], 2)
    found = next_weights(spare, weights, [gradient << 22], [3], 2)
    assert expected is not None
    assert found is not None
    assert found.tolist() == expected.tolist()


@given(st.data())
def test_what_usable_gradients_make_is_always_a_model(data: st.DataObject) -> None:
    spec = spec_of(2, 3)
    bound, bits = spec.encoding.weight_bound, spec.encoding.gradient_shift
    weights = data.draw(st.lists(st.integers(-bound, bound), min_size=9, max_size=9))
    ends = data.draw(st.lists(st.lists(st.integers(-bound << bits, bound << bits), min_size=9, max_size=9), min_size=1))
    gradients = [[end - (weight << bits) for end, weight in zip(row, weights, strict=True)] for row in ends]
    multipliers = [1024 // len(ends)] * len(ends)
    found = next_weights(
        spec, np.array(weights).reshape(3, 3), [np.array(g, dtype=object).reshape(3, 3) for g in gradients],
        multipliers, 10,
    )  # fmt: skip
    assert found is not None


def test_an_empty_round_of_valid_gradients_stays(digits: Digits) -> None:
    assert digits.judge([]).weights is None


def test_a_large_round_is_judged_by_sampled_orders(digits: Digits) -> None:
    X, y = np.concatenate([s[0] for s in digits.shares[:4]]), np.concatenate([s[1] for s in digits.shares[:4]])
    many = Digits()
    many.shares = [(X[i::12], y[i::12]) for i in range(12)]
    judged = many.judge([many.gradient(i, many.start) for i in range(12)])
    assert judged.weights is not None
    assert judged.score > 800_000
    assert sum(result.kept for result in judged.results) >= 6


def test_a_round_of_mines_whose_work_is_all_the_same_advances() -> None:
    """Where the target is linear, honest gradients of different records agree to 1 - 10^-9 and more."""
    rng = np.random.default_rng(0)
    spec = Spec(
        name="line", metric="r2", features=tuple(Feature(name=f"f{i}") for i in range(3)), targets=(Target(name="t"),),
        payout=Payout(target=999_999),
    )  # fmt: skip
    slope = np.array([0.5, -1.0, 0.25])
    known = rng.normal(size=(200, 3))
    validation = ValidationSet.of(spec, known, (known @ slope)[:, None])
    start = np.zeros(spec.shape, dtype=np.int64)
    gradients = []
    for _ in range(4):
        records = rng.normal(size=(2000, 3))
        design = np.c_[records, np.ones(2000)]
        found = np.linalg.solve(design.T @ design / 2000 + 1e-3 * np.eye(4), design.T @ (records @ slope) / 2000)
        gradients.append(np.rint(found[:, None] * 2.0**spec.encoding.gradient_scale).astype(np.int64).astype(object))
    judged = judge_round(spec, validation, start, score(validation, start), gradients, b"")
    assert judged.score > 999_000
    assert sum(result.kept and result.share > 200_000 for result in judged.results) >= 2


def test_a_gradient_far_longer_than_its_rounds_others_is_left_out_by_itself(digits: Digits) -> None:
    gradients = [digits.gradient(i, digits.start) for i in range(3)]
    rng = np.random.default_rng(0)
    noise = np.array([int(v) for v in rng.normal(scale=2.0**38, size=650)], dtype=object).reshape(65, 10)
    judged = digits.judge([*gradients, noise])
    assert "more than 4 times as long as the median" in judged.results[3].reason
    assert judged.results[:3] == digits.judge(gradients).results


def test_dead_weight_is_long_even_where_no_record_shows_it(digits: Digits) -> None:
    gradients = [digits.gradient(i, digits.start) for i in range(4)]
    heavy = gradients[3].copy()
    heavy[0] += 1 << digits.spec.encoding.gradient_scale  # of a pixel that is always dark
    judged = digits.judge([*gradients[:3], heavy])
    assert "times as long" in judged.results[3].reason


@pytest.mark.parametrize("length", [2.0**-20, 0.27, 25.0])
def test_half_of_a_rounds_accounts_have_nobody_left_out_for_his_length(digits: Digits, length: float) -> None:
    gradients = [digits.gradient(i, digits.start) for i in range(4)]
    rng = np.random.default_rng(0)
    size = length * float(np.linalg.norm(gradients[0].astype(float))) / np.sqrt(650)
    others = [np.rint(rng.normal(scale=size, size=(65, 10))).astype(np.int64).astype(object) for _ in range(4)]
    judged = digits.judge([*gradients, *others]).results
    assert not any("long" in result.reason for result in judged[:4])


def test_fewer_than_half_change_nothing_for_the_others_by_being_short(digits: Digits) -> None:
    gradients = [digits.gradient(i, digits.start) for i in range(4)]
    tiny = [np.roll(gradients[0], i, axis=0) >> 20 for i in range(1, 4)]
    judged = digits.judge([*gradients, *tiny]).results
    assert sum(result.share > 0 for result in judged[:4]) >= 3
    assert {result.reason for result in judged[4:]} == {"left out: less than a 16th as long as the median of its round"}
    assert judged[:4] == digits.judge(gradients).results


def test_who_undoes_the_harm_of_an_accomplice_earns_nothing(digits: Digits) -> None:
    gradients = [digits.gradient(i, digits.start) for i in range(4)]
    size = float(np.linalg.norm(gradients[0].astype(float)))
    push = np.zeros((65, 10))
    push[-1] = -0.1
    push[-1, 0] += 1
    harm, cure = (np.rint(sign * push * size).astype(np.int64).astype(object) for sign in (1, -1))
    judged = digits.judge([*gradients, harm, cure])
    assert judged.weights is not None
    assert [result.share for result in judged.results[4:]] == [0, 0]
    assert judged.results[4].verdict is Verdict.LEFT_OUT


def test_what_does_nothing_to_a_class_score_is_left_out_and_dilutes_nobody(digits: Digits) -> None:
    gradients = [digits.gradient(i, digits.start) for i in range(2)]
    unseen = np.zeros((65, 10), dtype=object)
    unseen[0, 0] = 1 << 30  # a pixel that is always dark
    judged = digits.judge([*gradients, unseen, unseen * 0]).results
    assert judged[:2] == digits.judge(gradients).results
    assert [result.verdict for result in judged[2:]] == [Verdict.LEFT_OUT] * 2


@pytest.mark.parametrize("length", [1.0, 0.1, 1e-5])
def test_directions_without_data_earn_nothing_where_every_other_direction_is_good(length: float) -> None:
    X, y = load_breast_cancer(return_X_y=True)
    earned, paid = [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(X))
        cells, labels = ((X - X.mean(axis=0)) / X.std(axis=0))[order], y[order].astype(np.int64)
        tumours = Digits()
        tumours.spec = Spec(
            name="t", features=tuple(Feature(name=f"f{i}") for i in range(30)), classes=("malignant", "benign"),
            payout=Payout(target=999_000),
        )  # fmt: skip
        tumours.validation = ValidationSet.of(tumours.spec, cells[:150], labels[:150])
        tumours.shares = [(np.c_[cells, np.ones(len(X))][150 + i :: 4], labels[150 + i :: 4]) for i in range(4)]
        tumours.start = np.zeros((31, 2), dtype=np.int64)
        honest = [tumours.gradient(i, tumours.start, 50, classes=2) for i in range(4)]
        size = length * float(np.linalg.norm(honest[0].astype(float))) / np.sqrt(62)
        guesses = [np.rint(rng.normal(scale=size, size=(31, 2))).astype(np.int64).astype(object) for _ in range(2)]
        judged = tumours.judge([*honest, *guesses])
        assert judged.weights is not None
        assert judged.score > 900_000
        earned.append(sum(result.share for result in judged.results[4:]) / PPM)
        paid.append(sum(result.share > 0 for result in judged.results[:4]))
    assert np.mean(earned) < 0.02
    assert np.mean(paid) > 3


def test_posting_ones_gradient_twice_as_long_earns_no_more(digits: Digits) -> None:
    gradients = [digits.gradient(i, digits.start) for i in range(4)]
    plain = digits.judge(gradients).results
    for longest in range(4):
        doubled = [g * 2 if i == longest else g for i, g in enumerate(gradients)]
        assert digits.judge(doubled).results[longest].share <= plain[longest].share * 1.05


def test_replicas_of_a_gradient_together_earn_what_it_would_alone(digits: Digits) -> None:
    gradients = [digits.gradient(i, digits.start) for i in range(4)]
    alone = digits.judge(gradients).results[0].share
    rng = np.random.default_rng(0)
    size = 0.05 * float(np.linalg.norm(gradients[0].astype(float))) / np.sqrt(650)
    swarm = [
        gradients[0] + np.array([int(v) for v in rng.normal(scale=size, size=650)], dtype=object).reshape(65, 10)
        for _ in range(3)
    ]
    judged = digits.judge([*gradients, *swarm]).results
    assert judged[0].share + sum(judged[i].share for i in (4, 5, 6)) == pytest.approx(alone, rel=0.1)
    same = digits.judge([*gradients, gradients[0], gradients[0] * 2]).results
    assert sum(same[i].share for i in (0, 4, 5)) == pytest.approx(alone, rel=0.01)


def test_reasons_tell_no_figure_of_the_validation_set(digits: Digits) -> None:
    gradients = [digits.gradient(i, digits.start) for i in range(5)]
    for judged in (digits.judge(gradients), digits.judge(gradients, current=999_000)):
        for result in judged.results:
            assert not any(letter.isdigit() for letter in result.reason)


@pytest.mark.parametrize("metric", ["balanced_accuracy", "macro_f1", "auc"])
def test_a_round_is_judged_by_the_campaigns_metric(digits: Digits, metric: str) -> None:
    X, y = load_digits(return_X_y=True)
    spec = digits.spec.model_copy(update={"metric": metric})
    validation = ValidationSet.of(spec, X[:360], y[:360].astype(np.int64))
    gradients = [digits.gradient(i, digits.start) for i in range(5)]
    now = score(validation, digits.start)
    judged = judge_round(spec, validation, digits.start, now, gradients, b"")
    assert judged.weights is not None
    assert judged.score == score(validation, judged.weights) > now
    assert not judged.results[4].kept
    assert sum(result.share for result in judged.results) == PPM
