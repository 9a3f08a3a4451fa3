"""The product of a round: the next model under the round's key, which anyone can recompute from public artifacts.

With a settlement's exponent e and weights a, row i is c_i^(2^(f + e)) times the product over gradients of g_i^a, which
encrypts (W 2^(f + e) + sum a g) at scale 2^(scale + f + e): the model plus the weighted gradients / 2^e.
"""

from collections.abc import Sequence

from sonar.syft.engines import Engine, get_engine
from sonar.syft.errors import CiphertextError
from sonar.syft.tensor import EncryptedTensor, check_bound

__all__ = ["product"]


def product(
    model: EncryptedTensor,
    gradients: Sequence[EncryptedTensor],
    weights: Sequence[int],
    exponent: int,
    *,
    engine: Engine | str | None = None,
) -> EncryptedTensor:
    """model + sum of weights[j] * gradients[j] / 2^exponent, at scale gradient.scale + exponent.

    Deterministic: the same artifacts give the same ciphertexts. Not re-randomised, because all that goes in is public.
    Raises CiphertextError for tensors that do not belong together and EncodingOverflowError, before anything is
    computed, where a slot could overflow.
    """
    if not gradients or len(gradients) != len(weights) or min(weights) < 0 or exponent < 0:
        raise CiphertextError(
            f"{len(gradients)} gradients, weights {list(weights)} and exponent {exponent} make no product: give one "
            "weight, not negative, for each of at least one gradient"
        )
    scale = gradients[0].scale
    for index, gradient in enumerate(gradients):
        same = (gradient.key, gradient.shape, gradient.slot_width) == (model.key, model.shape, model.slot_width)
        if not same or gradient.scale != scale or scale < model.scale:
            raise CiphertextError(f"gradient {index}, {gradient!r}, does not belong to the model {model!r}")
    shift = scale - model.scale + exponent
    bound = (model.bound << shift) + sum(w * g.bound for w, g in zip(weights, gradients, strict=True))
    check_bound(bound, model.slot_width)
    kept = [(weight, gradient.ciphertexts) for weight, gradient in zip(weights, gradients, strict=True) if weight]
    factors, exponents = [model.ciphertexts, *(f for _, f in kept)], [1 << shift, *(w for w, _ in kept)]
    ciphertexts = tuple(get_engine(engine).weighted_products(factors, exponents, model.key.n))
    return EncryptedTensor(model.key, ciphertexts, model.shape, model.slot_width, scale + exponent, bound)
