"""Fixed point: a real number w is the integer round(w * 2^bits), with one public scale for a whole tensor.

Per-value exponents, as python-paillier has them, would tell magnitudes and zeros to everyone.
"""

import numpy as np
import numpy.typing as npt

from sonar.syft.errors import EncodingOverflowError
from sonar.syft.packing import Integers, largest_magnitude

__all__ = ["Floats", "decode", "encode"]

Floats = npt.NDArray[np.float64]
_INT64_BITS = 62


def encode(values: Floats, bits: int, bound: int) -> Integers:
    """Integers round(values * 2^bits), half to even, of any shape, with magnitudes up to `bound`.

    int64 where `bound` fits 62 bits, else Python integers. Raises EncodingOverflowError for a value that is not finite
    or above the bound.
    """
    with np.errstate(over="ignore"):
        scaled = np.rint(np.ldexp(np.asarray(values, dtype=np.float64), bits))
    if not np.isfinite(scaled).all():
        raise EncodingOverflowError(f"a value is not finite at scale 2^{bits}: remove NaN and infinities first")
    # A float of 63 bits or more would wrap in int64; compared as a float it is far above every int64 bound.
    fits = bound.bit_length() <= _INT64_BITS and (not scaled.size or float(np.abs(scaled).max()) < 2.0**_INT64_BITS)
    integers: Integers = scaled.astype(np.int64) if fits else _objects(scaled)
    largest = largest_magnitude(integers)
    if largest > bound:
        raise EncodingOverflowError(
            f"a value of magnitude {largest / 2**bits:.6g} is above the bound {bound / 2**bits:.6g}: scale the data "
            "or raise the bound"
        )
    return integers


def decode(values: Integers, bits: int) -> Floats:
    """The float64 numbers values / 2^bits, correctly rounded."""
    return np.asarray(np.asarray(values, dtype=object) / (1 << bits), dtype=np.float64)


def _objects(scaled: Floats) -> Integers:
    return np.array([int(value) for value in scaled.ravel()], dtype=object).reshape(scaled.shape)
