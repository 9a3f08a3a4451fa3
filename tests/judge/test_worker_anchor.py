"""A worker on a chain that is not the one that its database is about, though it has its id."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from nodes import Line, line_to, running_node
from worker_checks import check_settled_once, signatures, steps

from sonar.chain.client import SonarClient


@pytest.fixture(scope="module")
def chain_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_node("anvil", tmp_path_factory.mktemp("node"), None, "--chain-id", "4242") as node:
        yield node.url


@pytest.fixture
def line(world: Any, chain_url: str) -> Iterator[Line]:
    """The only way from the worker to its node; every block counts at once."""
    with line_to(chain_url) as made:
        world.policy = dataclasses.replace(world.policy, confirmations=0)
        world.chain = SonarClient.connect(made.url, world.chain.address, world.attester, timeout=5)
        world.restart()
        yield made


def another_start(request: dict[str, Any], result: Any) -> Any:
    if request["method"] == "eth_getBlockByNumber" and request["params"][0] == "0x0":
        return {**result, "hash": "0x" + "ab" * 32}
    return result


def other_code(request: dict[str, Any], result: Any) -> Any:
    return result[:-2] + "00" if request["method"] == "eth_getCode" else result


@pytest.mark.parametrize(
    ("lie", "words"), [(another_start, "another chain"), (other_code, "not what this Capsule has worked with")]
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
