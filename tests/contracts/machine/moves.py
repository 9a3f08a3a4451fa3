"""What actions are made of: numbers that choose, the register of actions, and the moments and campaigns they are about.

An action is a function of the world and of small numbers, so that a fuzzer can draw, repeat and shrink it. Who and what
a number means depends on what is there; it always means something.
"""

from dataclasses import dataclass

from eth_utils import keccak

from machine.rules import CLOSED, RUNNING

__all__ = [
    "ACTIONS",
    "ANY",
    "DICE",
    "NOBODY",
    "UNKNOWN",
    "WHEN",
    "Dice",
    "Field",
    "action",
    "alive",
    "among",
    "find_campaign",
    "id_of",
    "perform",
    "wait_until",
]

UNKNOWN = keccak(text="no such campaign")
NOBODY = 0x6666666666666666666666666666666666666666
LONG = 3_600
"""What lies further ahead is waited for only when few would be too late by then."""
WHEN = ("now", "before closing", "at closing", "before expiry", "at expiry", "before the deadline", "at the deadline")


class Dice:
    """Reads choices out of one number, so that zero always chooses what comes first."""

    def __init__(self, number):
        self._number = number

    def below(self, bound):
        self._number, choice = divmod(self._number, bound)
        return choice

    def among(self, options):
        return options[self.below(len(options))]

    def hash(self):
        return keccak(self.below(2**32).to_bytes(32, "big"))


@dataclass(frozen=True)
class Field:
    """What an action's argument can be: one of these, or a number below `bound`. The first is the usual one."""

    options: tuple[str, ...] = ()
    bound: int = 0


ANY = Field(bound=256)
DICE = Field(bound=2**128)


ACTIONS: dict[str, dict[str, Field]] = {}
_FUNCTIONS = {}


def action(**fields):
    def register(function):
        ACTIONS[function.__name__] = fields
        _FUNCTIONS[function.__name__] = function
        return function

    return register


def perform(world, name, **arguments):
    """Does an action; answers the id of the campaign that it was about, and whether the contract took it."""
    world.last_refusal = "nothing sent"
    return _FUNCTIONS[name](world, **arguments)


def among(options, number):
    return options[number % len(options)]


def find_campaign(world, number, *, pending=False):
    """A campaign: seven times of eight one of the liveliest, else any that is not closed, or the last that was."""
    campaigns = world.ledger.campaigns.values()
    opened = [campaign for campaign in campaigns if campaign.status != CLOSED]
    pool = [campaign for campaign in opened if (campaign.entries if pending else is_alive(world, campaign))]
    number, lively = divmod(number, 8)
    if not lively or not pool:
        pool = opened + [campaign for campaign in campaigns if campaign.status == CLOSED][-1:]
    return among(pool, number) if pool else None


def is_alive(world, campaign):
    return bool(campaign.entries) or (campaign.status == RUNNING and world.next_time < campaign.terms.deadline)


def alive(world):
    """How many campaigns take gradients or wait for the oracle's word."""
    return sum(is_alive(world, campaign) for campaign in world.ledger.campaigns.values())


def id_of(campaign, flaw):
    return UNKNOWN if flaw == "unknown" or campaign is None else campaign.id


def wait_until(world, campaign, when):
    """Lets time pass until the next transaction is at an edge of a campaign, if that is still to come."""
    closes_at = campaign.closes_at if campaign.entries else world.next_time
    if when == "closed":
        world.next_time = world.next_time if campaign.is_round_closed(world.next_time) else closes_at
        return
    moments = {
        "before closing": closes_at - 1,
        "at closing": closes_at,
        "before expiry": campaign.expires_at - 1 if campaign.entries else 0,
        "at expiry": campaign.expires_at if campaign.entries else 0,
        "before the deadline": campaign.terms.deadline - 1,
        "at the deadline": campaign.terms.deadline,
    }
    moment = moments.get(when, 0)
    if moment < world.next_time + LONG or alive(world) <= 2:
        world.next_time = max(world.next_time, moment)
