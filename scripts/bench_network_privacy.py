#!/usr/bin/env python3
"""Measures accuracy against epsilon for networks: five mines, federated averaging, noise on every step by the rule.

usage: scripts/bench_network_privacy.py [--case cancer|digits|randhie ...] [--epsilon E ...] [--rounds N] [--seeds N]
                                        [--json]

A fifth of a table tests, the rest is dealt to five mines alike; a fifth standardises, as a data scientist's validation
set would. Every round all mines train from the present parameters, and the mean of their changes is added: no judge
leaves one out, and nothing is encrypted. `epsilon` is what all rounds together cost each mine. Splits differ by seed;
noise never repeats. docs/privacy.md has what came out.
"""

import argparse
import json
import math
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer, load_digits
from torch import nn

from mine.privacy.accountant import rho_of
from mine.privacy.declared import about
from mine.privacy.descent import train_privately
from mine.privacy.rule import PrivacyRule
from mine.privacy.steps import Noise, length_of_noise, variance_of_round
from sonar.network import Graph, NetworkTraining
from sonar.network.building import build
from sonar.network.parameters import joined, parted
from sonar.network.tracing import trace
from sonar.network.training import outputs_of, train

MINES = 5
RULE = PrivacyRule(mode="on")
TRAINING = NetworkTraining(optimizer="sgd", learning_rate=1.0, epochs=10, batch_size=1 << 16, clip_norm=1000.0)
"""Each epoch is one step on all records: the fewer batches, the less noise."""
Table = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Case:
    """A table, its network, and what a record is to the network."""

    title: str
    load: Callable[[], Table]
    module: Callable[[], nn.Module]
    takes: tuple[int, ...]
    standardised: bool = True


def _randhie() -> Table:
    from statsmodels.datasets import randhie

    table = randhie.load_pandas().data
    return table.drop(columns="mdvis").to_numpy(float), (table["mdvis"] > 1).to_numpy(np.int64)


def _digits() -> Table:
    features, labels = load_digits(return_X_y=True)
    return features / 16, labels


def _mlp(features: int) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(nn.Linear(features, 16), nn.Tanh(), nn.Linear(16, 2))


def _cnn() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(192, 10))


CASES = {
    "randhie": Case("RAND Health Insurance Experiment, MLP", _randhie, _mlp(9), (9,)),
    "cancer": Case("Wisconsin breast cancer, MLP", lambda: load_breast_cancer(return_X_y=True), _mlp(30), (30,)),
    "digits": Case("digits, CNN", _digits, _cnn, (1, 8, 8), standardised=False),
}


@dataclass(frozen=True)
class Point:
    """One epsilon, None for no noise: accuracy on the test set in parts of 1, its standard error over seeds.

    `noise` is how many times as long a mine's noise in a round is as all that its records can add.
    """

    epsilon: float | None
    accuracy: float
    error: float
    noise: float
    seconds: float


def campaign(case: Case, seed: int, rounds: int, epsilon: float | None, mines: int = MINES) -> tuple[float, Graph, int]:
    """Accuracy on the test set after so many rounds; the network, and a mine's records."""
    features, labels = case.load()
    order = np.random.default_rng(seed).permutation(len(labels))
    features, labels = features[order], labels[order]
    fifth = len(labels) // 5
    if case.standardised:
        features = (features - features[:fifth].mean(axis=0)) / np.maximum(features[:fifth].std(axis=0), 1e-9)
    torch.manual_seed(seed)
    graph, tensors = trace(case.module(), case.takes)
    weights, one_hot = joined(graph, tensors), np.eye(graph.outputs)
    shares = np.array_split(np.arange(fifth, len(labels)), MINES)[:mines]
    for number in range(rounds):
        changes = []
        for share in shares:
            records, targets = features[share], one_hot[labels[share]]
            if epsilon is None:
                changes.append(train(graph, weights, records, targets, TRAINING, seed=number))
                continue
            variance = variance_of_round(rho_of(epsilon, RULE.delta) / rounds, TRAINING.epochs)
            noise = Noise(variance, RULE.gradient_clip, about(len(share)))
            changes.append(train_privately(graph, weights, records, targets, TRAINING, noise))
        weights = weights + np.mean(changes, axis=0)
    outputs = outputs_of(build(graph, parted(graph, weights)), features[:fifth])
    return float((outputs.argmax(axis=1) == labels[:fifth]).mean()), graph, len(shares[0])


def point(case: Case, seeds: int, rounds: int, epsilon: float | None, mines: int = MINES) -> Point:
    """One line of a table."""
    started = time.perf_counter()
    runs = [campaign(case, seed, rounds, epsilon, mines) for seed in range(seeds)]
    found = np.array([accuracy for accuracy, _, _ in runs])
    _, graph, records = runs[0]
    length = 0.0
    if epsilon is not None:
        length = length_of_noise(rho_of(epsilon, RULE.delta) / rounds, graph.size, records, 1)
    return Point(epsilon, float(found.mean()), float(found.std()) / math.sqrt(seeds), length,
                 time.perf_counter() - started)  # fmt: skip


def main() -> None:
    """Prints a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=list(CASES), nargs="+", default=list(CASES))
    parser.add_argument("--epsilon", type=float, nargs="+", default=[1.0, 3.0, 10.0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    report = []
    for name in given.case:
        case = CASES[name]
        _, graph, records = campaign(case, 0, 0, None)
        lines = {"one mine, no noise": point(case, given.seeds, given.rounds, None, 1),
                 "five mines, no noise": point(case, given.seeds, given.rounds, None)}  # fmt: skip
        lines |= {
            f"five mines, epsilon {epsilon:g}": point(case, given.seeds, given.rounds, epsilon)
            for epsilon in given.epsilon
        }
        if not given.json:
            print(f"{case.title}: {graph.size} parameters, {records} records a mine, {given.rounds} rounds, "
                  f"{given.seeds} seeds")  # fmt: skip
            for words, one in lines.items():
                said = f"{100 * one.accuracy:.1f} ± {100 * one.error:.1f}"
                print(f"  {words:<24} {said:<14} noise {one.noise:.2f}  {one.seconds:.1f} s")
            sys.stdout.flush()
        report.append({"case": name, "title": case.title, "parameters": graph.size, "records_of_a_mine": records,
                       "rounds": given.rounds, "seeds": given.seeds,
                       "points": {words: asdict(one) for words, one in lines.items()}})  # fmt: skip
    if given.json:
        machine = f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
        print(
            json.dumps({"machine": machine, "delta": RULE.delta, "clip": RULE.gradient_clip, "cases": report}, indent=1)
        )


if __name__ == "__main__":
    main()
