"""Amounts, scores, deadlines and addresses as a notebook may give them, turned into exact values."""

from datetime import datetime, timedelta
from typing import Any

import numpy as np

from pysonar.errors import TermsError, UnknownCampaignError
from sonar.chain.records import LARGEST_AMOUNT
from sonar.errors import ConfigError
from sonar.units import PPM, Address, CampaignId, Ppm, Wei, address_of, campaign_id_of, duration

__all__ = ["address", "campaign_id", "deadline_at", "parts_per_million", "wei"]

_LONGEST = 5 * 365 * 24 * 3600
"""Seconds that a campaign may take, by the contract (R214 of docs/SPECIFICATION.md)."""


def wei(amount: Any, what: str) -> Wei:
    """An amount in wei; raises TermsError for a fraction, a negative or too large amount or another type."""
    if isinstance(amount, bool) or not isinstance(amount, int | np.integer) or amount < 0:
        raise TermsError(f"{what} {amount!r} is not an amount in wei: write pysonar.ether(1.5) for 1.5 ether")
    if amount > LARGEST_AMOUNT:
        raise TermsError(f"{what} {amount!r} is above 2^128 - 1, the most that the contract takes: offer less")
    return Wei(int(amount))


def address(text: Any, what: str) -> Address:
    """An account's or contract's address, checksummed; raises TermsError."""
    try:
        return address_of(text)
    except ConfigError as error:
        raise TermsError(f"{what} {error}") from error


def campaign_id(given: Any) -> CampaignId:
    """A campaign's id of 32 bytes, or of its hex text; raises UnknownCampaignError."""
    if isinstance(given, bytes | bytearray) and len(given) == 32:
        return CampaignId(bytes(given))
    try:
        return campaign_id_of(given)
    except ConfigError as error:
        raise UnknownCampaignError(str(error)) from error


def parts_per_million(fraction: Any, what: str) -> Ppm:
    """A score in (0, 1] as parts per million; raises TermsError."""
    number = isinstance(fraction, int | float | np.integer | np.floating) and not isinstance(fraction, bool)
    if not number or not 0 < fraction <= 1 or round(float(fraction) * PPM) == 0:
        raise TermsError(f"{what} {fraction!r} is not a score above 0 and up to 1: write 0.92 for 92%")
    return Ppm(round(float(fraction) * PPM))


def deadline_at(deadline: Any, now: int) -> int:
    """Unix seconds of a deadline: '2h', a timedelta or whole seconds from now, or a datetime (without a zone: local).

    Raises TermsError when it is not one of them, has passed, or is further ahead than the contract takes.
    """
    if isinstance(deadline, timedelta):
        deadline = int(deadline.total_seconds())
    if isinstance(deadline, datetime):
        at = int(deadline.timestamp())
    elif isinstance(deadline, int | np.integer) and not isinstance(deadline, bool) and deadline <= 0:
        raise TermsError(f"the deadline {deadline} is not ahead: give '2h', seconds from now above 0, or a datetime")
    elif isinstance(deadline, str | int | np.integer) and not isinstance(deadline, bool):
        try:
            at = now + duration(deadline if isinstance(deadline, str) else int(deadline))
        except ConfigError as error:
            raise TermsError(f"the deadline {deadline!r} is not a time ahead: {error}") from error
    else:
        raise TermsError(f"the deadline {deadline!r} is not a time: give '2h', seconds from now, or a datetime")
    if at <= now:
        raise TermsError(f"the deadline {deadline} is in the past (or now): mines could post nothing")
    if at - now > _LONGEST:
        raise TermsError(f"the deadline {deadline!s:.100} is over 5 years ahead, which no contract takes: give less")
    return at
