"""Quantities that must not be mixed, and how they are written for people.

Amounts are integers in wei, scores and shares integers in parts per million (ppm); floats appear only in text.
"""

import re
from decimal import ROUND_DOWN, Decimal, InvalidOperation, Overflow, localcontext
from hashlib import sha256
from typing import NewType

from sonar.errors import ConfigError

__all__ = [
    "PPM", "Address", "CampaignId", "Cid", "Digest", "KeyId", "Ppm", "Wei",
    "address_of", "campaign_id_of", "digest_of", "duration", "ether", "format_ether", "format_ppm", "round_ether",
]  # fmt: skip

Wei = NewType("Wei", int)
"""An amount in the smallest unit of the native coin, or of a token where one is named."""
Ppm = NewType("Ppm", int)
"""Parts per million, 0 to 1,000,000."""
Cid = NewType("Cid", str)
"""Where an artifact is: an IPFS content identifier. It locates; the digest is what is checked."""
Digest = NewType("Digest", bytes)
"""The 32-byte SHA-256 of an artifact."""
KeyId = NewType("KeyId", bytes)
"""The 32-byte fingerprint of a Paillier public key."""
CampaignId = NewType("CampaignId", bytes)
"""The 32-byte EIP-712 digest of a campaign's admission."""
Address = NewType("Address", str)
"""An EIP-55 checksummed account or contract address."""

PPM = 1_000_000
_WEI_PER_ETHER = 10**18
_ID = re.compile(r"[0-9a-fA-F]{64}")
_DURATION = re.compile(r"(\d+)(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def digest_of(data: bytes) -> Digest:
    """The SHA-256 by which the chain commits to `data`."""
    return Digest(sha256(data).digest())


def address_of(text: object, *, besides: str = "") -> Address:
    """The address that somebody wrote; raises ConfigError for what is none, and for one that was mistyped.

    Capital and small letters together are a checksum (EIP-55), which must hold; letters of one case carry none.
    `besides` is what else may be given instead, for the error.
    """
    from eth_utils.address import is_hex_address, to_checksum_address  # slow to import, and few need it

    if not isinstance(text, str) or not is_hex_address(text):
        raise ConfigError(f"{text!r:.100} is not an address: give 0x and 40 hexadecimal digits{besides}")
    address, digits = str(to_checksum_address(text)), text[-40:]
    if digits not in (address[-40:], digits.lower(), digits.upper()):
        raise ConfigError(f"{text!r} is mistyped: the checksum in its capital letters does not hold; copy it again")
    return Address(address)


def campaign_id_of(text: object) -> CampaignId:
    """The campaign's id that somebody wrote, with 0x as it is shown or without; raises ConfigError for what is none."""
    digits = text.removeprefix("0x") if isinstance(text, str) else ""
    if not _ID.fullmatch(digits):
        raise ConfigError(
            f"{text!r:.100} is not a campaign's id: give 0x and its 64 hexadecimal digits (`sonar campaigns`)"
        )
    return CampaignId(bytes.fromhex(digits))


def ether(amount: int | float | str | Decimal) -> Wei:
    """Wei of an amount in ether, exactly; raises ConfigError for a negative amount or a fraction of a wei.

    >>> ether(1.5), ether("0.000000000000000001")
    (1500000000000000000, 1)
    """
    try:
        with localcontext(prec=100):
            wei = Decimal(str(amount)) * _WEI_PER_ETHER
            if not wei.is_finite() or wei < 0 or wei != wei.to_integral_value():
                raise ConfigError(
                    f"{amount!r:.100} ether is not a whole, non-negative number of wei: give a plain amount like 1.5"
                )
            return Wei(int(wei))
    except (InvalidOperation, Overflow) as error:
        raise ConfigError(f"{amount!r:.100} is not an amount of ether: give a plain number like 1.5") from error


def format_ether(wei: int) -> str:
    """The amount in ether without trailing zeros.

    >>> format_ether(25 * 10**15)
    '0.025'
    """
    with localcontext(prec=100):
        text = f"{Decimal(wei) / _WEI_PER_ETHER:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def round_ether(wei: int) -> str:
    """The amount in ether for people, towards zero: six decimals, and six digits of what is smaller."""
    with localcontext(prec=100):
        amount = Decimal(wei) / _WEI_PER_ETHER
        step = Decimal(1).scaleb(min(-6, amount.adjusted() - 5) if amount else 0)
        text = f"{amount.quantize(step, rounding=ROUND_DOWN):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def format_ppm(ppm: int) -> str:
    """A score or share in per cent with two digits, e.g. '92.50%'."""
    return f"{ppm / 10_000:.2f}%"


def duration(text: str | int) -> int:
    """Seconds of '90s', '30m', '2h', '7d' or a sum such as '1h30m'; an integer is seconds already."""
    if isinstance(text, int) and text > 0:
        return text
    parts = _DURATION.findall(str(text))
    if not parts or "".join(number + unit for number, unit in parts) != str(text):
        raise ConfigError(f"{text!r} is not a duration: write it like 90s, 30m, 2h or 1h30m")
    return sum(int(number) * _SECONDS[unit] for number, unit in parts)
