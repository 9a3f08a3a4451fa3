"""Encrypted tensors: packed Paillier ciphertexts of a (rows, outputs) integer matrix with a public scale and bound.

Every row has ciphertexts of its own, or `stride` rows share one. A gradient's rows do where they fit, because whatever
is done with a ciphertext then serves them all. A model's do not, because its rows are mapped one by one, but their
outputs already lie `stride` slots apart, so that the rows of the gradient can be stacked.

The bound is the largest magnitude that any slot can hold. Every operation tracks it and raises before it computes
anything that could overflow a slot.
"""

from dataclasses import dataclass, replace

from sonar.syft.engines import Engine, Progress, get_engine
from sonar.syft.errors import CiphertextError, EncodingOverflowError, PublicKeyError
from sonar.syft.keys import Obfuscator, PublicKey
from sonar.syft.packing import Integers, Layout, largest_magnitude, raw_pack

__all__ = ["EncryptedTensor", "check_ciphertexts", "encrypt", "rerandomise"]


@dataclass(frozen=True, slots=True)
class EncryptedTensor:
    """Ciphertexts of layout.plaintexts(shape[0]) packed plaintexts, row after row.

    `scale` is the number of fractional bits, `bound` the largest magnitude of an encoded value; `stride` and
    `rows_per_plaintext` are those of the layout. Raises EncodingOverflowError where the bound does not fit a slot, or
    the rows not a plaintext, and CiphertextError for a wrong number of ciphertexts; whether they are ciphertexts at all
    is for `check_ciphertexts`.
    """

    key: PublicKey
    ciphertexts: tuple[int, ...]
    shape: tuple[int, int]
    slot_width: int
    scale: int
    bound: int
    stride: int = 1
    rows_per_plaintext: int = 1

    def __post_init__(self) -> None:
        count = self.layout.plaintexts(self.shape[0])
        if self.shape[0] < 1 or len(self.ciphertexts) != count:
            raise CiphertextError(
                f"a tensor of shape {self.shape} needs {count} ciphertexts, not {len(self.ciphertexts)}"
            )
        if self.scale < 0 or self.bound < 0:
            raise EncodingOverflowError(f"scale {self.scale} and bound {self.bound} must not be negative")
        check_bound(self.bound, self.slot_width)

    def __repr__(self) -> str:
        return (
            f"EncryptedTensor({self.key!r}, shape={self.shape}, slot_width={self.slot_width}, scale={self.scale}, "
            f"bound={self.bound}, stride={self.stride}, rows_per_plaintext={self.rows_per_plaintext})"
        )

    @property
    def layout(self) -> Layout:
        """How the rows are packed."""
        return Layout(self.key.bits, self.slot_width, self.shape[1], self.stride, self.rows_per_plaintext)


def check_bound(bound: int, slot_width: int) -> None:
    """Raises EncodingOverflowError unless signed values up to `bound` fit slots of this width."""
    if slot_width < 2:
        raise EncodingOverflowError(f"slots of {slot_width} bits hold no value and its sign: give a wider slot_width")
    if bound >= 1 << (slot_width - 1):
        raise EncodingOverflowError(
            f"values up to {bound.bit_length()} bits and a sign do not fit slots of {slot_width} bits: use a larger "
            "slot_width or smaller scales"
        )


def check_unstacked(tensor: EncryptedTensor) -> None:
    """Raises CiphertextError unless every row has ciphertexts of its own."""
    if tensor.rows_per_plaintext != 1:
        raise CiphertextError(
            f"{tensor.rows_per_plaintext} rows of {tensor!r} share a ciphertext: give a tensor that is not stacked"
        )


def check_obfuscator(obfuscator: Obfuscator, key: PublicKey) -> None:
    """Raises PublicKeyError unless the obfuscator was made for this key."""
    if obfuscator.key != key:
        raise PublicKeyError(f"the obfuscator is for {obfuscator.key!r}, not {key!r}: make one for this key")


def encrypt(
    values: Integers,
    key: PublicKey,
    obfuscator: Obfuscator,
    *,
    slot_width: int,
    scale: int,
    bound: int,
    stride: int = 1,
    rows_per_plaintext: int = 1,
    progress: Progress | None = None,
) -> EncryptedTensor:
    """Encrypts integers (rows, outputs) of magnitude up to `bound`, which are numbers times 2^scale.

    Raises EncodingOverflowError for a value above the bound, a bound that does not fit a slot, or rows that do not fit
    a plaintext.
    """
    if values.ndim != 2 or not values.size:
        raise CiphertextError(f"values of shape {values.shape} are not (rows, outputs) with at least one of each")
    check_obfuscator(obfuscator, key)
    check_bound(bound, slot_width)
    if largest_magnitude(values) > bound:
        raise EncodingOverflowError(
            f"a value of {largest_magnitude(values).bit_length()} bits is above the bound of {bound.bit_length()} "
            "bits: scale the values or raise the bound"
        )
    rows, outputs = values.shape
    plaintexts = raw_pack(values, Layout(key.bits, slot_width, outputs, stride, rows_per_plaintext))
    ciphertexts = tuple(obfuscator.raw_encrypt(plaintexts, progress=progress))
    return EncryptedTensor(key, ciphertexts, (rows, outputs), slot_width, scale, bound, stride, rows_per_plaintext)


def rerandomise(
    tensor: EncryptedTensor, obfuscator: Obfuscator, *, progress: Progress | None = None
) -> EncryptedTensor:
    """The same values in fresh ciphertexts that cannot be linked to the old ones without the secret key."""
    check_obfuscator(obfuscator, tensor.key)
    return replace(tensor, ciphertexts=tuple(obfuscator.rerandomise(tensor.ciphertexts, progress=progress)))


def check_ciphertexts(tensor: EncryptedTensor, *, engine: Engine | str | None = None) -> None:
    """Raises CiphertextError unless every ciphertext c has 0 < c < n^2 and is coprime to n."""
    get_engine(engine).check(tensor.ciphertexts, tensor.key.n)
