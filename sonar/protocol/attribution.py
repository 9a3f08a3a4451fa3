"""How a campaign's model splits by mines: each one's share of what it predicts, or what each added to its weights.

    model = start + the mines' parts + rounding

exactly, in integers at one scale: a mine's part is the sum of a_i g_i over its gradients that were kept, and each round
is rounded to the weights' own scale, by half a unit of theirs at most.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Final

import numpy as np
import numpy.typing as npt
from eth_utils.address import is_checksum_address, to_checksum_address
from pydantic import Field, ValidationError
from safetensors.numpy import save

from sonar import canonical
from sonar.protocol._strict import Strict
from sonar.protocol.errors import ProtocolError
from sonar.protocol.payloads import load_tensors
from sonar.protocol.spec import Spec
from sonar.units import PPM, Address

__all__ = [
    "PAGE_BYTES", "SHARE_STEP", "Parts", "Shares", "decode_parts", "decode_shares", "encode_parts", "encode_shares",
    "in_page",
]  # fmt: skip

BigInts = npt.NDArray[Any]
"""Python integers in an object array."""
Ints = npt.NDArray[np.int64]

PAGE_BYTES: Final = 8 << 20
"""How many bytes of parts come at once, where one mine's are not more."""
SHARE_STEP: Final = 1_000
"""Shares are told to a thousandth: each is an answer about a mine's part, and finer ones would soon add up to it.

Where the sizes of all parts together are n times what they sum to, shares are told to n thousandths, for the same
reason: what the parts sum to is up to every mine.
"""
_HALF: Final = 62
"""A part's integers are written as high * 2^62 + low."""
_MAX_SHARES_BYTES: Final = 32 << 20
_LARGEST_SCALE: Final = 200


class _Share(Strict):
    mine: Annotated[str, Field(max_length=42)]
    ppm: int


class _Shares(Strict):
    mines: Annotated[tuple[_Share, ...], Field(strict=False)]
    rounding: int


@dataclass(frozen=True, slots=True)
class Shares:
    """What of the model's movement each mine's part is, in ppm, whole thousands; with `rounding` they sum to 1,000,000.

    m_n is what the campaign added to the class scores of the validation record n, p_in what the mine's part added; its
    share is the sum of <p_in, m_n> over the sum of <m_n, m_n>. One that moved the model elsewhere has a negative one.
    `rounding` is what the weights' and the shares' own rounding make.
    A campaign that no round advanced has none, and a rounding of 0.
    """

    mines: tuple[tuple[Address, int], ...]
    rounding: int


@dataclass(frozen=True, slots=True)
class Parts:
    """A page of parts: what each of `accounts` added to the weights, as integers (rows, outputs) at 2^scale.

    The accounts are in ascending order. `mines` is how many there are in all, `versions` how many rounds advanced, each
    of which rounded every weight once; `start` are the integers of the start model, at the spec's 2^weight_bits.
    """

    start: Ints
    scale: int
    versions: int
    mines: int
    accounts: tuple[Address, ...]
    values: tuple[BigInts, ...]


