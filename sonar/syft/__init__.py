"""Encrypted linear models: Paillier, fixed point, packed tensors, training as one affine map, and their wire format.

Below, integers (`raw_*`); above, floats and tensors. Nothing here holds or needs a secret key, and nothing here knows
a chain, a content store or HTTP.

    weights (features, outputs) --encode--> integers --raw_pack--> plaintexts --encrypt--> EncryptedTensor
    a mine's records --FeatureMap, Schedule--> AffineMap --apply_map--> EncryptedTensor, the gradient
    a round's gradients --product--> EncryptedTensor, the next model

Errors:

    SyftError
    |-- PublicKeyError         a modulus that is too small, too big, even, or not the one that was meant
    |-- EncodingOverflowError  a value or a result that would not fit its slot, raised before anything is computed
    |-- CiphertextError        ciphertexts that are not in the group, do not match, or decrypt to stray bits
    |-- WireFormatError        bytes that are not a canonical artifact
    `-- TrainingError          records or a schedule from which no map can be made
    EngineError                an engine that is unknown or cannot work on this machine: nobody's data are at fault

References:

    P. Paillier, Public-key cryptosystems based on composite degree residuosity classes, EUROCRYPT 1999
    I. Damgard, M. Jurik, J. B. Nielsen, A generalization of Paillier's public-key system with applications to
        electronic voting, International Journal of Information Security 9 (2010)
    C. H. Lim, P. J. Lee, More flexible exponentiation with precomputation, CRYPTO 1994
"""

from sonar.syft.encoding import decode, encode
from sonar.syft.engines import Engine, Progress, get_engine
from sonar.syft.epoch import Epoch
from sonar.syft.errors import (
    CiphertextError,
    EncodingOverflowError,
    EngineError,
    PublicKeyError,
    SyftError,
    TrainingError,
    WireFormatError,
)
from sonar.syft.features import FeatureMap, Identity, Polynomial, RandomFourier
from sonar.syft.keys import MAX_KEY_BITS, MIN_KEY_BITS, Obfuscator, PublicKey
from sonar.syft.map import apply_map
from sonar.syft.packing import Layout, raw_pack, raw_unpack, rows_that_fit
from sonar.syft.product import product
from sonar.syft.schedule import Schedule
from sonar.syft.statistics import Statistics
from sonar.syft.tensor import EncryptedTensor, check_ciphertexts, encrypt, rerandomise
from sonar.syft.training import AffineMap, Loss, training_map
from sonar.syft.wire import (
    dump_gradient,
    dump_model,
    dump_product,
    gradient_size_limit,
    load_gradient,
    load_model,
    load_product,
    model_size_limit,
)

__all__ = [
    "MAX_KEY_BITS", "MIN_KEY_BITS", "AffineMap", "CiphertextError", "EncodingOverflowError", "EncryptedTensor",
    "Engine", "EngineError", "Epoch", "FeatureMap", "Identity", "Layout", "Loss", "Obfuscator", "Polynomial",
    "Progress", "PublicKey", "PublicKeyError", "RandomFourier", "Schedule", "Statistics", "SyftError",
    "TrainingError", "WireFormatError", "apply_map", "check_ciphertexts", "decode", "dump_gradient", "dump_model",
    "dump_product", "encode", "encrypt", "get_engine", "gradient_size_limit", "load_gradient", "load_model",
    "load_product", "model_size_limit", "product", "raw_pack", "raw_unpack", "rerandomise", "rows_that_fit",
    "training_map",
]  # fmt: skip
