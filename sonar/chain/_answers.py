"""What the contract's views answer, as records.

Values are whatever a node sends: who calls this reports what does not fit, by `sonar.chain._rpc.rpc`.
"""

from collections.abc import Mapping
from typing import Any

from eth_utils.address import to_checksum_address

from sonar.chain.records import CampaignRecord, PayoutBase, RoundRecord, Status, Terms
from sonar.units import Address, CampaignId, Ppm, Wei

__all__ = ["campaign_record", "round_record"]


def campaign_record(campaign: CampaignId, got: Mapping[str, Any]) -> CampaignRecord:
    """The answer of `getCampaign`."""
    return CampaignRecord(
        campaign,
        Address(to_checksum_address(got["owner"])),
        Address(to_checksum_address(got["oracle"])),
        Status(got["status"]),
        _terms(got["terms"]),
        Ppm(got["startScore"]),
        Ppm(got["score"]),
        Ppm(got["base"]),
        got["version"],
        Wei(got["paid"]),
    )


def round_record(got: Mapping[str, Any]) -> RoundRecord:
    """The answer of `getRound`."""
    return RoundRecord(
        got["number"],
        got["settled"],
        got["count"],
        bytes(got["head"]),
        got["openedAt"],
        got["closesAt"],
        got["expiresAt"],
        got["open"],
    )


def _terms(got: Mapping[str, Any]) -> Terms:
    return Terms(
        Address(to_checksum_address(got["token"])),
        Wei(got["bounty"]),
        Wei(got["bond"]),
        Ppm(got["slash"]),
        Ppm(got["target"]),
        PayoutBase(got["payoutBase"]),
        Ppm(got["minGain"]),
        got["minMines"],
        got["roundSize"],
        got["maxRounds"],
        got["roundSeconds"],
        got["settlementSeconds"],
        got["deadline"],
    )
