"""What a node tells of campaigns of every kind is audited: true stories hold, wherever their life has led."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from nodes import Remote, running_node

from pysonar.cli import main as pysonar_main
from sonar.audit import Report
from sonar.audit.chain import fold
from sonar.audit.report import Notes
from sonar.audit.story import Story, read_story
from sonar.chain import calls
from sonar.chain.client import SonarClient
from sonar.chain.committee import deploy_committee
from sonar.chain.errors import ContractRevertError, RpcUnavailableError
from sonar.chain.token import ensure_allowance
from sonar.cli import main
from sonar.config import Network
from sonar.units import Address, CampaignId, Wei, ether


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    """A node whose chain can be reorganised."""
    with running_node("anvil", tmp_path_factory.mktemp("node")) as node:
        yield node


@pytest.fixture(scope="module")
def chain_url(node: Remote) -> str:
    return node.url


def told_by(story: Story) -> Report:
    """An audit of what the chain alone tells; these campaigns have no artifacts."""
    notes = Notes()
    fold(story, notes)
    return Report(story.campaign, story.block, tuple(notes.findings))


def audited(client: SonarClient, campaign: CampaignId) -> Report:
    """The same of what a node tells now."""
    return told_by(read_story(client, campaign, 0))


def assert_true(client: SonarClient, campaign: CampaignId) -> Report:
    """Everything holds."""
    report = audited(client, campaign)
    assert (report.differences, report.unchecked, report.exit_code) == ((), (), 0)
    return report


def test_a_campaign_without_rounds_holds_from_its_creation_to_its_end(stage: Callable[..., Any]) -> None:
    campaign = stage()
    owner = campaign.owner
    assert_true(owner, campaign.id)
    owner.transact(calls.top_up(campaign.id, Wei(7)))
    assert_true(owner, campaign.id)
    owner.transact(calls.close_campaign(campaign.id))
    assert_true(owner, campaign.id)
    owner.transact(calls.withdraw(Address(owner.signer.address)))
    assert_true(owner, campaign.id)


def test_a_campaign_that_is_offered_refused_and_handed_over_holds(
    stage: Callable[..., Any], mines: Callable[[int], list[SonarClient]]
) -> None:
    campaign, (heir, other) = stage(), mines(2)
    for to in (other, heir):
        campaign.owner.transact(calls.transfer_campaign(campaign.id, Address(to.signer.address)))
        assert_true(heir, campaign.id)
    heir.transact(calls.accept_campaign(campaign.id))
    assert_true(heir, campaign.id)
    heir.transact(calls.close_campaign(campaign.id))
    assert_true(heir, campaign.id)


def test_pending_expired_and_settled_rounds_hold(
    stage: Callable[..., Any], mines: Callable[[int], list[SonarClient]], advance_time: Callable[[int], None]
) -> None:
    campaign, (one, other) = stage(), mines(2)
    entries = [campaign.entry(mine.signer.address, f"0 {mine.signer.address}") for mine in (one, other)]
    for number in (0, 1):
        for mine in (one, other):
            campaign.submit(mine, f"0 {mine.signer.address}", number)
        assert_true(one, campaign.id)
        advance_time(601)
        if number == 0:
            advance_time(600)
            one.transact(calls.expire_round(campaign.id, 0, entries))
        else:
            campaign.owner.transact(calls.top_up(campaign.id, Wei(12_345)))
            campaign.settle(one, campaign.settlement(entries, 450_000, 1), entries)
        assert_true(one, campaign.id)
    campaign.submit(one, f"0 {one.signer.address}", 2)
    campaign.submit(other, f"0 {other.signer.address}", 2)
    advance_time(601)
    settlement = replace(campaign.settlement(entries, 900_000, 2), key=campaign.admission.spec)
    campaign.settle(one, settlement, entries)
    told = assert_true(one, campaign.id)
    assert "it is finished at 90.00%" in [one.sentence for one in told.findings]
    campaign.owner.transact(calls.close_campaign(campaign.id))
    assert_true(one, campaign.id)


def test_a_key_that_serves_twice_is_found_whoever_signed_it(
    stage: Callable[..., Any], mines: Callable[[int], list[SonarClient]], advance_time: Callable[[int], None]
) -> None:
    campaign, pair = stage(), mines(2)
    entries = [campaign.entry(mine.signer.address, mine.signer.address) for mine in pair]
    for number, score in ((0, 200_000), (1, 300_000)):
        for mine in pair:
            campaign.submit(mine, mine.signer.address, number)
        advance_time(601)
        campaign.settle(pair[0], campaign.settlement(entries, score, number), entries)
    found = {(one.check, one.place) for one in audited(pair[0], campaign.id).differences}
    assert found == {("key", "campaign")}


def test_a_bounty_in_a_token_holds_as_long_as_the_contract_has_it(
    client_for: Callable[..., SonarClient], new_account: Callable[..., Any], new_token: Callable[..., Any],
    play: Callable[..., Any],
) -> None:  # fmt: skip
    account = new_account()
    owner, asset = client_for(account), new_token("HonestToken", {account.address: 1000})
    token = Address(asset.address)
    ensure_allowance(owner, token, Wei(1000))
    campaign = play(owner, new_account(), token=token, bounty=Wei(900))
    owner.transact(calls.top_up(campaign.id, Wei(100), token))
    assert_true(owner, campaign.id)
    story = read_story(owner, campaign.id, 0)
    assert story.held[token] == 1000
    # A token that takes away from its holders, as some do with time.
    report = told_by(replace(story, held={**story.held, token: 999}))
    assert [(one.check, one.sentence) for one in report.differences] == [(
        "conservation",
        f"the contract has 999 of token {token}, and this campaign alone must still pay 1000 of token {token}",
    )]  # fmt: skip
    # Another campaign's coin is not this one's: native coin covers no token.
    report = told_by(replace(story, held={next(iter(story.held)): ether(9)}))
    assert len(report.differences) == 1
    owner.transact(calls.close_campaign(campaign.id))
    owner.transact(calls.withdraw(Address(account.address), token))
    assert_true(owner, campaign.id)


def test_a_committees_signatures_are_counted_and_no_other_committees(
    client_for: Callable[..., SonarClient], new_account: Callable[..., Any], play: Callable[..., Any],
    panel: Callable[..., Any], mines: Callable[[int], list[SonarClient]], chain_url: str,
    advance_time: Callable[[int], None],
) -> None:  # fmt: skip
    members = [new_account() for _ in range(3)]
    committee = deploy_committee(chain_url, members[0], [one.address for one in members], 2)
    campaign, pair = play(client_for(new_account()), panel(committee, members[:2])), mines(2)
    entries = [campaign.entry(mine.signer.address, mine.signer.address) for mine in pair]
    for mine in pair:
        campaign.submit(mine, mine.signer.address)
    advance_time(601)
    campaign.settle(pair[0], campaign.settlement(entries, 200_000), entries)
    told = assert_true(pair[0], campaign.id)
    assert len([one for one in told.findings if one.check == "signature"]) == 2
    story = read_story(pair[0], campaign.id, 0)
    for others in (replace(committee, threshold=3), replace(committee, members=committee.members[2:])):
        report = told_by(replace(story, committee=others))
        assert {one.check for one in report.differences} == {"signature"}
    # A node that names another oracle in the record does not choose who must have signed.
    lie = replace(story.record, oracle=Address(members[2].address))
    assert {one.check for one in told_by(replace(story, record=lie)).differences} == {"record"}


def test_a_chain_that_is_reorganised_while_it_is_read_is_read_again(
    stage: Callable[..., Any], mines: Callable[[int], list[SonarClient]], node: Remote
) -> None:
    campaign, (mine,) = stage(), mines(1)
    before = [node.snapshot()]
    campaign.submit(mine, "taken back")
    reader = SonarClient.connect(node.url, campaign.owner.address)
    ask = reader.round

    def in_the_middle(*arguments: Any, **options: Any) -> Any:
        if before:
            node.revert(before.pop())
            for _ in range(3):
                node.mine()
        return ask(*arguments, **options)

    reader.round = in_the_middle  # type: ignore[method-assign]
    report = assert_true(reader, campaign.id)
    assert not before
    assert not [one for one in report.findings if "gradient 0" in one.place]

    def each_time(*arguments: Any, **options: Any) -> Any:
        answer = ask(*arguments, **options)
        node.revert(again.pop())
        again.append(node.snapshot())
        node.mine(2)
        return answer

    again = [node.snapshot()]
    node.mine(2)
    reader.round = each_time  # type: ignore[method-assign]
    with pytest.raises(RpcUnavailableError, match="changed each of the 5 times that it was read"):
        read_story(reader, campaign.id, 0)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client_for: Callable[..., SonarClient], deployed: Any,
        chain_url: str) -> Callable[..., Any]:  # fmt: skip
    """Runs `sonar audit` or `pysonar audit` on the chain's network."""
    monkeypatch.setenv("SONAR_HOME", str(tmp_path))
    monkeypatch.delenv("SONAR_NETWORK", raising=False)
    Network(
        rpc_url=chain_url, chain_id=client_for(None).chain_id, contract=deployed.address, start_block=deployed.block,
        store="memory:", capsule="0x" + "11" * 20,
    ).save()  # fmt: skip
    return lambda *words, command=main: CliRunner().invoke(command, ["audit", *words])


