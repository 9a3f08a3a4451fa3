"""EIP-712 messages: nobody else's, no other chain's, no other contract's, no other kind, not twice."""

from dataclasses import replace

import pytest
from eth_account import Account

from sonar.chain.records import Admission, Outcome, Settlement, Verdict
from sonar.protocol.errors import SignatureError
from sonar.protocol.messages import (
    Domain,
    hash_admission,
    hash_settlement,
    info_answer,
    request_for,
    sign_admission,
    sign_answer,
    sign_request,
    sign_settlement,
    verify_admission,
    verify_answer,
    verify_request,
    verify_settlement,
)
from sonar.units import Address, CampaignId, Cid, Digest, KeyId, Ppm

CAPSULE = Account.from_key("0x" + "01" * 32)
OTHER = Account.from_key("0x" + "02" * 32)
DOMAIN = Domain(1337, Address("0x" + "aa" * 20))
ADMISSION = Admission(
    spec=Digest(b"\1" * 32), model=Digest(b"\2" * 32), key=KeyId(b"\3" * 32), sealing_key=b"\4" * 32,
    start_score=Ppm(100_000), oracle=Address(CAPSULE.address), owner=Address(OTHER.address),
    valid_until=2_000_000_000,
)  # fmt: skip
SETTLEMENT = Settlement(
    campaign=CampaignId(b"\5" * 32), round=3, head=b"\6" * 32, score=Ppm(900_000), exponent=10,
    model=Digest(b"\7" * 32), key=KeyId(b"\x08" * 32), product=Digest(b"\x09" * 32), model_cid=Cid("bafkreimodel"),
    product_cid=Cid("bafkreiproduct"),
    outcomes=(Outcome(Verdict.KEPT, 512, Ppm(1_000_000)), Outcome(Verdict.COPY, 0, Ppm(0))),
)  # fmt: skip


def test_the_capsules_own_signatures_verify():
    verify_admission(DOMAIN, ADMISSION, sign_admission(DOMAIN, ADMISSION, CAPSULE))
    verify_settlement(DOMAIN, SETTLEMENT, sign_settlement(DOMAIN, SETTLEMENT, CAPSULE), Address(CAPSULE.address))


@pytest.mark.parametrize("domain", [Domain(1, DOMAIN.contract), Domain(1337, Address("0x" + "bb" * 20))])
def test_a_signature_for_another_chain_or_contract_is_refused(domain):
    signature = sign_admission(domain, ADMISSION, CAPSULE)
    with pytest.raises(SignatureError):
        verify_admission(DOMAIN, ADMISSION, signature)
    assert hash_admission(domain, ADMISSION) != hash_admission(DOMAIN, ADMISSION)
    assert hash_settlement(domain, SETTLEMENT) != hash_settlement(DOMAIN, SETTLEMENT)


def test_another_accounts_signature_is_refused():
    with pytest.raises(SignatureError, match=f"signed by {OTHER.address}"):
        verify_admission(DOMAIN, ADMISSION, sign_admission(DOMAIN, ADMISSION, OTHER))


@pytest.mark.parametrize("field", Admission.__dataclass_fields__)
def test_every_field_of_an_admission_is_signed(field):
    signature = sign_admission(DOMAIN, ADMISSION, CAPSULE)
    value = getattr(ADMISSION, field)
    other = value + 1 if isinstance(value, int) else b"\xff" * 32
    if isinstance(value, str):
        other = Address("0x" + "ee" * 20)
    with pytest.raises(SignatureError):
        verify_admission(DOMAIN, replace(ADMISSION, **{field: other}), signature)


@pytest.mark.parametrize("field", Settlement.__dataclass_fields__)
def test_every_field_of_a_settlement_is_signed(field):
    signature = sign_settlement(DOMAIN, SETTLEMENT, CAPSULE)
    value = getattr(SETTLEMENT, field)
    if isinstance(value, tuple):
        other = value[::-1]
    elif isinstance(value, int):
        other = value + 1
    else:
        other = value + "x" if isinstance(value, str) else b"\xff" * 32
    with pytest.raises(SignatureError):
        verify_settlement(DOMAIN, replace(SETTLEMENT, **{field: other}), signature, Address(CAPSULE.address))


@pytest.mark.parametrize("signature", [b"", b"\0" * 65, b"\xff" * 65, b"\1" * 64, b"\1" * 66])
def test_bytes_that_are_no_signature_raise_the_documented_error(signature):
    with pytest.raises(SignatureError):
        verify_admission(DOMAIN, ADMISSION, signature)


def test_a_request_verifies_over_its_own_body_in_its_own_time():
    request = request_for(Address(OTHER.address), "keys", b"{}", now=1000)
    verify_request(DOMAIN, request, sign_request(DOMAIN, request, OTHER), b"{}", now=1000)


@pytest.mark.parametrize(
    ("body", "now", "message"),
    [(b"{ }", 1000, "over another body"), (b"{}", 1121, "expires at 1120"), (b"{}", 100, "at most 300 s ahead")],
)
def test_a_request_over_another_body_or_out_of_its_time_is_refused(body, now, message):
    request = request_for(Address(OTHER.address), "keys", b"{}", now=1000)
    signature = sign_request(DOMAIN, request, OTHER)
    with pytest.raises(SignatureError, match=message):
        verify_request(DOMAIN, request, signature, body, now)


def test_a_request_for_one_action_is_not_one_for_another():
    request = request_for(Address(OTHER.address), "keys", b"{}", now=1000)
    signature = sign_request(DOMAIN, request, OTHER)
    with pytest.raises(SignatureError):
        verify_request(DOMAIN, replace(request, action="deliveries"), signature, b"{}", now=1000)


def test_an_answer_is_for_one_request_and_by_one_account():
    request = request_for(Address(OTHER.address), "keys", b"{}", now=1000)
    answer, signer = request.answer(b"n"), Address(CAPSULE.address)
    signature = sign_answer(DOMAIN, answer, CAPSULE)
    verify_answer(DOMAIN, answer, signature, signer)
    others = [
        request.answer(b"m"),
        info_answer(b"n"),
        replace(answer, action="deliveries"),
        replace(answer, nonce=b"\1" * 32),
        replace(answer, account=signer),
    ]
    for other in others:
        with pytest.raises(SignatureError):
            verify_answer(DOMAIN, other, signature, signer)
    with pytest.raises(SignatureError):
        verify_answer(DOMAIN, answer, signature, Address(OTHER.address))
    with pytest.raises(SignatureError):
        verify_answer(Domain(1, DOMAIN.contract), answer, signature, signer)


def test_two_requests_never_share_a_nonce():
    requests = {request_for(Address(OTHER.address), "keys", b"{}", now=1).nonce for _ in range(100)}
    assert len(requests) == 100
