"""Drives a world at random, and finds the fewest actions that still show what went wrong."""

from random import Random

from machine.actions import ACTIONS, perform
from machine.audit import Audit, drain
from machine.moves import Dice, alive
from machine.rounds import settlement_call
from machine.world import Disagreement

__all__ = ["Failure", "draw", "run", "shortest"]

WEIGHTS = {
    "create": 8,
    "submit": 34,
    "settle": 20,
    "relay": 4,
    "expire": 5,
    "withdraw": 9,
    "close": 5,
    "top_up": 5,
    "transfer": 3,
    "accept": 3,
    "donate": 1,
    "change_token": 2,
    "change_oracle": 2,
    "arm": 3,
    "poke": 1,
    "wait": 2,
}
DRAIN_EVERY = 100
ALIVE = 4
"""With fewer campaigns, more are created."""


class Failure(Exception):
    """The world and the ledger disagree; carries the actions that led there."""

    def __init__(self, log, reason):
        super().__init__(reason)
        self.log = log
        self.reason = reason


def draw(random: Random, world):
    """An action and its arguments, mostly without a flaw and at the next second."""
    (name,) = random.choices(list(WEIGHTS), WEIGHTS.values())
    if alive(world) < ALIVE and random.random() < 0.5:
        name = "create"
    arguments = {}
    for key, field in ACTIONS[name].items():
        if not field.options:
            arguments[key] = random.randrange(field.bound)
        elif key in ("flaw", "when") and random.random() < 0.85:
            arguments[key] = field.options[0]
        else:
            arguments[key] = random.choice(field.options)
    return name, arguments


def run(world, actions, *, thorough=True, count=None):
    """Does the actions, each with an audit, and drains the contract now and then and at the end."""
    world.restart()
    audit, log = Audit(world, thorough=thorough), []
    try:
        for name, arguments in actions:
            log.append((name, arguments))
            touched, done = perform(world, name, **arguments)
            audit.check(touched)
            if count is not None:
                count[name, "done" if done else world.last_refusal] += 1
            if len(log) % DRAIN_EVERY == 0:
                drain_both_ways(world)
        audit.check(everything=True)
        drain_both_ways(world)
    except AssertionError as error:
        raise Failure(log, str(error)) from error


def drain_both_ways(world):
    """Drains with oracles that are silent, and with oracles that answer, if the one that falls ill is well."""
    drain(world)

    def settle(campaign):
        call = settlement_call(world, campaign, "none", Dice(world.now))
        if not world.send(world.actors[7], call):
            raise Disagreement(f"the last settlement is refused: {call}")

    if not world.ledger.unwell:
        drain(world, settle=settle)


def shortest(world, log):
    """The fewest of the actions that still fail: removes ever smaller parts of the log as long as it fails without."""

    def fails(actions):
        try:
            run(world, actions)
        except Failure as failure:
            return failure
        return None

    size = len(log) // 2
    while size:
        start = 0
        while start < len(log):
            shorter = log[:start] + log[start + size :]
            if failure := fails(shorter):
                log = failure.log
            else:
                start += size
        size //= 2
    return log
