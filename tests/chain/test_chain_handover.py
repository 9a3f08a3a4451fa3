"""Campaigns that are topped up and handed over: calls, events and views agree with the contract."""

import pytest
from eth_abi import abi as codec

from sonar.chain import calls
from sonar.chain._artifact import artifact, event_topic
from sonar.chain.cursor import campaign_events
from sonar.chain.errors import ContractRevertError
from sonar.chain.events import BountyRaised, CampaignTransferred, CampaignTransferStarted
from sonar.chain.logs import decode_log
from sonar.chain.records import NATIVE, PayoutBase
from sonar.units import Address, Ppm, Wei, ether


def address(client) -> Address:
    return Address(client.account.address)


def refused(client, call) -> ContractRevertError:
    with pytest.raises(ContractRevertError) as caught:
        client.transact(call)
    return caught.value


@pytest.mark.parametrize("base", PayoutBase)
def test_anybody_may_top_up_and_every_quote_rises(stage, mines, base):
    campaign = stage(payout_base=base)
    (friend,) = mines(1)
    before = campaign.owner.quote(campaign.id, Ppm(450_000))
    (event,) = friend.transact(calls.top_up(campaign.id, ether("0.5"))).events
    assert event == BountyRaised(
        event.block, event.log_index, event.transaction, campaign.id, address(friend), ether("0.5"), ether("1.5")
    )
    assert campaign.owner.campaign(campaign.id).terms.bounty == ether("1.5")
    assert campaign.owner.quote(campaign.id, Ppm(450_000)) == before * 3 // 2


def test_a_top_up_pays_for_what_is_still_to_come(stage, mines):
    campaign = stage(round_size=1, min_mines=1, payout_base=PayoutBase.GAIN)
    (mine,) = mines(1)
    campaign.submit(mine, "a")
    entries = [campaign.entry(address(mine), "a")]
    campaign.settle(mine, campaign.settlement(entries, 450_000), entries)
    paid = campaign.owner.campaign(campaign.id).paid
    assert paid == ether("0.5")
    campaign.owner.transact(calls.top_up(campaign.id, ether(1)))
    record = campaign.owner.campaign(campaign.id)
    assert (record.paid, record.terms.bounty) == (paid, ether(2))
    assert campaign.owner.quote(campaign.id, Ppm(800_000)) == ether("1.5")


def test_top_ups_that_cannot_be_are_refused_with_their_reasons(stage, advance_time):
    campaign = stage()
    owner = campaign.owner
    assert refused(owner, calls.top_up(campaign.id, Wei(0))).name == "Sonar_AmountZero"
    unpaid = calls.Call("topUp", (campaign.id, 5), Wei(4))
    assert refused(owner, unpaid).arguments == {"sent": 4, "required": 5}
    large = refused(owner, calls.top_up(campaign.id, Wei(2**128 - 1), Address("0x" + "11" * 20)))
    assert (large.name, "add less" in str(large)) == ("Sonar_BountyOverflow", True)
    advance_time(7300)
    assert refused(owner, calls.top_up(campaign.id, Wei(5))).name == "Sonar_DeadlinePassed"
    owner.transact(calls.close_campaign(campaign.id))
    closed = refused(owner, calls.top_up(campaign.id, Wei(5)))
    assert "is closed, which does not allow this" in str(closed)


def test_a_campaign_changes_hands_in_two_steps(stage, mines):
    campaign = stage()
    (heir,) = mines(1)
    owner = campaign.owner
    assert owner.pending_owner(campaign.id) is None
    (started,) = owner.transact(calls.transfer_campaign(campaign.id, address(heir))).events
    assert isinstance(started, CampaignTransferStarted)
    assert (started.id, started.owner, started.pending_owner) == (campaign.id, address(owner), address(heir))
    assert owner.pending_owner(campaign.id) == address(heir)
    assert owner.campaign(campaign.id).owner == address(owner)
    (moved,) = heir.transact(calls.accept_campaign(campaign.id)).events
    assert isinstance(moved, CampaignTransferred)
    assert (moved.id, moved.previous_owner, moved.new_owner) == (campaign.id, address(owner), address(heir))
    assert owner.pending_owner(campaign.id) is None
    assert owner.campaign(campaign.id).owner == address(heir)
    gone = refused(owner, calls.close_campaign(campaign.id))
    assert gone.arguments == {"id": campaign.id, "caller": address(owner), "owner": address(heir)}
    heir.transact(calls.close_campaign(campaign.id))
    assert (heir.credit(address(heir)), owner.credit(address(owner))) == (ether(1), 0)


