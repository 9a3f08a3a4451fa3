"""The chains in this process: their rules and their contracts are those that count elsewhere."""

import json
from importlib.resources import files

import pytest
from chains import EVERY_CHAIN
from chains.artifacts import Artifact
from chains.base import Reverted
from chains.eth_tester import EthTesterChain
from chains.revm import RevmChain

CHAINS = {"revm": RevmChain, "eth-tester": EthTesterChain}


@pytest.mark.parametrize("kind", EVERY_CHAIN)
def test_the_rules_are_those_of_paris(kind):
    before, since = bytes.fromhex("60006000f3"), bytes.fromhex("5f5ff3")  # PUSH1 0 or PUSH0, twice, then RETURN
    chain = CHAINS[kind]({"Paris": Artifact("Paris", [], before), "Shanghai": Artifact("Shanghai", [], since)})
    chain.deploy("Paris", sender=chain.accounts[0])
    with pytest.raises(Reverted):
        chain.deploy("Shanghai", sender=chain.accounts[0])


@pytest.mark.parametrize("name", ["Sonar", "CapsuleCommittee"])
def test_the_contracts_under_test_are_the_ones_that_ship(artifacts, name):
    shipped = json.loads((files("sonar.chain") / "data" / f"{name}.json").read_text())
    assert (artifacts[name].bytecode.hex(), artifacts[name].abi) == (shipped["bytecode"][2:], shipped["abi"])


def test_revm_and_eth_tester_agree_on_everything_but_warm_storage(artifacts):
    """The first transaction after the deployment finds cold storage on both."""
    receipts = []
    for chain in (RevmChain(artifacts), EthTesterChain(artifacts)):
        owner = chain.accounts[0]
        token = chain.deploy("HonestToken", sender=owner)
        receipts.append(token.mint(owner, 5, sender=owner).receipt)
    assert receipts[0] == receipts[1]


def test_only_eth_tester_meters_the_storage_that_a_transaction_finds_cold(artifacts):
    costs = {}
    for chain in (RevmChain(artifacts), EthTesterChain(artifacts)):
        owner = chain.accounts[0]
        token = chain.deploy("HonestToken", sender=owner)
        token.mint(owner, 5, sender=owner)
        costs[chain.metered] = [token.mint(owner, 5, sender=owner).gas_used for _ in range(2)]
    assert costs[True][0] == costs[True][1]
    assert max(costs[False]) < costs[True][0]


def test_restoring_again_and_again_leaves_calls_as_deep_as_before(artifacts):
    """For revm a snapshot is a level of the call stack, which has 1,024."""
    chain = RevmChain(artifacts)
    owner = chain.accounts[0]
    actor, token = (chain.deploy(name, sender=owner) for name in ("Actor", "HonestToken"))
    beginning = chain.snapshot()
    for _ in range(1_100):
        chain.snapshot()
        chain.restore(beginning)
    actor.execute(token, token.mint.encode(owner, 5), sender=owner)
    assert token.balanceOf(owner) == 5
