"""CapsuleCommittee: k of n Capsules sign together, and a campaign takes their word like one Capsule's."""

import pytest
from eth_account import Account
from market import BOUNTY, Market, Status, digest, judged, kept, refused

MAGIC, NO = bytes.fromhex("1626ba7e"), b"\xff" * 4
CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
DIGEST = digest("what is signed")
HALVES = [kept(1, 500_000), kept(1, 500_000), judged(0)]


def by_address(accounts):
    return sorted(accounts, key=lambda account: int(account.address, 16))


CAPSULES = by_address([Account.from_key(f"0x{byte * 32}") for byte in ("a1", "b2", "c3")])
STRANGER = Account.from_key("0x" + "d4" * 32)


def addresses(accounts):
    return [account.address for account in accounts]


def sign(account, digest_=DIGEST):
    return bytes(account.unsafe_sign_hash(digest_).signature)


def joined(*signers, digest_=DIGEST):
    """The signatures of these accounts, in this order."""
    return b"".join(sign(signer, digest_) for signer in signers)


def malleated(signature):
    """The other signature by the same key of the same digest: s in the upper half of the curve's order."""
    r, s, v = signature[:32], int.from_bytes(signature[32:64], "big"), signature[64]
    return r + (CURVE_ORDER - s).to_bytes(32, "big") + bytes([55 - v])


@pytest.fixture
def committee(chain, owner):
    """Two of three Capsules."""
    return chain.deploy("CapsuleCommittee", addresses(CAPSULES), 2, sender=owner)


# R1001, R1002, R1005
def test_a_committee_knows_its_members_and_threshold(committee):
    assert list(committee.members()) == addresses(CAPSULES)
    assert committee.threshold() == 2
    assert [committee.isMember(account) for account in addresses([*CAPSULES, STRANGER])] == [True, True, True, False]


# R1005
def test_a_new_committee_tells_who_is_in_it(committee):
    assert committee.deployment.events["CommitteeFormed"] == [{"members": addresses(CAPSULES), "threshold": 2}]


# R1003, R1004
@pytest.mark.parametrize("signers", [(0, 1), (0, 2), (1, 2), (0, 1, 2)])
def test_enough_members_in_order_sign(committee, signers):
    assert committee.isValidSignature(DIGEST, joined(*(CAPSULES[i] for i in signers))) == MAGIC


# R1003, R1004
@pytest.mark.parametrize(
    "signature",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(joined(CAPSULES[0]), id="one member of the two that it takes"),
        pytest.param(joined(CAPSULES[0], CAPSULES[0]), id="one member twice"),
        pytest.param(joined(CAPSULES[1], CAPSULES[0]), id="out of order"),
        pytest.param(joined(*by_address([CAPSULES[0], STRANGER])), id="a member and a stranger"),
        pytest.param(joined(*by_address([*CAPSULES, STRANGER])), id="all members and a stranger"),
        pytest.param(joined(CAPSULES[0], CAPSULES[1])[:-1], id="a byte short"),
        pytest.param(joined(CAPSULES[0], CAPSULES[1]) + b"\0", id="a byte more"),
        pytest.param(joined(CAPSULES[0], CAPSULES[1]) + bytes(65), id="and an empty signature"),
        pytest.param(joined(CAPSULES[0]) + bytes(65), id="an empty signature instead of one"),
        pytest.param(sign(CAPSULES[0]) + malleated(sign(CAPSULES[1])), id="a malleated signature"),
        pytest.param(sign(CAPSULES[0]) + malleated(sign(CAPSULES[0])), id="a signature and its malleated twin"),
        pytest.param(sign(CAPSULES[0]) + sign(CAPSULES[1], digest("another")), id="one member signed something else"),
        pytest.param(joined(CAPSULES[0], CAPSULES[1], digest_=digest("another")), id="both signed something else"),
    ],
)
def test_anything_else_is_no_signature_and_no_revert(committee, signature):
    assert committee.isValidSignature(DIGEST, signature) == NO


# R1001
@pytest.mark.parametrize("count", [0, 33])
def test_a_committee_has_one_to_thirty_two_members(chain, owner, count):
    members = [f"0x{number:040x}" for number in range(1, count + 1)]
    with refused("CapsuleCommittee_SizeOutOfRange", count, 32):
        chain.deploy("CapsuleCommittee", members, 1, sender=owner)