def test_an_offer_is_for_one_account_and_can_be_taken_back(stage, mines):
    campaign = stage()
    heir, other = mines(2)
    owner = campaign.owner
    assert refused(heir, calls.transfer_campaign(campaign.id, address(heir))).name == "Sonar_NotOwner"
    owner.transact(calls.transfer_campaign(campaign.id, address(heir)))
    stranger = refused(other, calls.accept_campaign(campaign.id))
    assert str(stranger).endswith(
        f"is offered to {address(heir)}, not to {address(other)}: ask its owner to offer it to this account"
    )
    (event,) = owner.transact(calls.transfer_campaign(campaign.id, NATIVE)).events
    assert event.pending_owner == NATIVE
    assert owner.pending_owner(campaign.id) is None
    assert refused(heir, calls.accept_campaign(campaign.id)).name == "Sonar_NotPendingOwner"


def test_a_campaigns_own_events_hold_its_top_ups_and_hand_overs(stage, mines, deployed):
    campaign, other = stage(), stage()
    (heir,) = mines(1)
    for one in (campaign, other):
        one.owner.transact(calls.top_up(one.id, Wei(7)))
        one.owner.transact(calls.transfer_campaign(one.id, address(heir)))
        heir.transact(calls.accept_campaign(one.id))
    got = campaign_events(campaign.owner, campaign.id, deployed.block)
    assert [type(event).__name__ for event in got] == [
        "CampaignCreated", "BountyRaised", "CampaignTransferStarted", "CampaignTransferred",
    ]  # fmt: skip
    assert {event.id for event in got} == {campaign.id}


ID = bytes(range(32))
ONE, TWO = (bytes(12) + bytes([byte]) * 20 for byte in (0x11, 0x22))


@pytest.mark.parametrize(
    ("topic", "indexed", "data", "event"),
    [
        (
            "6cffc23effdad369f87f0f5cead36dc3b156849cd8570b153b61568ced1a2448",
            [ONE],
            codec.encode(["uint128", "uint128"], [5, 2**128 - 1]),
            BountyRaised(3, 4, b"\7" * 32, ID, Address("0x" + "11" * 20), Wei(5), Wei(2**128 - 1)),
        ),
        (
            "e75673918d92c93c7bd4f90362cfe294839bb696b38480cac6ac5b167fe02896",
            [ONE, bytes(32)],
            b"",
            CampaignTransferStarted(3, 4, b"\7" * 32, ID, Address("0x" + "11" * 20), NATIVE),
        ),
        (
            "5ddbc9ac087c9fa0d8ef386cb57cfd7d3d345a1bffb035489f24b32825bccc40",
            [ONE, TWO],
            b"",
            CampaignTransferred(3, 4, b"\7" * 32, ID, Address("0x" + "11" * 20), Address("0x" + "22" * 20)),
        ),
    ],
    ids=["BountyRaised", "CampaignTransferStarted", "CampaignTransferred"],
)
def test_the_bytes_of_a_log_are_what_the_interface_says(topic, indexed, data, event):
    entry = next(e for e in artifact()["abi"] if e["type"] == "event" and e["name"] == type(event).__name__)
    assert event_topic(entry).hex() == topic
    log = {
        "topics": [bytes.fromhex(topic), ID, *indexed],
        "data": data,
        "blockNumber": 3,
        "logIndex": 4,
        "transactionHash": b"\7" * 32,
    }
    assert decode_log(log) == event
