"""The worker on nodes that lag behind, leave out, make up, show another fork, or go away."""

import dataclasses
import threading
from typing import Any

import pytest
from nodes import Line, Refusal, Remote, until
from worker_checks import check_settled_once, signatures, steps

from capsule.notes import noted_problems
from capsule.worker import misfits, serving
from capsule.worker.following import Follower
from capsule.worker.looking import LOOK_SECONDS
from capsule.worker.patience import Patience
from capsule.worker.tally import Tally
from sonar.chain._artifact import artifact, event_topic
from sonar.chain.calls import create_campaign
from sonar.chain.client import SonarClient
from sonar.chain.errors import RpcUnavailableError
from sonar.protocol.messages import hash_admission
from sonar.units import Ppm, ether


@pytest.fixture(scope="module")
def chain_url(remote: Remote) -> str:
    return remote.url


def through(world: Any, line: Line) -> None:
    """Has the worker talk to the node through the line, from now on."""
    client = SonarClient.connect(line.url, world.chain.address, world.attester, timeout=5)
    object.__setattr__(world.capsule, "chain", client)


def test_a_node_behind_the_one_before_is_waited_for(world: Any, scientist: Any, line: Line) -> None:
    through(world, line)
    campaign = scientist.campaign()
    for _ in range(2):
        campaign.submit()
    steps(world)
    position = world.capsule.state.position()
    old = hex(world.chain.block_number() - 2)

    def lagging(request: dict[str, Any], result: Any) -> Any:
        if request["method"] == "eth_getBlockByNumber" and request["params"][0] == "latest":
            return world.chain.web3.provider.make_request("eth_getBlockByNumber", [old, False])["result"]
        return result

    line.answer = lagging
    world.worker.step()
    assert "behind" in world.worker.health()["problems"]["chain"]
    assert world.capsule.state.position() == position
    line.answer = None
    campaign.submit()
    steps(world)
    check_settled_once(world, campaign, 1)


def stalled(world: Any, line: Line) -> tuple[Follower, Tally, list[float]]:
    """One that follows through a line whose node shows no block after the present one, its numbers and its clock."""
    last = world.chain.block_number()
    shown = hex(last)

    def stall(request: dict[str, Any], result: Any) -> Any:
        if request["method"] != "eth_getBlockByNumber":
            return result
        wanted = request["params"][0]
        if wanted == "latest":
            return world.chain.web3.provider.make_request("eth_getBlockByNumber", [shown, False])["result"]
        return result if int(wanted, 16) <= last else None

    line.answer = stall
    chain = SonarClient.connect(line.url, world.chain.address, world.attester, timeout=5)
    tally, clock = Tally(), [0.0]
    return Follower(dataclasses.replace(world.capsule, chain=chain), 0, tally, lambda: clock[0]), tally, clock


def test_a_stalled_node_takes_back_nothing_that_others_read(world: Any, scientist: Any, line: Line) -> None:
    campaign = scientist.campaign()
    steps(world)
    follower, tally, clock = stalled(world, line)
    for _ in range(3):
        campaign.submit()
        steps(world)
        for _ in range(3):
            clock[0] += 250
            with pytest.raises(RpcUnavailableError, match="behind another one"):
                follower.follow()
            steps(world, 1)
    assert tally.reorganisations.value == world.capsule.state.position().rewinds == 0
    check_settled_once(world, campaign, 1)


def test_blocks_that_no_node_has_any_more_are_forgotten_once(world: Any, scientist: Any, line: Line) -> None:
    campaign = scientist.campaign()
    campaign.submit()
    steps(world)
    follower, tally, clock = stalled(world, line)
    campaign.submit()
    steps(world)
    assert len(world.capsule.state.submissions(campaign.id, 0)) == 2
    for _ in range(3):
        clock[0] += 199
        with pytest.raises(RpcUnavailableError, match="behind another one"):
            follower.follow()
    for _ in range(3):
        clock[0] += 1000
        follower.follow()
    assert tally.reorganisations.value == world.capsule.state.position().rewinds == 1
    assert len(world.capsule.state.submissions(campaign.id, 0)) == 1
    campaign.submit()
    steps(world)
    check_settled_once(world, campaign, 1)


