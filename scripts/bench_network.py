#!/usr/bin/env python3
"""What encryption costs federated averaging of networks: wall time by stage, against the same without, and bytes.

usage: scripts/bench_network.py [--case cnn|mlp|million ...] [--mines N] [--rounds N] [--key-bits N] [--json]

Every round all mines train from the present version, one after the other, as one machine does it that plays all of
them. Then once their changes are averaged as floats; and once they are put on the grid, encrypted, sealed, opened,
judged, multiplied up to the product and encrypted again under the next key. Keys are made before, as a Capsule does.
"""

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer, load_digits
from torch import nn

from capsule.judge import judge_round, score, validation_of
from capsule.sandbox.integers import pack_integers, unpack_integers
from capsule.secret import decrypt, generate_key
from mine.networks import encrypt_change
from sonar.network import NetworkTraining
from sonar.network.parameters import decode, encode, in_rows, joined
from sonar.network.tracing import trace
from sonar.network.training import train
from sonar.protocol.payloads import design_matrix
from sonar.protocol.sealing import SealingKeyPair
from sonar.protocol.spec import Encoding, Feature, NetworkTerms, Payout, Rounds, Spec
from sonar.syft import Obfuscator, dump_model, dump_product, encrypt, load_gradient, load_model, product

_EPOCHS = {"cnn": 20, "mlp": 20, "million": 5}
"""What trains each network in two or three rounds: encryption costs the same however long mines train."""
_PHE_BYTES = 2
"""An unpacked ciphertext is twice as long as its key, whatever it holds."""


@dataclass
class Case:
    """A network, its campaign, and the records of its mines and its validation set."""

    spec: Spec
    start: np.ndarray
    shares: list[tuple[np.ndarray, np.ndarray]]
    features: np.ndarray
    labels: np.ndarray


@dataclass
class Stages:
    """Seconds on the clock, and of all cores together, by stage."""

    seconds: Counter[str] = field(default_factory=Counter)
    work: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def on(self, name: str) -> Iterator[None]:
        """Counts what happens within."""
        started, worked = time.perf_counter(), time.process_time()
        yield
        self.seconds[name] += time.perf_counter() - started
        self.work[name] += time.process_time() - worked


def networks() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    """The networks by name, with the shape of the records that they take."""
    torch.manual_seed(0)
    return {
        "cnn": (nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
            nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10),
        ), (1, 8, 8)),
        "mlp": (nn.Sequential(nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, 2)), (30,)),
        "million": (nn.Sequential(
            nn.Linear(64, 1250), nn.ReLU(), nn.Linear(1250, 740), nn.ReLU(), nn.Linear(740, 10)
        ), (64,)),
    }  # fmt: skip


def case_of(name: str, mines: int) -> Case:
    """A case by its name; a fifth of the records validate, the mines share the others."""
    module, takes = networks()[name]
    graph, tensors = trace(module, takes)
    X, y = (load_breast_cancer if name == "mlp" else load_digits)(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))
    X, y = X[order], y[order].astype(np.int64)
    held = len(X) // 5
    offset, scale = (X.mean(axis=0), X.std(axis=0)) if name == "mlp" else (np.zeros(64), np.full(64, 16.0))
    spec = Spec.build(
        name=name, mode="network", classes=tuple(str(k) for k in range(int(y.max()) + 1)),
        encoding=Encoding.for_network(),
        features=tuple(
            Feature(name=f"x{i}", offset=float(offset[i]), scale=float(scale[i])) for i in range(X.shape[1])
        ),
        network=NetworkTerms(
            graph=graph, training=NetworkTraining(epochs=_EPOCHS[name], learning_rate=2e-3, clip_norm=100.0)
        ),
        rounds=Rounds(round_size=max(2, mines)), payout=Payout(target=999_000),
    )  # fmt: skip
    encoding = spec.encoding
    start = in_rows(encode(joined(graph, tensors), encoding.weight_bits, encoding.weight_bound), spec.shape)
    targets = np.eye(graph.outputs)
    shares = [
        (design_matrix(spec, X[part])[:, :-1], targets[y[part]])
        for part in np.array_split(np.arange(held, len(X)), mines)
    ]
    return Case(spec, start, shares, X[:held], y[:held])


def plain(case: Case, rounds: int) -> tuple[Stages, int]:
    """Federated averaging as it is done without anything else: the stages, and the score after it."""
    stages, network, encoding = Stages(), case.spec.network, case.spec.encoding
    assert network is not None
    row = decode(case.start.reshape(-1)[: network.graph.size], encoding.weight_bits)
    for number in range(rounds):
        changes = []
        for mine, (records, targets) in enumerate(case.shares):
            with stages.on("training"):
                changes.append(train(network.graph, row, records, targets, network.training, seed=100 * number + mine))
        with stages.on("averaging"):
            row = row + np.mean(changes, axis=0)
    validation = validation_of(case.spec, case.features, case.labels)
    return stages, score(validation, in_rows(encode(row, encoding.weight_bits, encoding.weight_bound), case.spec.shape))


