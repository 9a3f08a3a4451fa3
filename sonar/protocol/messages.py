"""Signed messages (EIP-712): what the Capsule attests to the contract, and what accounts ask of the Capsule.

Attestations (Admission, Settlement) are signed over the domain ("Sonar", "1", chain id, contract), requests and their
answers over ("Sonar Capsule", "1", chain id, contract), so neither can pass for the other, nor for another chain or
contract.
"""

import secrets
from dataclasses import asdict, dataclass
from typing import Any

from eth_abi.exceptions import EncodingError
from eth_account import Account
from eth_account.messages import SignableMessage, encode_typed_data
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak
from eth_utils.exceptions import ValidationError

from sonar.chain.records import NATIVE, Admission, Settlement
from sonar.protocol.errors import SignatureError
from sonar.units import Address, CampaignId, Digest, digest_of

__all__ = [
    "ANSWER_TYPES", "REQUEST_LIFETIME", "REQUEST_TYPES", "CapsuleAnswer", "CapsuleRequest", "Domain", "SignedRequest",
    "hash_admission", "hash_settlement", "info_answer", "public_answer", "recover", "request_for", "sign_admission",
    "sign_answer", "sign_request", "sign_settlement", "verify_admission", "verify_answer", "verify_request",
    "verify_settlement",
]  # fmt: skip

REQUEST_LIFETIME = 300
"""The longest time in seconds for which a request to the Capsule may be valid."""


def _fields(*pairs: str) -> list[dict[str, str]]:
    return [dict(zip(("type", "name"), pair.split(), strict=True)) for pair in pairs]


_ADMISSION = {
    "Admission": _fields(
        "bytes32 spec", "bytes32 model", "bytes32 key", "bytes32 sealingKey", "uint32 startScore",
        "address oracle", "address owner", "uint40 validUntil",
    )
}  # fmt: skip
_SETTLEMENT = {
    "Settlement": _fields(
        "bytes32 campaign", "uint32 round", "bytes32 head", "uint32 score", "uint8 exponent", "bytes32 model",
        "bytes32 key", "bytes32 product", "string modelCid", "string productCid", "Outcome[] outcomes",
    ),
    "Outcome": _fields("uint8 verdict", "uint32 weight", "uint32 share"),
}  # fmt: skip
REQUEST_TYPES = {
    "Request": _fields("address account", "string action", "bytes32 body", "bytes32 nonce", "uint64 expiry"),
}
"""The EIP-712 type of what an account asks of the Capsule."""
ANSWER_TYPES = {
    "Answer": _fields("address account", "string action", "bytes32 nonce", "bytes32 body"),
}
"""The EIP-712 type of what the Capsule answers."""


@dataclass(frozen=True, slots=True)
class Domain:
    """The chain and contract for which a message is signed."""

    chain_id: int
    contract: Address

    def encode(self, name: str, types: dict[str, Any], message: dict[str, Any]) -> SignableMessage:
        """The EIP-712 message under this domain; raises SignatureError for a value that its type does not hold."""
        domain = {"name": name, "version": "1", "chainId": self.chain_id, "verifyingContract": self.contract}
        try:
            return encode_typed_data(domain, types, message)
        except (EncodingError, ValidationError, ValueError, TypeError, OverflowError) as error:
            raise SignatureError(
                f"a message holds what its type does not, so nobody signed it: {error!r:.200}"
            ) from error


@dataclass(frozen=True, slots=True)
class CapsuleRequest:
    """What an account asks of the Capsule: an action, the digest of the HTTP body, a nonce used once, an expiry."""

    account: Address
    action: str
    body: Digest
    nonce: bytes
    expiry: int

    def answer(self, body: bytes) -> "CapsuleAnswer":
        """The answer to this request that has this HTTP body."""
        return CapsuleAnswer(self.account, self.action, self.nonce, digest_of(body))


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request with its HTTP body and the account's signature: what proves to anybody that the account asked.

    `verify_request` says whether it did, with any `now` from the last five minutes before the expiry.
    """

    request: CapsuleRequest
    body: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class CapsuleAnswer:
    """What the Capsule answers: to which account, action and nonce, and the digest of the HTTP body.

    Keys, sealing keys and models come in such answers: unsigned, whoever is on the way could put in his own.
    """

    account: Address
    action: str
    nonce: bytes
    body: Digest


def hash_admission(domain: Domain, admission: Admission) -> CampaignId:
    """The EIP-712 digest of an admission: the id of its campaign."""
    return CampaignId(_digest(_admission(domain, admission)))


def hash_settlement(domain: Domain, settlement: Settlement) -> bytes:
    """The EIP-712 digest of a settlement."""
    return _digest(_settlement(domain, settlement))


def sign_admission(domain: Domain, admission: Admission, account: LocalAccount) -> bytes:
    """The Capsule's 65-byte signature of an admission."""
    return bytes(account.sign_message(_admission(domain, admission)).signature)


