"""A committee's joined signature: of enough members, each once, in one form only."""

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from sonar.protocol.committee import join_signatures, verify_joined
from sonar.protocol.errors import SignatureError
from sonar.units import Address, digest_of

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
MEMBERS = [Account.from_key(bytes([1 + i]) * 32) for i in range(4)]
ADDRESSES = [Address(member.address) for member in MEMBERS]
STRANGER = Account.from_key(b"\x77" * 32)
DIGEST = digest_of(b"what is signed")


def signed(*accounts, digest=DIGEST):
    return {Address(account.address): bytes(account.unsafe_sign_hash(digest).signature) for account in accounts}


def twin(signature: bytes) -> bytes:
    """The other signature of the same account over the same digest: s mirrored at the curve's order, v flipped."""
    s = ORDER - int.from_bytes(signature[32:64])
    return signature[:32] + s.to_bytes(32) + bytes([55 - signature[64]])


@given(chosen=st.permutations(range(4)).flatmap(lambda order: st.integers(1, 4).map(lambda size: order[:size])),
       threshold=st.integers(1, 4))  # fmt: skip
def test_a_joined_signature_verifies_if_enough_members_signed_in_whatever_order(chosen, threshold):
    joined = join_signatures(signed(*(MEMBERS[i] for i in chosen)))
    assert len(joined) == 65 * len(chosen)
    if len(chosen) >= threshold:
        verify_joined(DIGEST, joined, ADDRESSES, threshold)
    else:
        with pytest.raises(SignatureError, match=f"{len(joined)} bytes are not {threshold} or more signatures"):
            verify_joined(DIGEST, joined, ADDRESSES, threshold)


def test_a_members_signature_counts_once():
    (one,) = signed(MEMBERS[0]).values()
    with pytest.raises(SignatureError, match="stands twice"):
        verify_joined(DIGEST, one + one, ADDRESSES, 2)


def test_signatures_in_another_order_are_refused():
    first, second = (part for _, part in sorted(signed(*MEMBERS[:2]).items(), key=lambda item: int(item[0], 16)))
    verify_joined(DIGEST, first + second, ADDRESSES, 2)
    with pytest.raises(SignatureError, match="not in the order"):
        verify_joined(DIGEST, second + first, ADDRESSES, 2)


def test_a_strangers_signature_spoils_those_of_enough_members():
    joined = join_signatures(signed(*MEMBERS[:3], STRANGER))
    with pytest.raises(SignatureError, match=f"{STRANGER.address}, who signed, is not a member"):
        verify_joined(DIGEST, joined, ADDRESSES, 2)


def test_signatures_of_another_digest_are_refused():
    joined = join_signatures(signed(*MEMBERS[:2], digest=digest_of(b"something else")))
    with pytest.raises(SignatureError, match="is not a member"):
        verify_joined(DIGEST, joined, ADDRESSES, 2)


@pytest.mark.parametrize(
    "spoil",
    [
        twin,
        lambda part: bytes(65),
        lambda part: b"\xff" * 65,
        lambda part: part[:64] + b"\x00",
        lambda part: part[:64] + b"\x1d",
        lambda part: bytes(32) + part[32:],
        lambda part: part[:32] + bytes(32) + part[64:],
        lambda part: ORDER.to_bytes(32) + part[32:],
    ],
    ids=["twin", "zeros", "ones", "v 0", "v 29", "r 0", "s 0", "r of the order"],
)
def test_a_signature_in_another_form_is_refused(spoil):
    (one,) = signed(MEMBERS[0]).values()
    verify_joined(DIGEST, one, ADDRESSES, 1)
    with pytest.raises(SignatureError):
        verify_joined(DIGEST, spoil(one), ADDRESSES, 1)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_signatures_raise_the_documented_error(data):
    with pytest.raises(SignatureError):
        verify_joined(DIGEST, data, ADDRESSES, 1)


def test_what_cannot_be_joined_is_refused():
    (address, one), *_ = signed(MEMBERS[0]).items()
    with pytest.raises(SignatureError, match="64 bytes are not a signature"):
        join_signatures({address: one[:64]})
    with pytest.raises(SignatureError, match="signed twice"):
        join_signatures({address: one, Address(address.lower()): one})


@pytest.mark.parametrize("threshold", [0, -1, 1])
def test_no_signatures_are_never_enough(threshold):
    with pytest.raises(SignatureError):
        verify_joined(DIGEST, join_signatures({}), ADDRESSES, threshold)