def in_page(spec: Spec) -> int:
    """How many mines' parts come at once."""
    rows, outputs = spec.shape
    return max(1, PAGE_BYTES // (16 * rows * outputs))


def encode_shares(shares: Shares) -> bytes:
    """The canonical bytes of shares."""
    mines = [{"mine": mine, "ppm": ppm} for mine, ppm in shares.mines]
    return canonical.dumps({"mines": mines, "rounding": shares.rounding})


def decode_shares(data: bytes) -> Shares:
    """The shares in untrusted bytes; raises ProtocolError for any that are none, or do not sum to 1,000,000."""
    if len(data) > _MAX_SHARES_BYTES:
        raise ProtocolError(f"shares of {len(data)} bytes are above the limit of {_MAX_SHARES_BYTES}")
    try:
        found = _Shares.model_validate(canonical.loads(data))
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        raise ProtocolError(f"the mines' shares are not valid: {problem['msg']}") from error
    except ValueError as error:
        raise ProtocolError(f"the mines' shares cannot be read: {error}") from error
    mines = tuple((Address(one.mine), one.ppm) for one in found.mines)
    _check_accounts([mine for mine, _ in mines])
    total = found.rounding + sum(ppm for _, ppm in mines)
    if total != (PPM if mines else 0):
        raise ProtocolError(f"the mines' shares and the rounding's sum to {total}, not {PPM} ppm")
    if any(ppm % SHARE_STEP for _, ppm in mines):
        raise ProtocolError(f"a mine's share is no multiple of {SHARE_STEP} ppm, which this version tells")
    return Shares(mines, found.rounding)


def encode_parts(parts: Parts) -> bytes:
    """The bytes of a page of parts; raises ValueError for integers of more than 125 bits."""
    shape = (len(parts.values), *parts.start.shape)
    values = np.array(parts.values, dtype=object).reshape(shape)
    if any(abs(value) >> 2 * _HALF for value in values.ravel().tolist()):
        raise ValueError(f"a part holds an integer of more than {2 * _HALF} bits")
    accounts = np.frombuffer(b"".join(bytes.fromhex(one[2:]) for one in parts.accounts), dtype=np.uint8)
    return save({
        "accounts": accounts.reshape(-1, 20).copy(),
        "high": (values >> _HALF).astype(np.int64),
        "low": (values & ((1 << _HALF) - 1)).astype(np.int64),
        "numbers": np.array([parts.scale, parts.versions, parts.mines], dtype=np.int64),
        "start": np.ascontiguousarray(parts.start, dtype=np.int64),
    })  # fmt: skip


def decode_parts(data: bytes, spec: Spec) -> Parts:
    """A page of parts in untrusted bytes; raises ProtocolError for what is none of this spec's model."""
    kinds: dict[str, type] = {
        "accounts": np.uint8,
        "high": np.int64,
        "low": np.int64,
        "numbers": np.int64,
        "start": np.int64,
    }
    tensors = load_tensors(data, "mines' parts", kinds)
    accounts, high, low = tensors["accounts"], tensors["high"], tensors["low"]
    count = len(accounts) if accounts.ndim else 0
    shapes = accounts.shape, high.shape, low.shape, tensors["numbers"].shape, tensors["start"].shape
    if shapes != ((count, 20), (count, *spec.shape), (count, *spec.shape), (3,), spec.shape):
        raise ProtocolError(f"the mines' parts have shapes {shapes}, which are not of weights {spec.shape}")
    scale, versions, mines = (int(number) for number in tensors["numbers"])
    if not spec.encoding.gradient_scale <= scale <= _LARGEST_SCALE or versions < 0 or mines < count:
        raise ProtocolError(f"parts at scale 2^{scale} of {mines} mines in {versions} rounds are none of a campaign")
    outside = [(low, 0, (1 << _HALF) - 1), (high, -(1 << _HALF), (1 << _HALF) - 1)]
    if count and any(some.min() < least or some.max() > most for some, least, most in outside):
        raise ProtocolError("the mines' parts hold integers in another form than this version writes")
    start, bound = tensors["start"], spec.encoding.weight_bound
    if start.min() < -bound or start.max() > bound:
        raise ProtocolError("the start model of the mines' parts has a weight outside the spec's bound")
    names = tuple(Address(to_checksum_address(account.tobytes())) for account in accounts)
    _check_accounts(names)
    values = tuple((one.astype(object) << _HALF) + other.astype(object) for one, other in zip(high, low, strict=True))
    return Parts(start, scale, versions, mines, names, values)


def _check_accounts(accounts: Sequence[Address]) -> None:
    if any(not is_checksum_address(account) for account in accounts):
        raise ProtocolError("a mine is named by what is no checksummed (EIP-55) address")
    if any(one.lower() >= other.lower() for one, other in pairwise(accounts)):
        raise ProtocolError("the mines are not in ascending order of their accounts, each once")
