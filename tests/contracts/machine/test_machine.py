"""Hypothesis drives the contract and the ledger through everything that can happen, and shrinks what goes wrong.

How long: SONAR_TEST_MODE; which: pytest's --hypothesis-seed. scripts/soak-contracts drives the same world for longer.
"""

import pytest
from chains import EVERY_CHAIN
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from machine.actions import ACTIONS, perform
from machine.audit import Audit
from machine.driver import drain_both_ways
from machine.world import World

RULES = {"create": 2, "submit": 6, "settle": 4, "withdraw": 2}
"""So many times an action is among the rules, if not once: campaigns should get somewhere."""
USUAL = 4
"""So many times more often than any other a call has no flaw, and comes at the next second."""
EXAMPLES = {"eth-tester": (20, 200, 200), "revm": (100, 1_000, 10_000)}
STEPS = 100


class Marketplace(RuleBasedStateMachine):
    """Actions as rules; after each, the contract is compared with the ledger. Ends with a way out for everybody."""

    def __init__(self, world, *, thorough):
        super().__init__()
        world.restart()
        self.world = world
        self.audit = Audit(world, thorough=thorough)
        self.has_failed = False

    @initialize(oracles=st.tuples(st.integers(0, 3), st.integers(0, 3)), token=st.integers(0, 4), dice=st.integers(0))
    def begin(self, oracles, token, dice):
        """Nothing happens without a campaign."""
        for number, oracle in enumerate(oracles):
            fields = {"owner": number, "oracle": oracle, "token": number * token, "flaw": "none"}
            self.act("create", fields | {"dice": number * dice})

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

    return rule(**{key: _strategy(field) for key, field in fields.items()})(act)


for _name, _fields in ACTIONS.items():
    for _number in range(RULES.get(_name, 1)):
        setattr(Marketplace, f"{_name}_{_number}", _rule(_name, _fields))


@pytest.fixture(scope="module", params=EVERY_CHAIN)
def world(request, open_chain, artifacts):
    """A world on each chain of this process."""
    return request.param, World(open_chain(request.param), artifacts)


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
