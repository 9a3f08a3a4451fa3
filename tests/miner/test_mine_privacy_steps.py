"""Noised training of a network: whose gradients are summed, how long each may be, how much noise a step gets."""

import math
import secrets
import tracemalloc
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from mine import networks
from mine.privacy import descent
from mine.privacy.accountant import epsilon_of, rho_of
from mine.privacy.descent import on_the_grid, seated, train_privately
from mine.privacy.gaussian import DiscreteGaussian
from mine.privacy.steps import SQUARED_SENSITIVITY, Noise, length_of_noise, variance_of_round
from sonar.network import Graph, NetworkError, NetworkTraining
from sonar.network.building import build
from sonar.network.parameters import parted
from sonar.network.training import outputs_of

GRAPH = Graph.model_validate({
    "takes": (3,),
    "layers": ({"op": "linear", "of": (0,), "units": 4}, {"op": "tanh", "of": (1,)},
               {"op": "dropout", "of": (2,), "part": 0.5}, {"op": "linear", "of": (3,), "units": 2}),
})  # fmt: skip
ONE_STEP = NetworkTraining(optimizer="sgd", learning_rate=1.0, epochs=1, batch_size=1 << 16, clip_norm=1000.0)


def start() -> np.ndarray:
    return np.random.default_rng(3).normal(size=GRAPH.size) * 0.5


def records(count: int, seed: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 3)), np.eye(2)[rng.integers(0, 2, count)]


class Silence:
    """No noise at all, and how much was asked for."""

    drawn: list[tuple[int, int]]

    def __init__(self) -> None:
        self.drawn = []

    def __call__(self, variance: int) -> "Silence":
        self.variance = variance
        return self

    def draw(self, count: int) -> np.ndarray:
        self.drawn.append((self.variance, count))
        return np.zeros(count, dtype=np.int64)


def change(
    features: np.ndarray, targets: np.ndarray, noise: Noise, training: NetworkTraining = ONE_STEP, **more: object
) -> np.ndarray:
    return train_privately(GRAPH, start(), features, targets, training, noise, **more)  # type: ignore[arg-type]


def test_a_step_without_noise_is_the_mean_of_clipped_gradients_as_autograd_gives_them() -> None:
    features, targets = records(40)
    gradients = []
    for row, target in zip(features, targets, strict=True):
        network = build(GRAPH, parted(GRAPH, start())).eval()
        outputs = network(torch.tensor(row)[None])
        torch.nn.functional.cross_entropy(outputs, torch.tensor([int(target.argmax())])).backward()
        gradients.append(torch.cat([parameter.grad.reshape(-1) for parameter in network.tensors()]).numpy())
    lengths = np.linalg.norm(gradients, axis=1)
    clip = float(np.median(lengths))  # half of them are cut
    total = (np.array(gradients) * np.minimum(1, clip / lengths)[:, None]).sum(axis=0)
    found = change(features, targets, Noise(1 << 40, clip, 50), source=Silence())
    assert found == pytest.approx(-total / 50, abs=1e-5)


def heard(
    features: np.ndarray, targets: np.ndarray, noise: Noise, training: NetworkTraining, seats: np.ndarray
) -> list[np.ndarray]:
    """The sums that a training makes while its start hardly moves, array by array, in units of the grid."""
    found: list[np.ndarray] = []
    real = descent._sum

    def listening(*given: Any) -> np.ndarray:
        found.append(real(*given))
        return found[-1]

    still = training.model_copy(update={"learning_rate": 1e-12})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(descent, "_sum", listening)
        change(features, targets, noise, still, source=Silence(), random_bytes=lambda _: seats.tobytes())
    return found


def seats_for(count: int) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 1 << 63, count, dtype=np.int64).astype("<u8")


@pytest.mark.parametrize("batch_size", [16, 1 << 16])
def test_how_long_a_training_takes_does_not_tell_how_many_records_there_are(batch_size: int) -> None:
    noise, training = Noise(1, 0.5, 60), ONE_STEP.model_copy(update={"batch_size": batch_size})
    arrays = {count: len(heard(*records(count), noise, training, seats_for(count))) for count in (0, 1, 40, 59, 60, 65)}
    assert len(set(arrays.values())) == 1, arrays
    many = len(heard(*records(2000), noise, training, seats_for(2000)))
    assert many > arrays[60], "what is beyond is computed all the same: a record that is left out would move others"


@pytest.mark.parametrize(("declared", "seats"), [(1, 1), (20, 1), (60, 240), (300, 17), (500, 4), (2000, 320)])
def test_more_arrays_than_in_any_case_are_rarely_needed(declared: int, seats: int) -> None:
    most = Noise(1, 1.0, declared).most
    assert most == declared * 11 // 10
    least = descent._arrays(most, seats)
    layers = [len(seated(most, 1, seats, secrets.token_bytes)[0]) for _ in range(300)]
    assert sum(one > least for one in layers) <= 5, "one in a thousand, and hardly so many"
    assert least <= 3 * np.mean(layers) + 5
    assert len(seated(0, 3, 4, lambda _: b"", least=least)[2]) == least


