"""The homomorphic affine map: Enc(change) = (A - I) Enc(W) + B, always re-randomised.

With Q = round((A - I) 2^f), output row i is the product over k of c_k^(Q_ik), times an encryption of B_i. Rows are
stacked before B is added and the result re-randomised, so both are done once for all rows of a ciphertext.
"""

from dataclasses import replace
from typing import Final

from sonar.syft.encoding import encode
from sonar.syft.engines import MAX_MAP_BITS, Progress
from sonar.syft.errors import CiphertextError, EncodingOverflowError
from sonar.syft.keys import Obfuscator
from sonar.syft.packing import Integers, largest_magnitude, raw_pack
from sonar.syft.plan import MapPlan, plan_map
from sonar.syft.product import raw_products
from sonar.syft.progress import span
from sonar.syft.tensor import EncryptedTensor, check_bound, check_obfuscator, check_unstacked
from sonar.syft.training import AffineMap

__all__ = ["apply_map"]

_MOST_BITS: Final = MAX_MAP_BITS - 16
"""Entries of a map are below 2^16, and an engine takes exponents of MAX_MAP_BITS."""


def apply_map(
    affine: AffineMap,
    model: EncryptedTensor,
    *,
    map_bits: int,
    factor_bits: int = 0,
    gradient_bound: int,
    obfuscator: Obfuscator,
    progress: Progress | None = None,
) -> EncryptedTensor:
    """The encrypted gradient (features, outputs) = change * model + constant.

    `change` is rounded to `map_bits` fractional bits, or computed in two thin factors that are no less exact together
    where the `factor_bits` more that the result has let this be cheaper (`sonar.syft.plan`): its scale is model.scale +
    map_bits + factor_bits. `gradient_bound` is the public bound that the result declares, whatever the data, so that it
    says nothing about them. model.stride of its rows share a ciphertext. The result is always re-randomised: without
    that, whoever guesses the data can test the guess. Raises EncodingOverflowError, before anything is computed, where
    the model's bound allows a result above `gradient_bound`.
    """
    features, outputs = model.shape
    if affine.change.shape != (features, features) or affine.constant.shape != (features, outputs):
        raise CiphertextError(
            f"a map with change {affine.change.shape} and constant {affine.constant.shape} does not fit a model of "
            f"shape {model.shape}"
        )
    if not (0 <= map_bits <= _MOST_BITS and 0 <= factor_bits <= _MOST_BITS):
        raise EncodingOverflowError(
            f"a map of {map_bits} and {factor_bits} more fractional bits cannot be computed: use 0 to {_MOST_BITS} of "
            "each"
        )
    check_obfuscator(obfuscator, model.key)
    check_unstacked(model)
    layout = replace(model.layout, rows_per_plaintext=model.stride)
    check_bound(gradient_bound, model.slot_width)
    scale = model.scale + map_bits + factor_bits
    plan = plan_map(affine.change, map_bits, factor_bits, norm=affine.norm)
    constant = encode(affine.constant, scale, gradient_bound)
    _check_rows(plan, constant, model.bound, gradient_bound)
    engine, n, blocks = obfuscator.engine, model.key.n, model.layout.blocks
    # How much of the work is the map depends on the engine; that a caller sees it go on is what counts.
    mapping, stacking, hiding = span(progress, 0, 0.7), span(progress, 0.7, 0.85), span(progress, 0.85, 1)
    gradient = [0] * len(model.ciphertexts)
    for block in range(blocks):
        gradient[block::blocks] = plan.apply(
            engine, model.ciphertexts[block::blocks], n, span(mapping, block / blocks, (block + 1) / blocks)
        )
    gradient = raw_products(engine, *layout.stacking(gradient), n, stacking)
    gradient = engine.add_plaintexts(gradient, raw_pack(constant, layout), n)
    gradient = obfuscator.rerandomise(gradient, progress=hiding)
    return replace(
        model, ciphertexts=tuple(gradient), scale=scale, bound=gradient_bound, rows_per_plaintext=model.stride
    )


def _check_rows(plan: MapPlan, constant: Integers, model_bound: int, gradient_bound: int) -> None:
    largest = max(r * model_bound + largest_magnitude(row) for r, row in zip(plan.reach, constant, strict=True))
    if largest > gradient_bound:
        raise EncodingOverflowError(
            f"the gradient could reach {largest.bit_length()} bits, but its bound has {gradient_bound.bit_length()}: "
            "the campaign's gradient_bound_bits are too few for these data"
        )
