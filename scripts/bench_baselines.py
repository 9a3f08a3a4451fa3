"""What the benchmark compares with: python-paillier as it is used without Sonar, and CKKS by TenSEAL."""

from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import numpy.typing as npt
from phe import EncodedNumber, EncryptedNumber, PaillierPublicKey

Floats = npt.NDArray[np.float64]
RATE = 0.01
MISSING_TENSEAL = "TenSEAL is not installed: .venv/bin/pip install -c constraints.txt -e '.[bench]'"


def train_per_sample(
    key: PaillierPublicKey, weights: list[list[EncryptedNumber]], design: Floats, targets: Floats,
    precision: float | None,
) -> None:  # fmt: skip
    """Stochastic gradient descent on encrypted weights [feature][output], in place, with python-paillier's operators.

    This is how the platform of 2017 trained: for every sample the encrypted prediction, the encrypted residual, and an
    update of every weight. Floats become plaintexts as python-paillier makes them, exactly or to a `precision`.
    """

    def encoded(value: float) -> EncodedNumber:
        return EncodedNumber.encode(key, float(value), precision=precision)

    outputs = range(len(weights[0]))
    for sample, target in zip(design, targets, strict=True):
        inputs, steps = [encoded(x) for x in sample], [encoded(RATE * x) for x in sample]
        for output in outputs:
            prediction = weights[0][output] * inputs[0]
            for row, x in zip(weights[1:], inputs[1:], strict=True):
                prediction += row[output] * x
            residual = float(target[output]) - prediction
            for row, step in zip(weights, steps, strict=True):
                row[output] += residual * step


def encrypted_weights(key: PaillierPublicKey, weights: Floats, precision: float | None) -> list[list[EncryptedNumber]]:
    """One python-paillier number for every weight, [feature][output]."""
    return [[key.encrypt(float(weight), precision=precision) for weight in row] for row in weights]


def packed_rows(key: PaillierPublicKey, ciphertexts: Sequence[int], rows: npt.NDArray[np.int64]) -> list[int]:
    """Rows of the affine map on packed ciphertexts, one multiplication and one addition of python-paillier each."""
    numbers = [EncryptedNumber(key, ciphertext, 0) for ciphertext in ciphertexts]
    results = []
    for row in rows.tolist():
        total = numbers[0] * row[0]
        for encrypted, factor in zip(numbers[1:], row[1:], strict=True):
            total += encrypted * factor
        results.append(int(total.ciphertext(be_secure=False)))
    return results


def ckks_map(weights: Floats, change: Floats) -> tuple[Callable[[], list[Any]], Callable[[list[Any]], Floats]]:
    """Two functions: one maps the encrypted weights, a CKKS vector for every output, the other decrypts the result.

    Polynomials of degree 8192, coefficient moduli of 60, 40, 40 and 60 bits, scale 2^40: 128 bits of security.
    """
    import tenseal

    context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, 8192, coeff_mod_bit_sizes=[60, 40, 40, 60])
    context.global_scale = 2.0**40
    context.generate_galois_keys()
    vectors = [tenseal.ckks_vector(context, column) for column in weights.T.tolist()]
    matrix = change.T.tolist()
    return (
        lambda: [vector.matmul(matrix) for vector in vectors],
        lambda results: np.array([result.decrypt() for result in results]).T,
    )


def has_tenseal() -> bool:
    """Whether TenSEAL is installed."""
    try:
        version("tenseal")
    except PackageNotFoundError:
        return False
    return True
