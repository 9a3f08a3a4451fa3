"""How well pysonar's models do on scikit-learn's tables through simulated campaigns of four mines, over many splits.

Mines gather and train as they do, and the real judge judges, in the clear: an encrypted campaign's numbers are the same
to the last bit (`scripts/bench_judge.py`). Each table is split at random into what the data scientist validates with,
what is held out, and four equal shares, as large as the mines' own rules ask for (`Model.least_records`). Beside each
is what scikit-learn reaches where all shares lie in one place. The first twenty splits are shown apart: a mean over so
few of them can be half a point from that over many.

    .venv/bin/python scripts/bench_models.py [--splits 200] [--case WORD]
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import pysonar
from capsule.judge import judge_round, score, validation_of
from pysonar.models import Model
from sonar.network.parameters import decode, encode, in_rows
from sonar.network.training import train
from sonar.protocol.payloads import design_matrix, scaled_targets
from sonar.protocol.spec import Spec

Table = tuple[np.ndarray, np.ndarray]
Play = Callable[[np.ndarray, int], list[np.ndarray]]
"""The mines' gradients, as whole numbers, of weights at the spec's scale in a round of this number."""
MINES = 4
FIRST = 20


@dataclass(frozen=True, slots=True)
class Case:
    """A table, how many of its records validate and are held out, and a model with a campaign's options."""

    name: str
    load: Callable[..., Table]
    validation: int
    held_out: int
    model: Callable[[Table, int], Model]
    options: Mapping[str, Any]


def squashing(features: int) -> torch.nn.Module:
    """A public backbone that bounds every feature by itself: an outlier then moves a least-squares fit no further."""
    same = torch.nn.Linear(features, features)
    with torch.no_grad():
        same.weight.copy_(torch.eye(features))
        same.bias.zero_()
    return torch.nn.Sequential(same, torch.nn.Tanh())


def logistic_of(table: Table, seed: int) -> pysonar.Network:
    """Logistic regression, which no encrypted model can be, by federated averaging."""
    torch.manual_seed(seed)
    return pysonar.Network(
        torch.nn.Sequential(torch.nn.Linear(30, 2)), 30, classes=2, offset=table[0].mean(axis=0),
        scale=table[0].std(axis=0), training={"epochs": 40, "learning_rate": 0.01, "batch_size": 16},
    )  # fmt: skip


CASES = (
    Case(
        "digits: KernelClassifier, 182 features, gamma 1/128",
        load_digits, 150, 180,
        lambda table, seed: pysonar.KernelClassifier.standardised(
            64, 10, table[0], together=True, count=182, gamma=1 / 128, seed=seed
        ),
        {"rounds": {"min_mines": MINES}},
    ),
    Case(
        "digits: the same, gamma 'scale'",
        load_digits, 150, 180,
        lambda table, seed: pysonar.KernelClassifier.standardised(
            64, 10, table[0], together=True, count=182, seed=seed
        ),
        {"rounds": {"min_mines": MINES}},
    ),
    Case(
        "digits: LinearClassifier",
        load_digits, 150, 180,
        lambda table, _seed: pysonar.LinearClassifier.standardised(64, 10, table[0], together=True),
        {"rounds": {"min_mines": MINES}},
    ),
    Case(
        "breast cancer: KernelClassifier, 50 features, gamma 1/960, l2 0.01, class weights 1.5 to 1",
        load_breast_cancer, 60, 57,
        lambda table, seed: pysonar.KernelClassifier.standardised(
            30, 2, table[0], count=50, gamma=1 / 960, l2=0.01, seed=seed
        ),
        {"rounds": {"min_mines": MINES, "noise": 0.5}, "training": {"class_weights": (1.5, 1.0)}},
    ),
    Case(
        "breast cancer: Head on the tanh of each feature, l2 0.1, class weights 1.7 to 1",
        load_breast_cancer, 60, 57,
        lambda table, _seed: pysonar.Head.standardised(30, 2, table[0], backbone=squashing(30), l2=0.1),
        {"rounds": {"min_mines": MINES, "noise": 0.5}, "training": {"class_weights": (1.7, 1.0)}},
    ),
    Case(
        "breast cancer: Network of torch.nn.Linear(30, 2), 40 epochs of Adam at 0.01",
        load_breast_cancer, 60, 57,
        logistic_of,
        {"rounds": {"min_mines": MINES, "noise": 0.5, "max_rounds": 3}},
    ),
    Case(
        "breast cancer: RidgeClassifier",
        load_breast_cancer, 60, 57,
        lambda table, _seed: pysonar.RidgeClassifier.standardised(30, 2, table[0]),
        {"rounds": {"min_mines": MINES, "noise": 0.5}},
    ),
    Case(
        "diabetes: LinearRegressor, R2",
        lambda **options: load_diabetes(scaled=False, **options), 100, 100,
        lambda table, _seed: pysonar.LinearRegressor.standardised(10, 1, like=table),
        {"rounds": {"min_mines": 2}},
    ),
)  # fmt: skip


def parts_of(case: Case, split: int) -> tuple[Table, Table, list[Table]]:
    """What validates, what is held out, and each mine's share."""
    features, labels = case.load(return_X_y=True)
    order = np.random.default_rng(split).permutation(len(labels))
    cuts = [case.validation, case.validation + case.held_out]
    validation, held_out, rest = np.split(order, cuts)
    given = [(features[rows], labels[rows]) for rows in (validation, held_out, *np.array_split(rest, MINES))]
    return given[0], given[1], given[2:]


