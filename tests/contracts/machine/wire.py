"""What goes over the wire, written by hand from the ABI and EIP-712: a million steps have no time for the libraries.

An address is an int, as every other word that is no hash.
"""

from functools import lru_cache
from typing import NamedTuple

from chains.accounts import account_key
from eth_keys.datatypes import PrivateKey
from eth_utils import keccak

__all__ = [
    "ZERO",
    "Admission",
    "Blob",
    "Call",
    "Entry",
    "Outcome",
    "Settlement",
    "Signer",
    "Terms",
    "admission_digest",
    "chained",
    "domain_separator",
    "encode",
    "seeded",
    "settlement_digest",
]

ZERO = bytes(32)

_CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


class Blob(bytes):
    """Bytes of any length; plain `bytes` are 32 of them."""


class Terms(NamedTuple):
    token: int
    bounty: int
    bond: int
    slash: int
    target: int
    payout_base: int
    min_gain: int
    min_mines: int
    round_size: int
    max_rounds: int
    round_seconds: int
    settlement_seconds: int
    deadline: int


class Admission(NamedTuple):
    spec: bytes
    model: bytes
    key: bytes
    sealing_key: bytes
    start_score: int
    oracle: int
    owner: int
    valid_until: int


class Entry(NamedTuple):
    mine: int
    artifact: bytes
    gradient: bytes


class Outcome(NamedTuple):
    verdict: int
    weight: int
    share: int


class Settlement(NamedTuple):
    campaign: bytes
    round: int
    head: bytes
    score: int
    exponent: int
    model: bytes
    key: bytes
    product: bytes
    model_cid: str
    product_cid: str
    outcomes: list[Outcome]


class Call(NamedTuple):
    """A call of the contract under test."""

    method: str
    arguments: tuple


def encode(*fields):
    """The ABI encoding of a list of values. Tuples are static structs, except settlements; lists are arrays."""
    head, dynamic, offset = [], [], 0
    for field in fields:
        if isinstance(field, _DYNAMIC):
            dynamic.append((len(head), _dynamic(field)))
            part = bytes(32)
        else:
            part = _static(field)
        head.append(part)
        offset += len(part)
    for place, data in dynamic:
        head[place] = offset.to_bytes(32, "big")
        head.append(data)
        offset += len(data)
    return b"".join(head)


_DYNAMIC = (str, Blob, list, Settlement)


def _static(field):
    kind = type(field)
    if kind is int or kind is bool:
        return field.to_bytes(32, "big")
    return field if kind is bytes else b"".join(map(_static, field))


def _dynamic(field):
    if isinstance(field, Settlement):
        return encode(*field)
    size = len(field).to_bytes(32, "big")
    if isinstance(field, list):
        return size + encode(*field)
    data = field.encode() if isinstance(field, str) else field
    return size + data + bytes(-len(data) % 32)


# ------------------------------------------------------------------------------------------------------ commitments


def seeded(campaign, number):
    """The head of an empty round."""
    return keccak(campaign + number.to_bytes(32, "big"))


def chained(head, entry):
    """The head after one more entry."""
    return keccak(head + _static(entry))


_DOMAIN = keccak(text="EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
_ADMISSION = keccak(
    text="Admission(bytes32 spec,bytes32 model,bytes32 key,bytes32 sealingKey,uint32 startScore,address oracle,"
    "address owner,uint40 validUntil)"
)
_OUTCOME_TYPE = "Outcome(uint8 verdict,uint32 weight,uint32 share)"
_OUTCOME = keccak(text=_OUTCOME_TYPE)
_SETTLEMENT = keccak(
    text="Settlement(bytes32 campaign,uint32 round,bytes32 head,uint32 score,uint8 exponent,bytes32 model,bytes32 key,"
    "bytes32 product,string modelCid,string productCid,Outcome[] outcomes)" + _OUTCOME_TYPE
)


def domain_separator(chain_id, contract):
    """The EIP-712 domain of a contract."""
    return keccak(encode(_DOMAIN, keccak(text="Sonar"), keccak(text="1"), chain_id, contract))


def admission_digest(domain, admission):
    """What an oracle signs to admit a model; the campaign's id."""
    return keccak(b"\x19\x01" + domain + keccak(_ADMISSION + _static(admission)))


@lru_cache(maxsize=4096)
def _outcome_hash(outcome):
    return keccak(_OUTCOME + _static(outcome))


def settlement_digest(domain, settlement):
    """What an oracle signs to settle a round."""
    *fixed, model_cid, product_cid, outcomes = settlement
    outcomes_hash = keccak(b"".join(map(_outcome_hash, outcomes)))
    strings = keccak(text=model_cid) + keccak(text=product_cid)
    return keccak(b"\x19\x01" + domain + keccak(_SETTLEMENT + _static(fixed) + strings + outcomes_hash))


class Signer:
    """An account that signs digests. Its nonce never changes, so anybody can compute its key: it signs for tests."""

    _NONCE = 0xC0FFEE
    _POINT = PrivateKey(_NONCE.to_bytes(32, "big")).public_key.to_bytes()
    _R, _ODD = int.from_bytes(_POINT[:32], "big"), _POINT[63] & 1
    _INVERSE = pow(_NONCE, -1, _CURVE_ORDER)

    def __init__(self, number):
        key = account_key(number)
        self.address = int.from_bytes(key.public_key.to_canonical_address(), "big")
        self._secret = int.from_bytes(key.to_bytes(), "big")

    def sign(self, digest, *, malleated=False):
        """r, s, v of a digest; with the other s, which recovers to the same account, when `malleated`."""
        s = self._INVERSE * (int.from_bytes(digest, "big") + self._R * self._secret) % _CURVE_ORDER
        odd = self._ODD
        if (s > _CURVE_ORDER // 2) != malleated:
            s, odd = _CURVE_ORDER - s, odd ^ 1
        return Blob(self._R.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([27 + odd]))