def sign_settlement(domain: Domain, settlement: Settlement, account: LocalAccount) -> bytes:
    """The Capsule's 65-byte signature of a settlement."""
    return bytes(account.sign_message(_settlement(domain, settlement)).signature)


def verify_admission(domain: Domain, admission: Admission, signature: bytes) -> None:
    """Raises SignatureError unless the oracle that the admission names signed it for this domain."""
    _verify(_admission(domain, admission), signature, admission.oracle, "admission")


def verify_settlement(domain: Domain, settlement: Settlement, signature: bytes, signer: Address) -> None:
    """Raises SignatureError unless `signer` signed the settlement for this domain."""
    _verify(_settlement(domain, settlement), signature, signer, "settlement")


def request_for(account: Address, action: str, body: bytes, now: int, lifetime: int = 120) -> CapsuleRequest:
    """A fresh request over an HTTP body, valid until `now + lifetime` (Unix seconds)."""
    return CapsuleRequest(account, action, digest_of(body), secrets.token_bytes(32), now + lifetime)


def sign_request(domain: Domain, request: CapsuleRequest, account: LocalAccount) -> bytes:
    """The caller's 65-byte signature of a request."""
    return bytes(account.sign_message(_request(domain, request)).signature)


def verify_request(domain: Domain, request: CapsuleRequest, signature: bytes, body: bytes, now: int) -> None:
    """Raises SignatureError unless the request is the account's own, over this body and not expired.

    The caller remembers the nonce until `request.expiry`; that is what stops a replay.
    """
    if digest_of(body) != request.body:
        raise SignatureError(
            f"request {request.action!r} of {request.account} is signed over another body: sign it again"
        )
    if not now <= request.expiry <= now + REQUEST_LIFETIME:
        raise SignatureError(
            f"request {request.action!r} of {request.account} expires at {request.expiry}, but it is {now} and at most "
            f"{REQUEST_LIFETIME} s ahead are allowed: check the clock and sign it again"
        )
    _verify(_request(domain, request), signature, request.account, "request")


def public_answer(action: str, body: bytes) -> CapsuleAnswer:
    """What the Capsule says to everybody: the same to all, so it has no account and no nonce."""
    return CapsuleAnswer(NATIVE, action, bytes(32), digest_of(body))


def info_answer(body: bytes) -> CapsuleAnswer:
    """What the Capsule says of itself to everybody."""
    return public_answer("info", body)


def sign_answer(domain: Domain, answer: CapsuleAnswer, account: LocalAccount) -> bytes:
    """The Capsule's 65-byte signature of an answer."""
    return bytes(account.sign_message(_answer(domain, answer)).signature)


def verify_answer(domain: Domain, answer: CapsuleAnswer, signature: bytes, signer: Address) -> None:
    """Raises SignatureError unless `signer` gave this answer, to this request, for this domain."""
    _verify(_answer(domain, answer), signature, signer, "answer")


def recover(message: SignableMessage, signature: bytes) -> Address:
    """The account that signed; raises SignatureError for bytes that are no signature."""
    try:
        return Address(Account.recover_message(message, signature=signature))
    except Exception as error:  # eth_keys, eth_account and coincurve each have their own roots for bad signatures
        raise SignatureError(f"{len(signature)} bytes are not a signature: {type(error).__name__}") from error


def _verify(message: SignableMessage, signature: bytes, signer: Address, what: str) -> None:
    found = recover(message, signature)
    if found != signer:
        raise SignatureError(f"the {what} is signed by {found}, not by {signer}")


def _digest(message: SignableMessage) -> bytes:
    return keccak(b"\x19" + message.version + message.header + message.body)


def _admission(domain: Domain, admission: Admission) -> SignableMessage:
    return domain.encode("Sonar", _ADMISSION, admission.to_message())


def _settlement(domain: Domain, settlement: Settlement) -> SignableMessage:
    return domain.encode("Sonar", _SETTLEMENT, settlement.to_message())


def _request(domain: Domain, request: CapsuleRequest) -> SignableMessage:
    return domain.encode("Sonar Capsule", REQUEST_TYPES, asdict(request))


def _answer(domain: Domain, answer: CapsuleAnswer) -> SignableMessage:
    return domain.encode("Sonar Capsule", ANSWER_TYPES, asdict(answer))