def test_reading_for_training_takes_the_same_memory_for_all_numbers_of_records_that_are_declared_alike() -> None:
    graph = Graph.model_validate({"takes": (1000,), "layers": ({"op": "linear", "of": (0,), "units": 2},)})
    spec: Any = SimpleNamespace(network=SimpleNamespace(graph=graph))
    block = np.ones((10, 1001)), np.ones((10, 2))

    def taken(count: int) -> int:
        batches: Any = (tuple(part[: min(10, count - at)] for part in block) for at in range(0, count, 10))
        tracemalloc.start()
        inputs, targets = networks._gathered(spec, batches, Noise(1, 1.0, 200).most)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert inputs.shape == (count, 1000)
        assert targets.shape == (count, 2)
        assert (inputs == 1).all()
        return peak

    taken(10)
    peaks = {count: taken(count) for count in (0, 1, 100, 199, 200, 220)}
    assert max(peaks.values()) - min(peaks.values()) < 4000, "less than one record takes"
    assert taken(300) > max(peaks.values()), "what is beyond is read all the same"


def test_numbers_that_take_processors_long_count_as_zero_in_training_and_nowhere_else() -> None:
    def is_zero() -> bool:
        return not bool(torch.tensor([1e-40]).mul(1.0).any())

    within: list[bool] = []
    change(*records(3), Noise(1, 1.0, 3), source=Silence(), progress=lambda _: within.append(is_zero()))
    assert within == [True]
    assert not is_zero()
    with pytest.raises(NetworkError):
        change(np.empty((2, 9)), np.empty((2, 2)), Noise(1, 1.0, 2))
    assert not is_zero()


def test_every_record_takes_part_once_an_epoch_and_every_step_is_noised() -> None:
    features, targets = records(100)
    training = ONE_STEP.model_copy(update={"epochs": 3, "batch_size": 32})
    silence = Silence()
    change(features, targets, Noise(5, 10.0, 96), training, source=silence)
    assert silence.drawn == [(5, GRAPH.size)] * 9, "three batches an epoch"
    dealt = sum(heard(features, targets, Noise(5, 10.0, 96), training, seats_for(100)))
    whole = sum(heard(features, targets, Noise(5, 10.0, 1), ONE_STEP, seats_for(100)))
    assert np.abs(dealt - 3 * whole).max() <= 3 * 100, "as often as there are epochs, but for rounding"
    assert np.abs(whole).max() > 10_000


def test_seats_are_drawn_by_each_record_alone_and_hold_everybody_once() -> None:
    drawn = np.random.default_rng(1).integers(0, 1 << 63, 50, dtype=np.int64).astype("<u8")
    tables = seated(50, 3, 4, lambda count: drawn.tobytes()[:count])
    assert sorted(place for table in tables for place in table.reshape(-1) if place >= 0) == list(range(50))
    assert [table.shape[1] for table in tables] == [4, 4, 4]
    for batch, table in enumerate(tables):
        for layer in table:
            assert all(drawn[place] % 12 == batch * 4 + row for row, place in enumerate(layer) if place >= 0)
    assert all(table.shape == (0, 4) for table in seated(0, 3, 4, lambda _: b""))


def test_one_record_less_moves_one_sum_of_an_epoch_by_its_own_gradient_and_nothing_else() -> None:
    features, targets = records(60)
    seats, noise, training = seats_for(60), Noise(1, 0.5, 60), ONE_STEP.model_copy(update={"batch_size": 16})
    whole = heard(features, targets, noise, training, seats)
    for gone in (0, 17, 59):
        kept = np.arange(60) != gone
        rest = heard(features[kept], targets[kept], noise, training, seats[kept])
        difference = sum(whole) - sum(rest)
        assert 0 < (difference.astype(object) ** 2).sum() <= SQUARED_SENSITIVITY
        # Its batch has an array more at most, and what it leaves is moved up: all others are the same to the last bit.
        same = sum(any((one == other).all() for other in rest) for one in whole)
        assert same >= len(whole) - 3


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-3, 1.0, 1e3, 1e30])
def test_every_gradient_is_bounded_in_integers_whatever_it_holds(scale: float) -> None:
    rng = np.random.default_rng(8)
    rows = torch.tensor(rng.normal(size=(50, 37)) * scale, dtype=torch.float32)
    rows[0] = torch.tensor([torch.nan] + [1.0] * 36)
    rows[1, 5] = torch.inf
    rows[2] = torch.eye(37)[3] * 5.0
    rows[3] = 0.7
    whole = on_the_grid(rows, 0.3)
    assert whole.dtype == torch.int64
    assert (whole.square().sum(dim=1) <= SQUARED_SENSITIVITY).all()
    assert not whole[:2].any()
    assert whole[2, 3] == 2**16
    assert whole[3].square().sum() > 0.999 * SQUARED_SENSITIVITY
    short = torch.tensor([[0.1, -0.2, 0.0]])
    assert on_the_grid(short, 0.4).tolist() == [[16384, -32768, 0]]


