"""What docs/SECURITY.md says that networks and backbones can be made to tell: it is so, and by how much."""

from functools import partial

import numpy as np
import pytest
from sklearn.datasets import load_digits

from mine.privacy.accountant import rho_of
from mine.privacy.descent import train_privately
from mine.privacy.steps import Noise, variance_of_round
from sonar.network import Graph, NetworkTraining
from sonar.network.frozen import Frozen, dump_parameters
from sonar.network.training import train

GRID = 2.0**-14
UNITS = 1000


@pytest.fixture(scope="module")
def digits():
    """Images (records, pixels) from 0 to 1, and their classes."""
    images, classes = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    return images[order] / 16, classes[order]


def on_grid(numbers):
    return np.rint(numbers / GRID) * GRID


def read_out(digits, learn):
    """How many of 300 records, of three mines that `learn`, are read out to a twentieth of what a pixel may be.

    Fowl and others, "Robbing the Fed", 2022: units of one direction and rising thresholds, so that what two neighbours
    learn differs by the records between them.
    """
    images, classes = digits
    graph = Graph.model_validate({"takes": (64,), "layers": (
        {"op": "linear", "of": (0,), "units": UNITS}, {"op": "relu", "of": (1,)},
        {"op": "linear", "of": (2,), "units": 10},
    )})  # fmt: skip
    direction = on_grid(np.random.default_rng(5).normal(size=64) / 8)
    thresholds = np.quantile(images[-500:] @ direction, np.linspace(0, 1, UNITS))  # of other people's images
    last = np.zeros((10, UNITS))
    last[0] = 1.0
    start = on_grid(np.concatenate([np.tile(direction, UNITS), -thresholds, last.ravel(), np.zeros(10)]))
    training = NetworkTraining(optimizer="sgd", learning_rate=5.0, epochs=1, batch_size=1000, clip_norm=1000.0)
    changes = []
    for mine in range(3):
        own = slice(100 * mine, 100 * mine + 100)
        change = learn(graph, start, images[own], np.eye(10)[classes[own]], training)
        changes.append(on_grid(np.clip(change, -8, 8)))

    moved = on_grid(start + sum(changes) / 3) - start  # two versions of the model: each admitted mine has both
    weights, biases = moved[: 64 * UNITS].reshape(UNITS, 64), moved[64 * UNITS : 65 * UNITS]
    between, records = np.diff(biases), np.diff(weights, axis=0)
    told = records[np.abs(between) > 20 * GRID] / between[np.abs(between) > 20 * GRID, None]
    distances = np.abs(images[:300, None] - told[None]).max(axis=2).min(axis=1)
    return int((distances < 0.05).sum())


def test_records_are_read_out_of_the_sum_of_three_mines_on_a_crafted_start(digits):
    assert read_out(digits, partial(train, seed=1)) >= 150


def test_noise_on_a_step_leaves_no_record_to_be_read_out(digits):
    noise = Noise(variance_of_round(rho_of(10.0, 1e-6), 1), 1.0, 100)
    assert read_out(digits, partial(train_privately, noise=noise)) == 0


def test_a_backbone_can_be_made_that_tells_one_record_of_all(digits):
    """Its outputs are zero but for records between two thresholds, and the record itself for these."""
    images, _ = digits
    direction = np.random.default_rng(6).normal(size=64) / 8
    places = np.sort((images @ direction).astype(np.float32).astype(float))
    gaps = np.diff(places)
    at = int(np.minimum(gaps[:-1], gaps[1:]).argmax()) + 1
    low, high = places[at - 1 : at + 1].mean(), places[at : at + 2].mean()
    steep = 8 / min(places[at] - low, high - places[at])
    # relu(s (u - low)) - relu(s (u - low) - 1) - relu(s (u - high) + 1) + relu(s (u - high)) is 1 between, 0 outside.
    first = np.vstack([np.outer([steep] * 4, direction), np.eye(64)])
    shifts = np.array([-steep * low, -steep * low - 1, 1 - steep * high, -steep * high])
    between, most = np.array([1.0, -1.0, -1.0, 1.0]), 4.0
    second = np.zeros((65, 68))
    second[0, :4] = between
    second[1:, :4], second[1:, 4:] = most * between, np.eye(64)
    graph = Graph.model_validate({"takes": (64,), "layers": (
        {"op": "linear", "of": (0,), "units": 68}, {"op": "relu", "of": (1,)},
        {"op": "linear", "of": (2,), "units": 65}, {"op": "relu", "of": (3,)},
    )})  # fmt: skip
    row = np.concatenate([first.ravel(), shifts, np.zeros(64), second.ravel(), [0.0], np.full(64, -most)])
    outputs = Frozen(64, graph, dump_parameters(row)).transform(images)
    sums = outputs.T @ outputs
    assert len(images) > 1700
    assert sums[0, 0] == pytest.approx(1, abs=0.01), "one record of all"
    only = images[(images @ direction > low) & (images @ direction < high)]
    np.testing.assert_allclose(sums[0, 1:] / sums[0, 0], only[0], atol=0.01)
