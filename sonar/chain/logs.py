"""From the logs of transactions to the contract's events.

Strings in events are written by strangers: a CID that is too long or not printable ASCII arrives as an empty one, so
that nobody can stop a reader with it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from eth_abi import abi as codec
from eth_abi.exceptions import DecodingError
from eth_utils.address import to_checksum_address

from sonar.chain._artifact import arguments_type, artifact, event_topic
from sonar.chain.errors import RpcUnavailableError
from sonar.chain.events import (
    BountyRaised,
    CampaignClosed,
    CampaignCreated,
    CampaignFinished,
    CampaignTransferred,
    CampaignTransferStarted,
    Event,
    GradientJudged,
    GradientSubmitted,
    RoundExpired,
    RoundSettled,
    Withdrawn,
)
from sonar.chain.records import Admission, PayoutBase, Terms, Verdict
from sonar.units import Address, CampaignId, Cid, Digest, KeyId, Ppm, Wei

if TYPE_CHECKING:  # web3 takes half a second to import, and who reads a ledger needs none of it
    from web3.types import LogReceipt

__all__ = ["decode_log", "event_topics"]

_LONGEST_CID = 100


def decode_log(log: "LogReceipt") -> Event | None:
    """The event that a log of the contract stands for; None for a log that is none of Sonar's.

    Raises RpcUnavailableError for a log that the contract cannot have written.
    """
    try:
        return _decode(log)
    except (DecodingError, OverflowError, ValueError, TypeError, LookupError) as error:
        raise RpcUnavailableError(
            f"the node gave a log that is no event of the contract ({error!r:.80}): is it in sync, and honest?"
        ) from error


def event_topics() -> list[bytes]:
    """The topics by which a filter finds the contract's events."""
    return list(_decoders())


def _decode(log: "LogReceipt") -> Event | None:
    topics = [bytes(topic) for topic in log["topics"]]
    found = _decoders().get(topics[0]) if topics else None
    if found is None:
        return None
    if [len(topic) for topic in topics] != [_WORD] * (1 + len(found.indexed)):
        raise ValueError("topics of another number or length")
    # A topic is one word, as each of the values is in a call: together they read like the head of one.
    values = dict(zip(found.indexed, codec.decode(found.indexed_types, b"".join(topics[1:])), strict=True))
    values |= zip(found.plain, codec.decode(found.plain_types, bytes(log["data"])), strict=True)
    return found.build((int(log["blockNumber"]), int(log["logIndex"]), bytes(log["transactionHash"])), values)


_Place = tuple[int, int, bytes]
_Builder = Callable[[_Place, Mapping[str, Any]], Event]
_WORD = 32


@dataclass(frozen=True, slots=True)
class _Decoder:
    """How an event's log reads: names and types of what is in topics and in data."""

    indexed: list[str]
    indexed_types: list[str]
    plain: list[str]
    plain_types: list[str]
    build: _Builder


@cache
def _decoders() -> dict[bytes, _Decoder]:
    entries = {entry["name"]: entry for entry in artifact()["abi"] if entry["type"] == "event"}
    return {event_topic(entries[name]): _decoder(entries[name]["inputs"], build) for name, build in _BUILDERS.items()}


def _decoder(inputs: list[Mapping[str, Any]], build: _Builder) -> _Decoder:
    indexed = [item for item in inputs if item["indexed"]]
    plain = [item for item in inputs if not item["indexed"]]
    return _Decoder(_names(indexed), _types(indexed), _names(plain), _types(plain), build)


def _names(inputs: list[Mapping[str, Any]]) -> list[str]:
    return [item["name"] for item in inputs]


def _types(inputs: list[Mapping[str, Any]]) -> list[str]:
    # As bytes, because a string that is not UTF-8 would make the decoder raise.
    return ["bytes" if kind == "string" else kind for kind in arguments_type({"inputs": inputs})]


def _address(text: str) -> Address:
    return Address(to_checksum_address(text))


def _cid(data: bytes) -> Cid:
    fit = len(data) <= _LONGEST_CID and all(0x21 <= byte <= 0x7E for byte in data)
    return Cid(data.decode("ascii") if fit else "")


def _created(place: _Place, v: Mapping[str, Any]) -> Event:
    terms, admission = list(v["terms"]), list(v["admission"])
    terms[0], terms[5] = _address(terms[0]), PayoutBase(terms[5])
    admission[5], admission[6] = _address(admission[5]), _address(admission[6])
    return CampaignCreated(
        *place,
        CampaignId(v["id"]),
        _address(v["owner"]),
        _address(v["oracle"]),
        Terms(*terms),
        Admission(*admission),
        _cid(v["specCid"]),
        _cid(v["modelCid"]),
    )


def _submitted(place: _Place, v: Mapping[str, Any]) -> Event:
    return GradientSubmitted(
        *place,
        CampaignId(v["id"]),
        v["round"],
        _address(v["mine"]),
        v["index"],
        Digest(v["artifact"]),
        Digest(v["gradient"]),
        _cid(v["cid"]),
    )


def _judged(place: _Place, v: Mapping[str, Any]) -> Event:
    return GradientJudged(
        *place,
        CampaignId(v["id"]),
        v["round"],
        _address(v["mine"]),
        v["index"],
        Verdict(v["verdict"]),
        v["weight"],
        Ppm(v["share"]),
        Wei(v["payout"]),
        Wei(v["bondReturned"]),
    )


def _settled(place: _Place, v: Mapping[str, Any]) -> Event:
    return RoundSettled(
        *place,
        CampaignId(v["id"]),
        v["round"],
        Ppm(v["score"]),
        v["exponent"],
        Digest(v["model"]),
        KeyId(v["key"]),
        Digest(v["product"]),
        _cid(v["modelCid"]),
        _cid(v["productCid"]),
        Wei(v["payout"]),
    )


_BUILDERS: dict[str, _Builder] = {
    "CampaignCreated": _created,
    "GradientSubmitted": _submitted,
    "GradientJudged": _judged,
    "RoundSettled": _settled,
    "RoundExpired": lambda place, v: RoundExpired(*place, CampaignId(v["id"]), v["round"]),
    "BountyRaised": lambda place, v: BountyRaised(
        *place, CampaignId(v["id"]), _address(v["from"]), Wei(v["amount"]), Wei(v["bounty"])
    ),
    "CampaignTransferStarted": lambda place, v: CampaignTransferStarted(
        *place, CampaignId(v["id"]), _address(v["owner"]), _address(v["pendingOwner"])
    ),
    "CampaignTransferred": lambda place, v: CampaignTransferred(
        *place, CampaignId(v["id"]), _address(v["previousOwner"]), _address(v["newOwner"])
    ),
    "CampaignFinished": lambda place, v: CampaignFinished(*place, CampaignId(v["id"]), Ppm(v["score"])),
    "CampaignClosed": lambda place, v: CampaignClosed(
        *place, CampaignId(v["id"]), _address(v["owner"]), Wei(v["refund"])
    ),
    "Withdrawn": lambda place, v: Withdrawn(
        *place, _address(v["token"]), _address(v["account"]), _address(v["to"]), Wei(v["amount"])
    ),
}
