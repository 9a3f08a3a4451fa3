"""The product of a round: the next model under the round's key, which anyone can recompute from public artifacts.

With a settlement's exponent e and weights a, row i is c_i^(2^(f + e)) times the product over gradients of g_i^a, which
encrypts (W 2^(f + e) + sum a g) at scale 2^(scale + f + e): the model plus the weighted gradients / 2^e. Where the
gradients' rows are stacked, so is the product: the model's part of stack i is then the product over its rows j of
c_(s i + j)^(2^(f + e + w j)) with stride s and slot width w, which stacks and shifts them at once.
"""

from collections.abc import Sequence
from dataclasses import replace

from sonar.syft.engines import Engine, Progress, get_engine
from sonar.syft.errors import CiphertextError
from sonar.syft.progress import slices
from sonar.syft.tensor import EncryptedTensor, check_bound, check_unstacked

__all__ = ["product", "raw_products"]


def product(
    model: EncryptedTensor,
    gradients: Sequence[EncryptedTensor],
    weights: Sequence[int],
    exponent: int,
    *,
    engine: Engine | str | None = None,
    progress: Progress | None = None,
) -> EncryptedTensor:
    """model + sum of weights[j] * gradients[j] / 2^exponent, at scale gradient.scale + exponent.

    Deterministic: the same artifacts give the same ciphertexts. Not re-randomised, because all that goes in is public.
    The model has ciphertexts of its own for every row; gradients and product have `stride` rows in each.
    Raises CiphertextError for tensors that do not belong together and EncodingOverflowError, before anything is
    computed, where a slot could overflow.
    """
    if not gradients or len(gradients) != len(weights) or min(weights) < 0 or exponent < 0:
        raise CiphertextError(
            f"{len(gradients)} gradients, weights {list(weights)} and exponent {exponent} make no product: give one "
            "weight, not negative, for each of at least one gradient"
        )
    check_unstacked(model)
    scale, layout = gradients[0].scale, replace(model.layout, rows_per_plaintext=model.stride)
    for index, gradient in enumerate(gradients):
        same = (gradient.key, gradient.shape, gradient.layout) == (model.key, model.shape, layout)
        if not same or gradient.scale != scale or scale < model.scale:
            raise CiphertextError(f"gradient {index}, {gradient!r}, does not belong to the model {model!r}")
    shift = scale - model.scale + exponent
    bound = (model.bound << shift) + sum(w * g.bound for w, g in zip(weights, gradients, strict=True))
    check_bound(bound, model.slot_width)
    rows, steps = layout.stacking(model.ciphertexts)
    kept = [(weight, gradient.ciphertexts) for weight, gradient in zip(weights, gradients, strict=True) if weight]
    factors = [*rows, *(ciphertexts for _, ciphertexts in kept)]
    exponents = [*(step << shift for step in steps), *(weight for weight, _ in kept)]
    ciphertexts = tuple(raw_products(get_engine(engine), factors, exponents, model.key.n, progress))
    return replace(gradients[0], ciphertexts=ciphertexts, scale=scale + exponent, bound=bound)


def raw_products(
    engine: Engine,
    factors: Sequence[Sequence[int]],
    exponents: Sequence[int],
    n: int,
    progress: Progress | None = None,
) -> list[int]:
    """`Engine.weighted_products`, a slice at a time where somebody wants to know how far it is."""
    products: list[int] = []
    for part in slices(len(factors[0]), progress):
        products.extend(engine.weighted_products([list(column[part]) for column in factors], exponents, n))
    return products