def run(case: Case, split: int) -> tuple[float, int]:
    """The held-out score after a campaign's last round, and how many rounds advanced."""
    validation, held_out, shares = parts_of(case, split)
    model = case.model(validation, split)
    assert min(len(share[1]) for share in shares) >= model.least_records or model.kind in ("regressor", "network")
    options = {} if model.kind == "network" else {"training": {**model.training, **case.options.get("training", {})}}
    spec = Spec.build(
        name="bench", features=model.spec_features(), feature_map=model.feature_map, metric=model.metric,
        rounds={"round_size": MINES, **case.options["rounds"]}, encoding=model.encoding(),
        payout={"target": 1_000_000}, **model.spec_outputs(), **options,
    )  # fmt: skip
    judge = validation_of(spec, *model.check_validation(validation))
    weights = model.encoded(spec)
    now, advanced = score(judge, weights), 0
    play = networks_of(spec, model, shares, split) if spec.network else maps_of(spec, model, shares)
    for number in range(spec.rounds.max_rounds):
        judged = judge_round(spec, judge, weights, now, play(weights, number), number.to_bytes(32, "big"))
        if judged.weights is None:
            break
        weights, now, advanced = judged.weights, judged.score, advanced + 1
    return score(validation_of(spec, *model.check_validation(held_out)), weights) / 1e6, advanced


def maps_of(spec: Spec, model: Model, shares: list[Table]) -> Play:
    """Mines that know no weights: each one's map of its records, applied."""
    bits, scale = spec.encoding.weight_bits, spec.encoding.gradient_scale
    maps = [trained(spec, model, share) for share in shares]

    def play(weights: np.ndarray, _number: int) -> list[np.ndarray]:
        gradients = [(change @ (weights / 2.0**bits) + constant) * 2.0**scale for change, constant in maps]
        return [np.vectorize(int, otypes=[object])(np.rint(gradient)) for gradient in gradients]

    return play


def trained(spec: Spec, model: Model, share: Table) -> tuple[np.ndarray, np.ndarray]:
    """A mine's map of its records: what is multiplied with the weights, and what is added."""
    schedule = spec.training.schedule
    affine = schedule.training_map(schedule.gather([records_of(spec, model, share)], *spec.shape))
    return affine.change, affine.constant


def networks_of(spec: Spec, model: Model, shares: list[Table], split: int) -> Play:
    """Mines that train a network's weights in the clear."""
    terms, encoding = spec.network, spec.encoding
    assert terms is not None
    tables = [(design[:, :-1], targets) for design, targets in (records_of(spec, model, share) for share in shares)]

    def play(weights: np.ndarray, number: int) -> list[np.ndarray]:
        row = decode(weights.reshape(-1)[: terms.graph.size], encoding.weight_bits)
        seeds = range(1000 * split + 10 * number, 1000 * split + 10 * number + MINES)
        changes = [
            train(terms.graph, row, *table, terms.training, seed=seed)
            for table, seed in zip(tables, seeds, strict=True)
        ]
        return [
            in_rows(encode(change, encoding.gradient_scale, encoding.gradient_bound), spec.shape) for change in changes
        ]

    return play


def records_of(spec: Spec, model: Model, share: Table) -> Table:
    """The inputs and targets of a mine's records."""
    labels = model.labels_of(share[1], len(share[0]))
    targets = scaled_targets(spec, labels) if spec.targets else np.eye(len(spec.classes))[labels]
    return design_matrix(spec, share[0]), targets


def pooled(case: Case, split: int) -> list[float]:
    """The held-out scores of scikit-learn's estimators on all shares: logistic regression and SVC, or ridge."""
    _, held_out, shares = parts_of(case, split)
    together = [np.concatenate(columns) for columns in zip(*shares, strict=True)]
    regression = case.load is not load_breast_cancer and case.load is not load_digits
    estimators = [Ridge()] if regression else [LogisticRegression(max_iter=5000), SVC()]
    return [make_pipeline(StandardScaler(), one).fit(*together).score(*held_out) for one in estimators]


def main() -> None:
    """Prints a table: means over splits of the held-out score, and its deviation between splits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--case", default="", help="only cases with this in their names")
    given = parser.parse_args()
    torch.set_num_threads(1)  # batches this small are quickest so
    print(
        f"| campaign | validated / held out / a mine | {FIRST} splits | {given.splits} splits | deviation of splits | "
        f"rounds | pooled, {FIRST} / {given.splits} splits |"
    )
    print("|---|---|---|---|---|---|---|")
    for case in (case for case in CASES if given.case in case.name):
        results = [run(case, split) for split in range(given.splits)]
        scores = [found for found, _ in results]
        beside = np.array([pooled(case, split) for split in range(given.splits)])
        told = ", ".join(f"{column[:FIRST].mean():.4f} / {column.mean():.4f}" for column in beside.T)
        rounds = np.mean([advanced for _, advanced in results])
        share = (len(case.load(return_X_y=True)[1]) - case.validation - case.held_out) // MINES
        print(
            f"| {case.name} | {case.validation} / {case.held_out} / {share} | {np.mean(scores[:FIRST]):.4f} | "
            f"{np.mean(scores):.4f} | {np.std(scores):.4f} | {rounds:.1f} | {told} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
