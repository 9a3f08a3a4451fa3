"""A worker on a chain that is not the one that its database is about, though it has its id."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from nodes import Line, Refusal, line_to, running_node
from worker_checks import check_settled_once, signatures, steps

from capsule.worker import Worker
from capsule.worker.anchor import forget_anchor
from sonar.chain.client import SonarClient
from sonar.chain.lookups import find_block


@pytest.fixture(scope="module")
def chain_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_node("anvil", tmp_path_factory.mktemp("node"), None, "--chain-id", "4242") as node:
        yield node.url


@pytest.fixture
def line(world: Any, chain_url: str) -> Iterator[Line]:
    """The only way from the worker to its node; every block counts at once."""
    with line_to(chain_url) as made:
        world.policy = dataclasses.replace(world.policy, confirmations=0)
        ask(world, "anvil_mine", hex(64))
        world.chain = SonarClient.connect(made.url, world.chain.address, world.attester, timeout=5)
        world.restart()
        yield made


def ask(world: Any, method: str, *parameters: Any) -> Any:
    return world.chain.web3.provider.make_request(method, list(parameters))["result"]


def is_for_the_first_block(request: dict[str, Any]) -> bool:
    return request["method"] == "eth_getBlockByNumber" and bool(request["params"][0] == "0x0")


def another_start(request: dict[str, Any], result: Any) -> Any:
    return {**result, "hash": "0x" + "ab" * 32} if is_for_the_first_block(request) else result


def other_code(request: dict[str, Any], result: Any) -> Any:
    return result[:-2] + "00" if request["method"] == "eth_getCode" else result


def dropped(request: dict[str, Any], result: Any) -> Any:
    """As a node that keeps only the newest blocks."""
    return None if is_for_the_first_block(request) else result


def pruned(request: dict[str, Any], result: Any) -> Any:
    """As a node that keeps only the newest blocks, and says so."""
    return Refusal("pruned history unavailable") if is_for_the_first_block(request) else result


def dropped_and_other_code(request: dict[str, Any], result: Any) -> Any:
    return other_code(request, dropped(request, result))


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (another_start, "another chain"),
        (other_code, "not what this Capsule has worked with"),
        (dropped_and_other_code, "not what this Capsule has worked with"),
    ],
)
def test_a_node_of_another_chain_with_the_same_id_is_refused_after_a_restart_and_after_an_outage(
    world: Any, scientist: Any, line: Line, lie: Any, words: str
) -> None:
    campaign = scientist.campaign()
    steps(world)
    position = world.capsule.state.position()
    for _ in range(3):
        campaign.submit()
    line.answer = lie
    world.restart()
    for _ in range(2):
        world.worker.step()
        assert words in world.worker.health()["problems"]["chain"]
    assert signatures(world, campaign) == []
    assert world.capsule.state.position() == position
    line.answer = None
    steps(world)
    check_settled_once(world, campaign, 1)
    line.cut = True
    world.worker.step()
    line.cut, line.answer = False, lie
    world.worker.step()
    assert words in world.worker.health()["problems"]["chain"]


def test_nothing_is_held_fast_of_blocks_that_may_still_change(world: Any, line: Line) -> None:
    world.policy = dataclasses.replace(world.policy, confirmations=1000)
    world.restart()
    steps(world)
    assert world.capsule.state.setting("chain") is None


@pytest.mark.parametrize("kept", [dropped, pruned])
def test_a_node_that_has_dropped_old_blocks_is_believed_while_the_code_is_the_same(
    world: Any, scientist: Any, line: Line, kept: Any
) -> None:
    campaign = scientist.campaign()
    steps(world)
    assert world.capsule.state.setting("chain") is not None
    line.answer = kept
    world.restart()
    for _ in range(3):
        campaign.submit()
    steps(world)
    check_settled_once(world, campaign, 1)


def test_a_first_block_that_the_chain_takes_back_is_held_fast_only_when_it_lies_deep(world: Any, line: Line) -> None:
    before = ask(world, "evm_snapshot")
    ask(world, "evm_mine")
    start = world.chain.block_number()
    world.worker.close()
    world.worker = Worker(world.capsule, start)
    steps(world, 1)
    taken_back = find_block(world.chain, start)
    assert ask(world, "evm_revert", before)
    ask(world, "evm_increaseTime", 7)
    ask(world, "anvil_mine", hex(64))
    assert world.chain.block_number() == start + 63
    steps(world)
    assert find_block(world.chain, start).hash != taken_back.hash
    assert world.capsule.state.setting("chain") is None
    ask(world, "evm_mine")
    steps(world)
    anchor = json.loads(world.capsule.state.setting("chain"))
    assert (anchor["number"], anchor["block"]) == (start, find_block(world.chain, start).hash.hex())


def no_code(request: dict[str, Any], result: Any) -> Any:
    """As a node that is still fetching its state."""
    return "0x" if request["method"] == "eth_getCode" else result


def test_an_empty_answer_about_the_code_is_not_held_fast(world: Any, scientist: Any, line: Line) -> None:
    campaign = scientist.campaign()
    line.answer = no_code
    steps(world)
    assert world.capsule.state.setting("chain") is None
    line.answer = None
    for _ in range(3):
        campaign.submit()
    steps(world)
    check_settled_once(world, campaign, 1)
    assert world.capsule.state.setting("chain") is not None


def test_an_empty_answer_that_was_held_fast_before_is_not_believed(world: Any, line: Line) -> None:
    steps(world)
    right = json.loads(world.capsule.state.setting("chain"))
    empty = {**right, "code": hashlib.sha256(b"").hexdigest()}
    world.capsule.state.set(chain=json.dumps(empty).encode())
    world.restart()
    steps(world)
    assert json.loads(world.capsule.state.setting("chain")) == right


def test_what_is_held_fast_wrongly_can_be_forgotten_and_what_the_node_shows_then_is_held_fast(
    world: Any, scientist: Any, line: Line
) -> None:
    campaign = scientist.campaign()
    line.answer = other_code
    steps(world)
    for _ in range(3):
        campaign.submit()
    line.answer = None
    world.restart()
    world.worker.step()
    assert "run capsule forget-chain" in world.worker.health()["problems"]["chain"]
    forgotten = forget_anchor(world.capsule.state)
    assert set(forgotten) == {"block", "code", "number"}
    steps(world)
    check_settled_once(world, campaign, 1)
    told = [(one.kind, json.loads(one.body)) for one in world.capsule.state.audit.entries() if "chain" in one.kind]
    right = json.loads(world.capsule.state.setting("chain"))
    assert told == [("chain", forgotten), ("chain forgotten", forgotten), ("chain", right)]
    line.answer = other_code
    world.restart()
    world.worker.step()
    assert "chain" in world.worker.health()["problems"]


def test_a_worker_that_runs_holds_the_chain_fast_again_in_its_next_pass_after_it_was_forgotten(
    world: Any, line: Line
) -> None:
    steps(world)
    before = forget_anchor(world.capsule.state)
    assert before is not None
    steps(world, 1)
    line.answer = other_code
    world.restart()
    world.worker.step()
    assert "not what this Capsule has worked with" in world.worker.health()["problems"]["chain"]