def encrypted(case: Case, rounds: int, key_bits: int) -> tuple[Stages, int, int]:
    """The same as a campaign: the stages, the score after it, and the bytes of a sealed gradient."""
    spec, encoding, stages = case.spec, case.spec.encoding, Stages()
    network = spec.network
    assert network is not None
    keys = [generate_key(key_bits, allow_insecure_small_key=key_bits < 2048) for _ in range(rounds + 1)]
    pair = SealingKeyPair.generate()
    weights, validation = case.start, validation_of(spec, case.features, case.labels)
    current, size = score(validation, weights), 0
    model = _model(spec, weights, keys[0].public)
    for number in range(rounds):
        key, boxes = keys[number], []
        row = decode(weights.reshape(-1)[: network.graph.size], encoding.weight_bits)
        for mine, (records, targets) in enumerate(case.shares):
            with stages.on("training"):
                change = train(network.graph, row, records, targets, network.training, seed=100 * number + mine)
            with stages.on("encrypting"):
                payload = encrypt_change(spec, key.public, change)
            with stages.on("sealing"):
                boxes.append(_box(payload, pair))
            size = len(boxes[-1])
        payloads, opened = [], []
        for box in boxes:
            with stages.on("sealing"):
                payloads.append(_unbox(box, pair))
            with stages.on("checking"):
                tensor = load_gradient(payloads[-1], key.public)
            with stages.on("decrypting"):
                values = pack_integers(decrypt(key, tensor), encoding.gradient_bound)
            opened.append(unpack_integers(values, spec.shape, encoding.gradient_bound))
        with stages.on("judging"):
            found = judge_round(spec, validation, weights, current, opened, b"bench")
        if found.weights is None:
            break
        kept = [(payload, one.weight) for payload, one in zip(payloads, found.results, strict=True) if one.kept]
        with stages.on("the product"):
            base = load_model(model, allow_insecure_small_key=key_bits < 2048)
            gradients = [load_gradient(payload, key.public) for payload, _ in kept]
            dump_product(product(base, gradients, [weight for _, weight in kept], found.exponent))
        weights, current = found.weights, found.score
        with stages.on("the next model"):
            model = _model(spec, weights, keys[number + 1].public)
    return stages, current, size


def _model(spec: Spec, weights: np.ndarray, key) -> bytes:  # type: ignore[no-untyped-def]
    encoding = spec.encoding
    return dump_model(encrypt(
        weights, key, Obfuscator(key), slot_width=encoding.slot_width, scale=encoding.weight_bits,
        bound=encoding.weight_bound, stride=encoding.stride(key, spec.shape[1]),
    ))  # fmt: skip


def _box(payload: bytes, pair: SealingKeyPair) -> bytes:
    from nacl.public import PublicKey, SealedBox

    return SealedBox(PublicKey(pair.public)).encrypt(payload)


def _unbox(box: bytes, pair: SealingKeyPair) -> bytes:
    from nacl.public import PrivateKey, SealedBox

    return SealedBox(PrivateKey(pair.secret_bytes())).decrypt(box)


def measure(name: str, mines: int, rounds: int, key_bits: int) -> dict[str, object]:
    """One case, both ways."""
    case = case_of(name, mines)
    network = case.spec.network
    assert network is not None
    before, plain_score = plain(case, rounds)
    after, score_, size = encrypted(case, rounds, key_bits)
    spent, without = sum(after.seconds.values()), sum(before.seconds.values())
    judging, worked, plainly = after.seconds["judging"], sum(after.work.values()), sum(before.work.values())
    parameters = network.graph.size
    return {
        "case": name, "parameters": parameters, "mines": mines, "rounds": rounds, "epochs": _EPOCHS[name],
        "key_bits": key_bits, "load": round(os.getloadavg()[0], 1),
        "plain_seconds": round(without, 3), "encrypted_seconds": round(spent, 3),
        "ratio": round(spent / without, 2), "ratio_without_judging": round((spent - judging) / without, 2),
        "work_seconds": round(worked, 3), "work_ratio": round(worked / plainly, 2),
        "work_ratio_without_judging": round((worked - after.work["judging"]) / plainly, 2),
        "work_shares": {stage: round(seconds / worked, 3) for stage, seconds in after.work.most_common()},
        "shares": {stage: round(seconds / spent, 3) for stage, seconds in after.seconds.most_common()},
        "plain_score": plain_score, "score": score_, "bytes": size, "bytes_per_parameter": round(size / parameters, 2),
        "phe_times": round(_PHE_BYTES * key_bits / 8 * parameters / size, 1),
        "float32_times": round(size / parameters / 4, 2),
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--case", action="append", choices=sorted(networks()), default=[])
    parser.add_argument("--mines", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--key-bits", type=int, default=3072)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)  # batches this small are quickest so, and the same every time
    found = [measure(name, options.mines, options.rounds, options.key_bits) for name in options.case or networks()]
    print(json.dumps(found, indent=2) if options.json else "\n".join(map(_told, found)))
    return 0


def _told(found: dict[str, object]) -> str:
    shares = ", ".join(f"{stage} {share:.1%}" for stage, share in found["work_shares"].items())  # type: ignore[attr-defined]
    return (
        f"{found['case']}: {found['parameters']} parameters, {found['mines']} mines, {found['rounds']} rounds "
        f"of {found['epochs']} epochs, load {found['load']}: "
        f"{found['plain_seconds']} s without and {found['encrypted_seconds']} s with encryption, {found['ratio']} "
        f"times ({found['ratio_without_judging']} without judging), {found['work_ratio']} times the "
        f"work ({found['work_ratio_without_judging']} without judging)\n  {shares}\n  {found['bytes']} bytes a "
        f"gradient, {found['bytes_per_parameter']} a parameter: {found['phe_times']} times smaller than unpacked, "
        f"{found['float32_times']} times float32; score {found['score']} and {found['plain_score']} without"
    )


if __name__ == "__main__":
    sys.exit(main())
