"""The machine finds what it is there for: contracts with one mistake each are told from the right one."""

import shutil
from random import Random
from typing import NamedTuple

import pytest
from chains.artifacts import ROOT, load_artifacts
from chains.revm import RevmChain

from machine.driver import Failure, draw, run
from machine.world import World


class Mistake(NamedTuple):
    """A mistake that somebody could make."""

    name: str
    right: str
    wrong: str
    file: str = "Sonar.sol"


MISTAKES = [
    Mistake(
        "withdraw may be re-entered", "address to) external override nonReentrant", "address to) external override"
    ),
    Mistake(
        "a top-up may be re-entered",
        "amount) external payable override nonReentrant",
        "amount) external payable override",
    ),
    Mistake("what was withdrawn is still owed", "credit[token][msg.sender] = 0;", ""),
    Mistake(
        "dust is what a share rounds up to",
        "i == lastPaid ? unpaid : payout",
        "i == lastPaid ? (payout * outcome.share + PPM - 1) / PPM : payout",
    ),
    Mistake("the first with a share takes the dust", "lastPaid = i;", "if (lastPaid == 0) lastPaid = i;"),
    Mistake(
        "a round closes a second late",
        "block.timestamp >= _closesAt(progress)",
        "block.timestamp > _closesAt(progress)",
    ),
    Mistake("a round expires a second late", "if (block.timestamp < expiresAt)", "if (block.timestamp <= expiresAt)"),
    Mistake(
        "an owner closes a second late",
        "block.timestamp < progress.deadline && progress.version",
        "block.timestamp <= progress.deadline && progress.version",
    ),
    Mistake(
        "an admission ends a second early",
        "block.timestamp > admission.validUntil",
        "block.timestamp >= admission.validUntil",
    ),
    Mistake("a top-up pays for the past", "record.offset += slope * (", "record.offset += 0 * slope * ("),
    Mistake(
        "a top-up's slope is rounded up",
        "slope = slope * _base(record) / (record.target - record.progress.score);",
        "slope = slope * _base(record) / (record.target - record.progress.score) + 1;",
    ),
    Mistake("the target does not pay all", "record.payoutBase == PayoutBase.Gain && score >= target", "false"),
    Mistake("payouts rise above the target", "(score < target ? score : target)", "(score < target ? score : score)"),
    Mistake("an expiry takes any entries", "        _checkEntries(id, record, round, entries);", ""),
    Mistake(
        "an expiry pays the owner", "_credit(NATIVE, entries[i].mine, bond);", "_credit(NATIVE, record.owner, bond);"
    ),
    Mistake("the contract pays itself", "to == address(0) || to == address(this)", "to == address(0)"),
    Mistake("slashed bonds vanish", "if (lost > 0) {", "if (lost > bond) {"),
    Mistake("shares may sum to less than one", "if (advances && sum != PPM)", "if (advances && sum > PPM)"),
    Mistake("shares may sum to more than one", "if (advances && sum != PPM)", "if (advances && sum < PPM)"),
    Mistake("a settlement fits any entries", "if (settlement.head != head)", "if (settlement.head == bytes32(0))"),
    Mistake(
        "anybody's settlement counts",
        "_checkSignature(record.oracle, hashSettlement(settlement), signature);",
        "if (signature.length == 0) _checkSignature(record.oracle, hashSettlement(settlement), signature);",
    ),
    Mistake("tokens may deliver less", "if (received != amount)", "if (received > amount)"),
    Mistake("tokens may deliver more", "if (received != amount)", "if (received < amount)"),
    Mistake(
        "an owner closes with a gradient waiting",
        "if (progress.count > 0) {\n            revert Sonar_RoundPending",
        "if (progress.count > 1) {\n            revert Sonar_RoundPending",
    ),
    Mistake(
        "a campaign is closed twice", "if (progress.status == Status.Closed)", "if (progress.status == Status.None)"
    ),
    Mistake(
        "the refund is the whole bounty", "uint256 refund = record.bounty - ", "uint256 refund = record.bounty - 0 * "
    ),
    Mistake("an offer is accepted twice", "record.pendingOwner = address(0);", ""),
    Mistake("one round too many", "progress.settled == progress.maxRounds", "progress.settled > progress.maxRounds"),
    Mistake("one member signs twice", "signer <= previous ||", "signer < previous ||", "CapsuleCommittee.sol"),
    Mistake("one member is enough", "length < threshold * SIGNATURE_LENGTH", "length == 0", "CapsuleCommittee.sol"),
]
EPISODES, STEPS = 40, 500


@pytest.mark.full
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name.replace(" ", "-"))
def test_a_mistake_is_found(tmp_path, mistake):
    world = _world_with(tmp_path, mistake)
    for episode in range(EPISODES):
        random = Random(episode)
        try:
            run(world, (draw(random, world) for _ in range(STEPS)))
        except Failure as failure:
            print(f"{mistake.name}: found after {episode * STEPS + len(failure.log)} steps\n{failure.reason}")
            return
    pytest.fail(f"{EPISODES * STEPS} steps did not tell that {mistake.name}")


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name.replace(" ", "-"))
def test_a_mistake_is_in_the_source_as_it_is_now(mistake):
    assert _source(ROOT, mistake).read_text().count(mistake.right) == 1


def _source(root, mistake):
    return root / "contracts" / mistake.file


def _world_with(root, mistake):
    shutil.copytree(ROOT / "contracts", root / "contracts")
    for shared in ("node_modules", "scripts"):
        (root / shared).symlink_to(ROOT / shared)
    source = _source(root, mistake)
    source.write_text(source.read_text().replace(mistake.right, mistake.wrong))
    artifacts = load_artifacts(root)
    return World(RevmChain(artifacts), artifacts)