@pytest.mark.parametrize("lie", ["left out", "made up", "twice"])
def test_events_that_are_left_out_or_made_up_are_never_judged(world: Any, scientist: Any, line: Line, lie: str) -> None:
    through(world, line)
    campaign = scientist.campaign()
    submitted = submission_topic()

    def lying(request: dict[str, Any], result: Any) -> Any:
        if request["method"] != "eth_getLogs":
            return result
        ours = [log for log in result if bytes.fromhex(log["topics"][0][2:]) == submitted]
        others = [log for log in result if log not in ours]
        if lie == "left out":
            return others + ours[1:]
        if lie == "made up":
            return others + [{**log, "data": _changed(log["data"])} for log in ours]
        return others + ours + ours[:1]

    line.answer = lying
    for _ in range(3):
        campaign.submit()
    for _ in range(4):
        world.worker.step()
    if lie != "twice":
        assert signatures(world, campaign) == []
        assert "contradict" in world.worker.health()["problems"][campaign.id.hex()]
    line.answer = None
    world.worker.stop()
    world.restart()
    steps(world, 5)
    assert len(signatures(world, campaign)) == 1
    check_settled_once(world, campaign, 1)


def test_a_contradiction_long_after_another_is_read_again_at_once_and_one_soon_after_is_not(
    world: Any, scientist: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign, now, tally = scientist.campaign(scientist.spec(round_seconds=3000)), [0.0], world.worker.tally
    campaign.submit()
    monkeypatch.setattr(serving, "Patience", lambda *waits: Patience(*waits, lambda: now[0]))
    look, problems = world.chain.round, world.worker.health

    def contradicted() -> None:
        """So many passes as it takes to believe a node that shows another head."""
        with monkeypatch.context() as lying:
            lying.setattr(world.chain, "round", lambda *a, **k: dataclasses.replace(look(*a, **k), head=bytes(32)))
            for _ in range(2):
                world.advance_time(LOOK_SECONDS)
                world.worker.step()

    for times in range(1, 5):
        contradicted()
        assert tally.reorganisations.value == times
        assert problems()["ok"]
        now[0] += 31
        world.advance_time(1)
        steps(world, 1)
    contradicted()
    world.advance_time(1)
    steps(world, 1)
    contradicted()
    assert tally.reorganisations.value == 5
    assert "contradict" in problems()["problems"][campaign.id.hex()]


def submission_topic() -> bytes:
    entries = artifact()["abi"]
    return event_topic(next(entry for entry in entries if entry.get("name") == "GradientSubmitted"))


def _changed(data: str) -> str:
    words = bytearray.fromhex(data[2:])
    words[40] ^= 1  # in the second word, the artifact's digest
    return "0x" + words.hex()


def word(value: int) -> str:
    """A number as a node shows it in what the contract answers."""
    return f"{value:064x}"


def other_terms(old: int, new: int) -> Any:
    """A node that tells one number of every campaign's terms otherwise."""

    def lying(request: dict[str, Any], result: Any) -> Any:
        is_call = request["method"] == "eth_call" and isinstance(result, str)
        return result.replace(word(old), word(new)) if is_call else result

    return lying


@pytest.mark.parametrize("posted", [False, True], ids=["before a gradient", "with gradients"])
def test_a_false_answer_about_the_terms_ends_no_campaign(
    world: Any, scientist: Any, line: Line, monkeypatch: pytest.MonkeyPatch, posted: bool
) -> None:
    now = [0.0]
    monkeypatch.setattr(misfits, "Patience", lambda *waits: Patience(*waits, lambda: now[0]))
    through(world, line)
    campaign = scientist.campaign()
    bond = campaign.draft.parsed.payout.bond
    line.answer = other_terms(bond, 2 * bond)
    for _ in range(3 * posted):
        campaign.submit()
    for _ in range(2):
        world.worker.step()
        assert "bond" in world.worker.health()["problems"][campaign.id.hex()]
    assert world.worker.tally.misfits.value == 1
    assert signatures(world, campaign) == []
    line.answer = None
    for _ in range(3 * (not posted)):
        campaign.submit()
    now[0] += 30
    steps(world)
    assert world.worker.tally.misfits.value == 0
    check_settled_once(world, campaign, 1)


def test_a_false_answer_about_the_deadline_ends_a_campaign_until_its_next_gradient_at_most(
    world: Any, scientist: Any, line: Line
) -> None:
    through(world, line)
    campaign = scientist.campaign()
    line.answer = other_terms(world.chain.campaign(campaign.id).terms.deadline, 1)
    world.worker.step()
    assert world.capsule.state.running() == []
    line.answer = None
    for _ in range(3):
        campaign.submit()
    steps(world)
    check_settled_once(world, campaign, 1)


def test_a_campaign_that_was_created_otherwise_than_admitted_is_told_until_its_end(
    world: Any, scientist: Any, line: Line
) -> None:
    through(world, line)
    draft = scientist.draft()
    given, chain = scientist.admit(draft), world.chain_for(scientist.account)
    terms = dataclasses.replace(draft.parsed.terms(bounty=ether(1), deadline=chain.now() + 1000), min_gain=Ppm(1))
    chain.transact(create_campaign(terms, given.admission, given.signature, draft.spec.cid, draft.model.cid))
    campaign = hash_admission(world.domain, given.admission)
    for _ in range(2):
        world.worker.step()
        assert "min_gain" in world.worker.health()["problems"][campaign.hex()]
    world.advance_time(1001)
    steps(world)
    assert world.capsule.state.running() == []
    assert world.worker.tally.misfits.value == 0


def test_logs_of_another_fork_are_refused(world: Any, scientist: Any, line: Line) -> None:
    through(world, line)
    campaign = scientist.campaign()
    steps(world)
    position = world.capsule.state.position()

    def forked(request: dict[str, Any], result: Any) -> Any:
        if request["method"] == "eth_getLogs":
            return [{**log, "blockHash": "0x" + "ab" * 32} for log in result]
        return result

    line.answer = forked
    campaign.submit()
    world.worker.step()
    assert "changed while it was read" in world.worker.health()["problems"]["chain"]
    assert world.capsule.state.position() == position
    line.answer = None
    for _ in range(2):
        campaign.submit()
    steps(world)
    check_settled_once(world, campaign, 1)


def test_a_node_that_goes_away_is_waited_for_with_ever_more_patience(world: Any, scientist: Any, line: Line) -> None:
    through(world, line)
    campaign = scientist.campaign()
    thread = threading.Thread(target=world.worker.run, args=(0.05,))
    thread.start()
    try:
        until(lambda: world.capsule.state.running(), "the campaign is followed")
        line.cut = True
        until(lambda: "chain" in world.worker.health()["problems"], "the outage is told")
        assert world.worker.health()["since"]["chain"] > 0
        for _ in range(3):
            campaign.submit()
        assert world.worker.tally.outages.value == 1
        line.cut = False
        until(lambda: world.chain.round(campaign.id).number == 1, "the round is settled")
        until(lambda: world.worker.health()["ok"], "the worker is well")
        until(lambda: world.capsule.state.counts()["unsettled"] == 0, "the settlement is final")
    finally:
        world.worker.stop()
        thread.join(30)
    check_settled_once(world, campaign, 1)


def test_an_invented_settlement_is_a_problem_only_until_the_contract_contradicts_it(
    world: Any, scientist: Any, line: Line
) -> None:
    through(world, line)
    real, second = scientist.campaign(), scientist.campaign()
    for _ in range(3):
        real.submit()
    steps(world)
    logs = {"address": world.chain.address, "fromBlock": hex(0), "toBlock": "latest"}
    topic = "0x" + next(event_topic(e) for e in artifact()["abi"] if e.get("name") == "RoundSettled").hex()
    (true,) = (log for log in rpc_ask(world, "eth_getLogs", logs) if log["topics"][0] == topic)
    told: list[int] = []

    def invent(request: dict[str, Any], result: Any) -> Any:
        last = [log for log in result if log["topics"][1] == "0x" + second.id.hex()] if is_logs(request) else []
        if not last or told:
            return result
        told.append(1)
        lie = {**true, **{name: last[-1][name] for name in ("blockNumber", "blockHash", "transactionHash")}}
        topics = [topic, "0x" + second.id.hex(), *true["topics"][2:]]
        return [*result, {**lie, "topics": topics, "logIndex": hex(99)}]

    line.answer = invent
    second.submit()
    world.worker.step()
    assert told
    assert world.capsule.state.missed() == {second.id: 0}
    line.answer = None
    for _ in range(2):
        second.submit()
    steps_until_settled(world, second)
    assert world.capsule.state.missed() == {}
    assert world.worker.tally.undeliverable.value == 0
    check_settled_once(world, second, 1)


@pytest.mark.parametrize(
    "words", ["\x1b]0;owned\x07\x1b[2J\nok", "half \ud800", "x" * 100_000], ids=["escapes", "half a character", "long"]
)
def test_what_a_node_says_is_noted_and_steers_no_terminal(world: Any, scientist: Any, line: Line, words: str) -> None:
    through(world, line)
    scientist.campaign()
    world.worker.step()
    line.answer = lambda request, result: Refusal(words) if is_logs(request) else result
    scientist.campaign()  # a block
    world.worker.step()
    problems = world.worker.health()["problems"]
    assert set(problems) == {"chain"}, "and none of noting it"
    noted, _ = noted_problems(world.capsule.state)["chain"]
    assert noted == problems["chain"]
    assert noted.isprintable()
    assert len(noted) < 1000


def is_logs(request: dict[str, Any]) -> bool:
    return bool(request["method"] == "eth_getLogs")


def rpc_ask(world: Any, method: str, *parameters: Any) -> Any:
    return world.chain.web3.provider.make_request(method, list(parameters))["result"]


def steps_until_settled(world: Any, campaign: Any) -> None:
    until(lambda: world.worker.step() or world.chain.round(campaign.id).number == 1, "it is settled")
    steps(world)