def test_the_noise_of_a_step_has_the_promised_scale() -> None:
    """A step on no records at all is noise alone; the change tells it back."""
    rho, clip, about = rho_of(1.0, 1e-6), 0.25, 200
    noise = Noise(variance_of_round(rho, 1), clip, about)
    empty = np.empty((0, 3)), np.empty((0, 2))
    drawn = np.concatenate([change(*empty, noise) for _ in range(60)])
    deviation = clip / math.sqrt(2 * float(rho)) / about
    count = len(drawn)
    assert count > 1500
    assert abs(drawn.mean()) < 5 * deviation / math.sqrt(count)
    assert drawn.std() == pytest.approx(deviation, rel=5 / math.sqrt(2 * count))
    assert stats.kstest(drawn / deviation, "norm").pvalue > 1e-6


@pytest.mark.parametrize("epochs", [1, 7, 1000])
@pytest.mark.parametrize("epsilon", [0.01, 1.0, 50.0])
def test_a_round_costs_what_the_rule_lets_it_cost_and_hardly_less(epochs: int, epsilon: float) -> None:
    rho = rho_of(epsilon, 1e-6)
    noise = Noise(variance_of_round(rho, epochs), 1.0, 100)
    cost = noise.rho(epochs)
    assert cost == Fraction(epochs * 2**32, 2 * noise.variance)
    assert 0.9999 * rho < cost <= rho
    assert Noise(noise.variance - 1, 1.0, 100).rho(epochs) > rho
    assert epsilon_of(cost, 1e-6) == pytest.approx(epsilon, rel=1e-3)


def test_the_length_of_noise_is_that_of_a_real_round() -> None:
    """By plain steps on no records: the noise of all steps, over what as many records could add."""
    rho, about, training = rho_of(2.0, 1e-6), 64, ONE_STEP.model_copy(update={"epochs": 4, "batch_size": 16})
    noise = Noise(variance_of_round(rho, 4), 1.0, about)
    empty = np.empty((0, 3)), np.empty((0, 2))
    # Of 60, whose lengths differ by a seventh each, the mean is not so far off by chance once in ten million times.
    lengths = [float(np.linalg.norm(change(*empty, noise, training))) for _ in range(60)]
    most = 16 * training.learning_rate * 1.0
    expected = length_of_noise(rho, GRAPH.size, about, 4)
    assert np.mean(lengths) / most == pytest.approx(expected, rel=0.15)


def test_what_a_network_learns_with_little_noise_is_what_the_records_say() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 3))
    labels = (features @ [1.0, -2.0, 0.5] > 0).astype(int)
    training = NetworkTraining(learning_rate=0.1, epochs=15, batch_size=100)
    noise = Noise(variance_of_round(Fraction(50), 15), 1.0, 400)
    moved = start() + train_privately(GRAPH, start(), features, np.eye(2)[labels], training, noise)
    found = outputs_of(build(GRAPH, parted(GRAPH, moved)), features).argmax(axis=1)
    assert (found == labels).mean() > 0.93


def test_records_without_a_finite_gradient_end_nothing_and_add_nothing() -> None:
    features, targets = records(20)
    features[3] = np.inf
    broken = change(features, targets, Noise(1, 1.0, 20), source=Silence())
    without = change(np.delete(features, 3, 0), np.delete(targets, 3, 0), Noise(1, 1.0, 20), source=Silence())
    assert broken == pytest.approx(without, abs=1e-6)


def test_records_of_another_shape_are_refused() -> None:
    features, targets = records(5)
    with pytest.raises(NetworkError, match=r"records of shape \(5, 2\) and targets of shape \(5, 2\) do not fit"):
        change(features[:, :2], targets, Noise(1, 1.0, 5))


def test_training_draws_its_noise_and_its_seats_from_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = secrets.token_bytes

    def counted(count: int) -> bytes:
        asked.append(count)
        return real(count)

    noise = DiscreteGaussian(100, random_bytes=counted)
    features, targets = records(30)
    change(features, targets, Noise(100, 1.0, 30), source=lambda _: noise, random_bytes=counted)
    assert 8 * 30 in asked
    assert any(count > 1000 for count in asked)


@pytest.mark.parametrize("units", [4, 1000, 60_000])
def test_as_many_gradients_are_computed_at_once_as_memory_holds(units: int) -> None:
    layers = ({"op": "linear", "of": (0,), "units": units}, {"op": "linear", "of": (1,), "units": 2})
    graph = Graph.model_validate({"takes": (30,), "layers": layers})
    rows = descent._rows(graph, 10_000.0)
    assert rows == 1 or rows * (64 * graph.size + 16 * graph.numbers) <= 1 << 28
    assert descent._rows(graph, 0.5) == 1
    assert rows <= 256
