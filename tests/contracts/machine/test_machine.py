"""Hypothesis drives the contract and the ledger through everything that can happen, and shrinks what goes wrong.

How long: SONAR_TEST_MODE; which: pytest's --hypothesis-seed. scripts/soak-contracts drives the same world for longer.
"""

import pytest
from chains import EVERY_CHAIN
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from machine.actions import ACTIONS, perform
from machine.audit import Audit
from machine.driver import drain_both_ways
from machine.moves import alive
from machine.world import World

AGAIN = {
    "create": (6, lambda machine: alive(machine.world) < 3),
    "submit": (6, lambda machine: alive(machine.world) > 0),
    "settle": (6, lambda machine: any(campaign.entries for campaign in machine.world.ledger.campaigns.values())),
    "withdraw": (2, lambda machine: any(machine.world.ledger.credits.values())),
}
"""So many times more an action is among the rules when it may get somewhere."""
USUAL = 4
"""So many times more often than any other a call has no flaw, and comes at the next second."""
EXAMPLES = {"eth-tester": (12, 200, 200), "revm": (250, 2_000, 4_000)}
STEPS = 100
SPREAD = 0x9E3779B97F4A7C15F39CC0605CEDC835


class Marketplace(RuleBasedStateMachine):
    """Actions as rules; after each, the contract is compared with the ledger. Ends with a way out for everybody."""

    def __init__(self, world, *, thorough):
        super().__init__()
        world.restart()
        self.world = world
        self.audit = Audit(world, thorough=thorough)
        self.has_failed = False
        self.turn = 0

    @initialize(oracles=st.tuples(st.integers(0, 3), st.integers(0, 3)), token=st.integers(0, 4), dice=st.integers(0))
    def begin(self, oracles, token, dice):
        """Nothing happens without a campaign."""
        for number, oracle in enumerate(oracles):
            fields = {"owner": number, "oracle": oracle, "token": number * token, "flaw": "none"}
            self.act("create", fields | {"dice": number * dice})

    @rule()
    def life_goes_on(self):
        """What an honest market does next. Hypothesis likes to draw a rule without arguments: it shall be worth it."""
        self.turn += 1
        number = self.turn * SPREAD
        dice, usual = number % 2**128, {"when": "now", "flaw": "none"}
        if not alive(self.world):
            self.act("create", {"owner": number, "oracle": number, "token": number, "flaw": "none", "dice": dice})
        elif self.turn % 3:
            self.act("submit", {"campaign": number, "mine": self.turn, "dice": dice} | usual)
        else:
            chosen = {"campaign": number, "relay": self.turn, "withheld": 0, "dice": dice}
            self.act("settle", usual | chosen | {"when": "closed"})

    def act(self, name, arguments):
        """One step."""
        self.has_failed = True
        touched, _ = perform(self.world, name, **arguments)
        self.audit.check(touched)
        self.has_failed = False

    def teardown(self):
        """Everything is as it should be, and nobody is caught in it."""
        if not self.has_failed:
            self.audit.check(everything=True)
            drain_both_ways(self.world)


def _strategy(field):
    if not field.options:
        return st.integers(0, field.bound - 1)
    return st.one_of(*[st.just(field.options[0])] * USUAL, st.sampled_from(field.options))


def _rule(name, fields):
    def act(self, **arguments):
        self.act(name, arguments)

    act.__name__ = name
    return rule(**{key: _strategy(field) for key, field in fields.items()})(act)


for _name, _fields in ACTIONS.items():
    setattr(Marketplace, _name, _rule(_name, _fields))
    _times, _condition = AGAIN.get(_name, (0, None))
    for _number in range(_times):
        setattr(Marketplace, f"{_name}_{_number}", precondition(_condition)(_rule(_name, _fields)))


@pytest.fixture(scope="module", params=EVERY_CHAIN)
def world(request, open_chain, artifacts):
    """A world on each chain of this process."""
    return request.param, World(open_chain(request.param), artifacts)


@pytest.mark.long
@pytest.mark.timeout(7_200)
def test_the_contract_does_what_the_ledger_says(world, effort):
    kind, world = world
    how = settings(
        max_examples=effort(*EXAMPLES[kind]),
        stateful_step_count=STEPS,
        # What fails on the slow chain fails on the fast one, too, and shrinks there.
        phases=[phase for phase in Phase if kind == "revm" or phase not in (Phase.shrink, Phase.explain)],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )
    run_state_machine_as_test(lambda: Marketplace(world, thorough=kind == "revm"), settings=how)
