"""Rounds whose whole judgement is written down: whoever judges them otherwise would sign another settlement.

The inputs are drawn from SHAKE-256, so that they need no library's generator. The expected judgements were written by
this judge on x86-64 (OpenBLAS, Haswell kernels) and are the same with any number of threads; a change of the rules
changes them, and must say so in the changelog.
"""

import json
import subprocess
import sys
from hashlib import sha256, shake_256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from capsule.judge import ValidationSet, judge_round, score
from sonar.protocol.spec import Feature, Payout, Rounds, Spec

GOLDEN = Path(__file__).parent / "golden" / "rounds.json"
METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "auc", "r2")


def drawn(name: str, *shape: int) -> Any:
    """Integers of -2^15 to 2^15 - 1."""
    count = int(np.prod(shape))
    return np.frombuffer(shake_256(name.encode()).digest(2 * count), dtype="<i2").astype(np.int64).reshape(shape)


def judgement(metric: str, count: int, noise: float = 1.0) -> dict[str, Any]:
    """A round of `count` gradients: honest ones of several qualities, a copy, a near replica, noise, and a far one."""
    outputs = {"classes": ("a", "b", "c")} if metric != "r2" else {"targets": ({"name": "t"}, {"name": "u"})}
    spec = Spec.build(
        name="golden", metric=metric, features=tuple(Feature(name=f"x{i}") for i in range(5)), **outputs,
        payout=Payout(target=999_999), rounds=Rounds(round_size=64, noise=noise),
    )  # fmt: skip
    k = spec.shape[1]
    truth, X = drawn("truth", 6, k), drawn(f"{metric} records", 200, 5)
    exact = np.c_[X, np.full(200, 1 << 15)] @ truth
    blurred = exact + drawn(f"{metric} blur", 200, k) * (1 << 14)
    labels: Any = blurred / 2.0**30 if metric == "r2" else blurred.argmax(axis=1)
    validation = ValidationSet.of(spec, X / 2.0**15, labels)
    start = drawn("start", 6, k) << 6
    # 24 bits are from the truth's units, 2^-15, to a gradient's, 2^-39.
    bits = 24 if metric == "r2" else 22
    gradients = [(truth + drawn(f"gradient {i}", 6, k) // (1 + i % 3)) << bits for i in range(count - 4)]
    gradients += [gradients[0] * 2, gradients[1] + (drawn("trace", 6, k) << bits - 6), drawn("noise", 6, k) << bits,
                  drawn("far", 6, k) << bits + 4]  # fmt: skip
    rows = [gradient.astype(object) for gradient in gradients]
    found = judge_round(spec, validation, start, score(validation, start), rows, b"golden seed")
    weights = None if found.weights is None else sha256(found.weights.astype("<i8").tobytes()).hexdigest()
    return {
        "metric": metric, "gradients": count, "noise": noise, "start": score(validation, start), "score": found.score,
        "exponent": found.exponent, "weights": weights, "sampling_error": found.sampling_error,
        "results": [[one.verdict.name, one.weight, one.share, one.reason] for one in found.results],
    }  # fmt: skip


ROUNDS = [*((metric, 8, 1.0) for metric in METRICS), ("accuracy", 14, 1.0), ("macro_f1", 8, 4.0)]


@pytest.mark.parametrize("at", range(len(ROUNDS)), ids=["-".join(map(str, one)) for one in ROUNDS])
def test_a_golden_round_is_judged_as_it_is_written(at: int) -> None:
    assert judgement(*ROUNDS[at]) == json.loads(GOLDEN.read_text())[at]


def test_golden_rounds_have_every_kind_of_result() -> None:
    rounds = json.loads(GOLDEN.read_text())
    reasons = {result[3] for one in rounds for result in one["results"]}
    assert {reason.partition(" ")[0] for reason in reasons} == {"kept", "left"}
    assert any("times as long" in reason for reason in reasons)
    assert any(reason.startswith("left out") and "not above the noise" in reason for reason in reasons)
    assert any("without pay" in reason for reason in reasons)
    assert all(one["score"] > one["start"] for one in rounds)
    assert [one["sampling_error"] > 0 for one in rounds] == [False] * 5 + [True, False]
    assert {result[0] for one in rounds for result in one["results"]} == {"KEPT", "LEFT_OUT"}


@pytest.mark.parametrize("kernels", ["Prescott", "Haswell"])
def test_other_kernels_and_threads_judge_the_same(kernels: str) -> None:
    code = "import json, test_judge_golden as g; print(json.dumps(g.judgement('accuracy', 8)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=True,
        env={"OPENBLAS_CORETYPE": kernels, "OPENBLAS_NUM_THREADS": "2", "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert json.loads(done.stdout) == json.loads(GOLDEN.read_text())[0]


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps([judgement(*one) for one in ROUNDS], indent=1) + "\n")
