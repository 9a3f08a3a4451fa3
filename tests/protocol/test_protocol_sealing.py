"""Sealed boxes: they open for their reader, only as what they were made for, and bad bytes raise one error."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.public import PublicKey, SealedBox

from sonar.protocol.errors import SealedBoxError
from sonar.protocol.sealing import OVERHEAD, BoxContext, Purpose, SealingKeyPair, open_box, open_box_for, seal
from sonar.units import Address

PAIR = SealingKeyPair.generate()
CONTEXT = BoxContext(Purpose.GRADIENT, 1337, Address("0x" + "aa" * 20), Address("0x" + "bb" * 20), "cc" * 32, 7)


@given(st.binary(max_size=5000))
def test_a_box_gives_back_what_was_sealed(payload):
    box = seal(payload, CONTEXT, PAIR.public)
    assert open_box(box, PAIR) == (CONTEXT, payload)
    assert len(box) <= len(payload) + OVERHEAD


@pytest.mark.parametrize(
    "change",
    [
        {"purpose": Purpose.VALIDATION},
        {"chain_id": 1},
        {"contract": Address("0x" + "ab" * 20)},
        {"account": Address("0x" + "ba" * 20)},
        {"subject": "cd" * 32},
        {"round": 8},
    ],
)
def test_a_box_made_for_anything_else_is_refused(change):
    box = seal(b"gradient", CONTEXT, PAIR.public)
    with pytest.raises(SealedBoxError, match="a copied box is worth nothing"):
        open_box_for(box, PAIR, replace(CONTEXT, **change))


def test_a_box_for_another_key_does_not_open():
    with pytest.raises(SealedBoxError, match="sealed to another key"):
        open_box(seal(b"", CONTEXT, SealingKeyPair.generate().public), PAIR)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_box_raise_the_documented_error(data):
    with pytest.raises(SealedBoxError):
        open_box(data, PAIR)


@given(st.binary(max_size=300))
def test_a_box_with_any_other_plaintext_raises_the_documented_error(plaintext):
    box = SealedBox(PublicKey(PAIR.public)).encrypt(plaintext)
    with pytest.raises(SealedBoxError):
        open_box(box, PAIR)


def test_the_secret_key_is_not_in_its_repr():
    assert PAIR.secret_bytes().hex() not in repr(PAIR)
