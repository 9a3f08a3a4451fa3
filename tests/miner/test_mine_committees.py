"""Campaigns whose oracle is a committee: trusted by its members and threshold, for which the chain is not asked."""

from dataclasses import replace

import pytest
from eth_account import Account

from mine.errors import PolicyError
from mine.policy import Policy
from sonar.chain.committee import deploy_committee
from sonar.protocol.errors import SignatureError
from sonar.protocol.messages import hash_admission
from sonar.units import Address


@pytest.fixture
def members():
    return [Account.create() for _ in range(3)]


@pytest.fixture
def committee(stage, members):
    """Two of three Capsules."""
    return deploy_committee(stage.client.web3, stage.new_account(), [member.address for member in members], 2).address


def trust(mine, address, members, threshold=2):
    listed = [member.address for member in members]
    mine.agree(**{f"committees.{address}": {"members": listed, "threshold": threshold}})


def test_a_campaign_of_a_trusted_committee_is_mined(stage, opened_mine, committee, members):
    mine, ledger = opened_mine
    trust(mine, committee.lower(), members)
    campaign = stage.campaign(committee=committee, signers=members[1:])
    daemon = mine.daemon(ledger, stage.store)
    daemon.step()
    assert len(stage.submitted(campaign)) == 1
    assert "declined" not in mine.words()


def test_the_networks_own_capsule_is_trusted_beside_committees(stage, opened_mine, committee, members):
    mine, ledger = opened_mine
    trust(mine, committee, members)
    campaign = stage.campaign()
    mine.daemon(ledger, stage.store).step()
    assert len(stage.submitted(campaign)) == 1


def test_a_committee_that_the_policy_does_not_list_gets_nothing(stage, opened_mine, committee, members):
    mine, ledger = opened_mine
    campaign = stage.campaign(committee=committee, signers=members)
    daemon = mine.daemon(ledger, stage.store)
    daemon.step()
    (reason,) = mine.reasons("declined")
    assert reason == (
        f"its Capsule {committee} is not trusted: add it to `capsules` in [accept] if you do trust it, or as a "
        "table [committees.0x...] if it is one"
    )
    mine.agree(accept={"capsules": [committee]})
    daemon.step()
    assert "195 bytes are not a signature" in mine.reasons("declined")[-1]
    assert stage.submitted(campaign) == []


def test_members_that_the_chain_names_and_the_policy_does_not_sign_for_nobody(stage, opened_mine, committee, members):
    mine, ledger = opened_mine
    campaign = stage.campaign(committee=committee, signers=members[:2])
    daemon = mine.daemon(ledger, stage.store)
    trust(mine, committee, [members[0], members[2], Account.create()])
    daemon.step()
    assert f"{members[1].address}, who signed, is not a member" in mine.reasons("declined")[-1]
    trust(mine, committee, members, threshold=3)
    daemon.step()
    assert "130 bytes are not 3 or more signatures" in mine.reasons("declined")[-1]
    assert stage.submitted(campaign) == []
    trust(mine, committee, members)
    daemon.step()
    assert len(stage.submitted(campaign)) == 1
    # What was read before is looked at again once the policy names others.
    worker = mine.worker(ledger, stage.store)
    known = ledger.campaign(campaign)
    assert worker.offer(known, mine.home.policy()).campaign.id == campaign
    trust(mine, committee, members, threshold=3)
    with pytest.raises(SignatureError):
        worker.offer(known, mine.home.policy())


def test_signatures_for_one_committee_do_not_count_for_another_of_the_same_members(stage, opened_mine, members):
    mine, ledger = opened_mine
    addresses = [member.address for member in members]
    one, other = (deploy_committee(stage.client.web3, stage.new_account(), addresses, 2).address for _ in range(2))
    campaign = stage.campaign(committee=one, signers=members[:2])
    worker = mine.worker(ledger, stage.store)
    worker.follow(mine.home.policy())
    known = ledger.campaign(campaign)
    trust(mine, other, members)
    renamed = replace(known.admission, oracle=Address(other))
    forged = replace(known, id=hash_admission(stage.domain, renamed), admission=renamed)
    with pytest.raises(SignatureError):
        worker.offer(forged, mine.home.policy())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[committees.0x12]\nmembers = ["{0}"]\nthreshold = 1', "committees.0x12"),
        ('[committees.{0}]\nmembers = []\nthreshold = 1', "members"),
        ('[committees.{0}]\nmembers = ["{0}"]\nthreshold = 0', "threshold"),
        ('[committees.{0}]\nmembers = ["{0}"]\nthreshold = 2', "2 of these members cannot sign"),
        ('[committees.{0}]\nmembers = ["{0}", "{1}"]\nthreshold = 2', "name each member once"),
        ('[committees.{0}]\nmembers = ["Alice"]\nthreshold = 1', "members"),
        ('[committees.{0}]\nmembers = ["{0}"]', "threshold"),
        ('[committees.{0}]\nmembers = ["{0}"]\nthreshold = 1\ncolour = 1', "colour"),
    ],
)  # fmt: skip
def test_a_committee_that_cannot_be_is_a_mistake_in_the_policy(tmp_path, text, says):
    address = "0x" + "ab" * 20
    file = tmp_path / "policy.toml"
    file.write_text(text.format(address, address.upper().replace("X", "x")))
    with pytest.raises(PolicyError, match=says):
        Policy.load(file)
