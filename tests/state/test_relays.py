"""Transactions in the database: what may still be mined is single, by nonce and by settlement."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from stored import AUDIT_KEY, CAMPAIGN

from capsule.state import Relay, State
from sonar.units import CampaignId

SENT = Relay(b"a" * 32, CAMPAIGN, 0, b"h" * 32, 7, b"raw", fee=100, tip=1, state="sent", time=1.0)
OTHER = CampaignId(b"d" * 32)


def test_a_nonce_is_for_one_settlement_while_it_may_be_mined(state: State) -> None:
    assert state.add_relay(SENT)
    for change in ({"campaign": OTHER}, {"round": 1}, {"head": b"i" * 32}):
        assert not state.add_relay(dataclasses.replace(SENT, hash=b"b" * 32, **change))
    assert state.open_relays() == [SENT]
    assert len(list(state.audit.entries())) == 1
    state.set_relay(SENT.hash, "replaced")
    assert state.add_relay(dataclasses.replace(SENT, hash=b"b" * 32, campaign=OTHER))


def test_a_settlement_has_one_nonce_while_it_may_be_mined(state: State) -> None:
    assert state.add_relay(SENT)
    assert not state.add_relay(dataclasses.replace(SENT, hash=b"b" * 32, nonce=8))
    assert state.add_relay(dataclasses.replace(SENT, hash=b"b" * 32, fee=200))
    for relay in state.open_relays():
        state.set_relay(relay.hash, "failed")
    assert state.add_relay(dataclasses.replace(SENT, hash=b"c" * 32, nonce=8))


@pytest.mark.parametrize("former", ["replaced", "failed"])
def test_the_same_bytes_signed_again_are_the_transaction_that_was_given_up_before(state: State, former: str) -> None:
    """A settlement was left alone, and then had its nonce again; its nonce alone may be given back twice, too."""
    assert state.add_relay(SENT)
    for again in (
        dataclasses.replace(SENT, state="intent", time=2.0),
        dataclasses.replace(SENT, state="intent", time=3.0, campaign=OTHER),
    ):
        state.set_relay(SENT.hash, former)
        assert state.add_relay(again)
        assert state.open_relays() == [again]
    assert not state.add_relay(SENT)


def test_of_workers_that_take_a_nonce_at_the_same_time_one_gets_it(state: State, target: Path | str) -> None:
    states = [state, State(target)]
    states[1].audit.unlock(AUDIT_KEY)
    relays = [
        dataclasses.replace(SENT, hash=bytes([number] * 32), campaign=CampaignId(bytes([number] * 32)))
        for number in range(16)
    ]
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda one: states[one.hash[0] % 2].add_relay(one), relays))
    assert sum(taken) == len(state.open_relays()) == 1
    states[1].close()