@pytest.mark.parametrize("command", [main, pysonar_main], ids=["sonar", "pysonar"])
def test_a_campaign_is_named_by_the_first_digits_of_its_id(
    run: Callable[..., Any], stage: Callable[..., Any], command: Any
) -> None:
    digits = stage().id.hex()
    for name in ("0x" + digits, digits.upper(), "0x" + digits[:12], digits[:4]):
        done = run(name, "--json", command=command)
        report = json.loads(done.stdout)
        assert report["campaign"] == "0x" + digits
        # This one's spec lies nowhere.
        assert [one["check"] for one in report["findings"] if one["verdict"] == "differs"] == ["spec"]
        assert done.exit_code == 1


def test_ids_that_name_no_campaign_or_several_get_a_sentence_that_helps(
    run: Callable[..., Any], stage: Callable[..., Any]
) -> None:
    ids = [stage().id.hex()]
    assert "is not the Capsule that the network file names" in run("0x" + ids[0]).stderr
    for wrong, says in {
        "0x12": "'0x12' is not a campaign's id: give 0x and its 64 hexadecimal digits, or the first 4 or more",
        "pear": "'pear' is not a campaign's id",
        "0x" + "00" * 33: "is not a campaign's id",
        "0x" + ("0000" if ids[0][:4] != "0000" else "ffff"): "begins with 0x",
    }.items():
        done = run(wrong)
        assert (done.exit_code, done.stdout) == (3, "")
        assert says in done.stderr
        assert "sonar campaigns" in done.stderr
    unknown = run("0x" + "ab" * 32)
    assert unknown.exit_code == ContractRevertError.exit_code == 4
    assert "ab" * 32 in unknown.stderr


def test_an_id_that_is_short_for_several_campaigns_is_refused_with_their_beginnings(
    client_for: Callable[..., SonarClient], stage: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sonar import overview
    from sonar.errors import ConfigError

    ids = [stage().id.hex() for _ in range(2)]
    # 16 campaigns share a digit for certain, and nobody waits for ids that share four.
    monkeypatch.setattr(overview, "_SHORTEST", 0)
    client = client_for(None)
    with pytest.raises(ConfigError) as caught:
        overview.find_campaign(client, 0, "0x")
    assert "the ids of 2 campaigns begin with 0x" in str(caught.value)
    assert all("0x" + one[:8] in str(caught.value) for one in ids)
    with pytest.raises(ContractRevertError):
        client.campaign(overview.find_campaign(client, 0, "00" * 32))
