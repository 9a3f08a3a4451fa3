#!/usr/bin/env python3
"""How near a campaign's network comes to the same one trained on its mines' pooled shares: a small CNN on digits.

usage: scripts/bench_pooled.py [--rounds N] [--epochs N] [--seeds N] [--mines N] [--validated N] [--min-mines N]

Mines train as they do and the real judge judges, in the clear: what is encrypted is the very same integers. Beside it
is federated averaging without a judge, and the network trained on all shares together: as long as one round, and as
long as all rounds. Every seed splits the records anew and starts from other weights. --json prints an object.
"""

import argparse
import json
import sys
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import pysonar
from capsule.judge import judge_round, score, validation_of
from sonar.network.parameters import decode, encode, in_rows
from sonar.network.training import train
from sonar.protocol.payloads import design_matrix
from sonar.protocol.spec import Spec

HELD_OUT = 500
TRAINING = {"learning_rate": 0.003, "batch_size": 16, "clip_norm": 20.0}


@dataclass(frozen=True, slots=True)
class Terms:
    """What a run is made of: how long it trains, and how the records are shared."""

    rounds: int
    epochs: int
    mines: int
    validated: int
    min_mines: int


class Run:
    """One split of the records, one start, and what training makes of it."""

    def __init__(self, terms: Terms, seed: int) -> None:
        features, labels = load_digits(return_X_y=True)
        order = np.random.default_rng(seed).permutation(len(labels))
        validation, held_out, rest = np.split(order, [terms.validated, terms.validated + HELD_OUT])
        torch.manual_seed(seed)
        module = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Dropout(0.4), nn.Linear(512, 10),
        )  # fmt: skip
        model = pysonar.Network(
            module, 64, classes=10, takes=(1, 8, 8), scale=16.0, training={**TRAINING, "epochs": terms.epochs}
        )
        self.terms, self.seed, self.start = terms, seed, np.array(model.weights)
        self.spec = Spec.build(
            name="bench", features=model.spec_features(), metric=model.metric, encoding=model.encoding(),
            rounds={"round_size": terms.mines, "min_mines": terms.min_mines, "noise": 0.5, "min_gain": 500},
            payout={"target": 1_000_000}, **model.spec_outputs(),
        )  # fmt: skip
        self.graph, self.training = model.graph, model.terms.training
        self.tables = [
            (design_matrix(self.spec, features[rows])[:, :-1], np.eye(10)[labels[rows]])
            for rows in (rest, *np.array_split(rest, terms.mines))
        ]
        self.validation = validation_of(self.spec, features[validation], labels[validation])
        self.held_out = validation_of(self.spec, features[held_out], labels[held_out])

    def changes(self, row: np.ndarray, number: int) -> list[np.ndarray]:
        """What every mine's training makes of the parameters in a round."""
        return [
            train(self.graph, row, *table, self.training, seed=1000 * self.seed + 10 * number + mine)
            for mine, table in enumerate(self.tables[1:])
        ]

    def on_grid(self, row: np.ndarray) -> np.ndarray:
        """Parameters as the judge takes them, and changes as mines post them: the scale is the same."""
        encoding = self.spec.encoding
        return in_rows(encode(row, encoding.weight_bits, encoding.weight_bound), self.spec.shape)

    def campaign(self) -> tuple[float, int]:
        """The held-out score after the last round, and how many of them advanced."""
        weights = self.on_grid(self.start)
        now, advanced = score(self.validation, weights), 0
        for number in range(self.terms.rounds):
            row = decode(weights.reshape(-1)[: self.graph.size], self.spec.encoding.weight_bits)
            posted = [self.on_grid(change) for change in self.changes(row, number)]
            found = judge_round(self.spec, self.validation, weights, now, posted, number.to_bytes(32, "big"))
            if found.weights is not None:
                weights, now, advanced = found.weights, found.score, advanced + 1
        return score(self.held_out, weights) / 1e6, advanced

    def averaging(self) -> float:
        """The same where every mean is taken, whatever it is worth."""
        row = self.start
        for number in range(self.terms.rounds):
            row = row + np.mean(self.changes(row, number), axis=0)
        return score(self.held_out, self.on_grid(row)) / 1e6

    def pooled(self, epochs: int) -> float:
        """The same network, trained so long on all shares together."""
        longer = self.training.model_copy(update={"epochs": epochs})
        change = train(self.graph, self.start, *self.tables[0], longer, seed=self.seed)
        return score(self.held_out, self.on_grid(self.start + change)) / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--mines", type=int, default=4)
    parser.add_argument("--validated", type=int, default=300)
    parser.add_argument("--min-mines", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)  # batches this small are quickest so, and the same every time
    terms = Terms(given.rounds, given.epochs, given.mines, given.validated, given.min_mines)
    rows = []
    for seed in range(given.seeds):
        run = Run(terms, seed)
        found, advanced = run.campaign()
        rows.append((
            found, advanced, run.averaging(), run.pooled(terms.epochs), run.pooled(terms.epochs * terms.rounds)
        ))  # fmt: skip
        print(f"seed {seed}: {rows[-1]}", file=sys.stderr, flush=True)
    names = ("campaign", "rounds that advanced", "averaging", "pooled, one round's epochs", "pooled, all epochs")
    told = dict(zip(names, np.mean(rows, axis=0).round(4).tolist(), strict=True))
    print(json.dumps(told) if given.json else "\n".join(f"{name}: {value}" for name, value in told.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
