"""A committee's signature: its members' signatures, joined, and verified off chain as its contract does on chain.

Members sign the same digests as a Capsule that works alone (`hash_admission`, `hash_settlement`). Joined, their
signatures stand one after the other, 65 bytes each (r, s, v), in ascending order of their signers' addresses.
"""

from collections.abc import Collection, Mapping
from itertools import pairwise

from eth_keys.datatypes import Signature
from eth_keys.exceptions import BadSignature
from eth_utils.exceptions import ValidationError

from sonar.protocol.errors import SignatureError
from sonar.units import Address

__all__ = ["join_signatures", "verify_joined"]

_LENGTH = 65
_LARGEST_S = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
"""Half the order of secp256k1. Every signature has a twin with a larger s, which contracts refuse."""


def join_signatures(signatures: Mapping[Address, bytes]) -> bytes:
    """The joined signature of those who signed; raises SignatureError for one that is not of its form, or twice there.

    Whether the signatures are their signers' own is for `verify_joined`.
    """
    ascending = sorted(signatures, key=_order)
    for before, signer in pairwise(ascending):
        if _order(before) == _order(signer):
            raise SignatureError(f"member {signer} signed twice: a committee counts each member once")
    for signer in ascending:
        if len(signatures[signer]) != _LENGTH:
            raise SignatureError(
                f"{len(signatures[signer])} bytes are not a signature of {signer}: it has {_LENGTH}, as r, s and v"
            )
    return b"".join(signatures[signer] for signer in ascending)


def verify_joined(digest: bytes, signature: bytes, members: Collection[Address], threshold: int) -> None:
    """Raises SignatureError unless at least `threshold` different members signed the 32-byte digest.

    It takes what a `CapsuleCommittee` of these members takes, and nothing else: ascending signers, none of them a
    stranger, no signature that is not valid.
    """
    count, rest = divmod(len(signature), _LENGTH)
    if rest or count < max(threshold, 1):
        raise SignatureError(f"{len(signature)} bytes are not {threshold} or more signatures of {_LENGTH} bytes")
    known = {_order(member) for member in members}
    previous = 0
    for start in range(0, len(signature), _LENGTH):
        signer = _recover(digest, signature[start : start + _LENGTH])
        if _order(signer) not in known:
            raise SignatureError(f"{signer}, who signed, is not a member of the committee")
        if _order(signer) <= previous:
            raise SignatureError(f"the signature of {signer} stands twice, or not in the order of addresses")
        previous = _order(signer)


def _order(address: str) -> int:
    return int(address, 16)


def _recover(digest: bytes, signature: bytes) -> Address:
    """The account that signed, of the one form that contracts take."""
    r, s, v = int.from_bytes(signature[:32]), int.from_bytes(signature[32:64]), signature[64]
    if v not in (27, 28) or s > _LARGEST_S:
        raise SignatureError(f"0x{signature.hex()} is not a signature in the form that contracts take")
    try:
        key = Signature(vrs=(v - 27, r, s)).recover_public_key_from_msg_hash(digest)
    except (BadSignature, ValidationError) as error:
        raise SignatureError(f"0x{signature.hex()} is not a signature: {error}") from error
    return Address(key.to_checksum_address())