# R1001, R905
def test_the_largest_committee_can_settle_a_round(chain, market, owner, mines):
    capsules = by_address([Account.from_key(digest(f"capsule {number}")) for number in range(32)])
    committee = chain.deploy("CapsuleCommittee", addresses(capsules), 32, sender=owner)
    campaign, _ = created(market, owner, committee, capsules)
    market.fill(campaign, mines[:3])
    settlement = market.settlement(campaign, 180_000, HALVES)
    signature = joined(*capsules, digest_=market.digest("Settlement", settlement))
    market.settle(campaign, 180_000, HALVES, sender=mines[0], signature=signature)
    assert market.sonar.getCampaign(campaign.id)["score"] == 180_000


# R1001
@pytest.mark.parametrize("threshold", [0, 4])
def test_the_threshold_is_one_to_all_of_the_members(chain, owner, threshold):
    with refused("CapsuleCommittee_ThresholdOutOfRange", threshold, 3):
        chain.deploy("CapsuleCommittee", addresses(CAPSULES), threshold, sender=owner)


# R1001, R1003
@pytest.mark.parametrize("threshold", [1, 3])
def test_one_of_all_and_all_of_all_are_committees(chain, owner, threshold):
    committee = chain.deploy("CapsuleCommittee", addresses(CAPSULES), threshold, sender=owner)
    assert committee.isValidSignature(DIGEST, joined(*CAPSULES[:threshold])) == MAGIC
    assert committee.isValidSignature(DIGEST, joined(*CAPSULES[: threshold - 1])) == NO


# R1001
@pytest.mark.parametrize(
    ("order", "index"), [((1, 0, 2), 1), ((0, 0, 1), 1), ((0, 2, 1), 2)], ids=["first two", "twice", "last two"]
)
def test_members_are_given_in_ascending_order_each_once(chain, owner, order, index):
    members = [CAPSULES[i].address for i in order]
    with refused("CapsuleCommittee_MembersNotAscending", index, members[index]):
        chain.deploy("CapsuleCommittee", members, 1, sender=owner)


# R1001
def test_the_zero_address_is_no_member(chain, owner):
    with refused("CapsuleCommittee_MembersNotAscending", 0, "0x" + 40 * "0"):
        chain.deploy("CapsuleCommittee", ["0x" + 40 * "0", CAPSULES[0].address], 1, sender=owner)


# R1001
def test_every_other_address_may_be_a_member(chain, owner):
    members = [f"0x{number:040x}" for number in (1, 2**160 - 1)]
    committee = chain.deploy("CapsuleCommittee", members, 2, sender=owner)
    assert [committee.isMember(member) for member in members] == [True, True]


# As the oracle of a campaign


def created(market, owner, committee, signers, **changes):
    """A campaign whose Admission a committee's members signed."""
    admission = market.admission(owner, oracle=str(committee), **changes)
    signature = joined(*signers, digest_=market.digest("Admission", admission))
    return market.create(owner, admission=admission, signature=signature)


# R106, R204, R401, R501
def test_a_committee_admits_and_settles(market, sonar, committee, owner, mines):
    campaign, _ = created(market, owner, committee, CAPSULES[:2])
    market.fill(campaign, mines[:3])
    settlement = market.settlement(campaign, 180_000, HALVES)
    signed = market.digest("Settlement", settlement)
    for signers in (CAPSULES[:1], by_address([CAPSULES[2], STRANGER])):
        with refused("Sonar_BadSignature", committee, signed):
            signature = joined(*signers, digest_=signed)
            market.settle(campaign, 180_000, HALVES, sender=mines[0], signature=signature)
    market.settle(campaign, 180_000, HALVES, sender=mines[0], signature=joined(*CAPSULES[1:], digest_=signed))
    assert sonar.getCampaign(campaign.id)["paid"] == BOUNTY // 10
    assert market.status(campaign) == Status.RUNNING


# R103
def test_an_admission_by_one_capsule_does_not_count_for_a_committee_that_it_alone_can_sign_for(chain, sonar, owner):
    capsule = CAPSULES[0]
    alone = Market(sonar, capsule.key)
    lax = chain.deploy("CapsuleCommittee", addresses(CAPSULES), 1, sender=owner)
    admission = alone.admission(owner)
    signature = alone.sign("Admission", admission)
    renamed = admission | {"oracle": str(lax)}
    with refused("Sonar_BadSignature", lax, alone.digest("Admission", renamed)):
        alone.create(owner, admission=renamed, signature=signature)
    alone.create(owner, admission=admission, signature=signature)
