"""A committee of Capsules as a campaign's oracle: deployed, read back, and its signatures believed alike everywhere."""

from itertools import combinations, permutations

import pytest
from eth_account import Account

from sonar.chain import calls
from sonar.chain._artifact import artifact
from sonar.chain._rpc import connect_web3
from sonar.chain.committee import Committee, deploy_committee, read_committee
from sonar.chain.errors import ContractRevertError, WrongChainError
from sonar.chain.records import Status, Verdict
from sonar.errors import ConfigError
from sonar.protocol.committee import join_signatures, verify_joined
from sonar.protocol.errors import SignatureError
from sonar.protocol.messages import hash_settlement, sign_settlement
from sonar.units import Address, digest_of


@pytest.fixture
def members():
    return [Account.create() for _ in range(3)]


@pytest.fixture
def committee(chain_web3, new_account, members):
    return deploy_committee(chain_web3, new_account(), [member.address for member in members], 2)


def test_a_committee_reads_back_as_it_was_deployed(chain_web3, committee, members):
    ascending = tuple(sorted((member.address for member in members), key=lambda address: int(address, 16)))
    assert committee == Committee(committee.address, ascending, 2)
    assert read_committee(chain_web3, Address(committee.address.lower())) == committee


@pytest.mark.parametrize("signing", [*combinations(range(3), 2), (0, 1, 2)])
def test_a_campaign_is_admitted_judged_and_paid_by_enough_of_a_committee(client_for, new_account, play, panel, mines,
                                                                         committee, members, signing):  # fmt: skip
    oracle = panel(committee, [members[i] for i in signing])
    campaign = play(client_for(new_account()), oracle, round_size=2)
    two = mines(2)
    entries = [campaign.entry(mine.account.address, str(i)) for i, mine in enumerate(two)]
    for index, mine in enumerate(two):
        campaign.submit(mine, str(index))
    receipt = campaign.settle(two[0], campaign.settlement(entries, 800_000), entries)
    assert [event.verdict for event in receipt.events[:2]] == [Verdict.KEPT] * 2
    assert campaign.owner.campaign(campaign.id).status is Status.FINISHED
    for mine in two:
        mine.transact(calls.withdraw(Address(mine.account.address)))
    campaign.owner.transact(calls.close_campaign(campaign.id))
    assert campaign.owner.campaign(campaign.id).oracle == committee.address


@pytest.mark.parametrize("signing", [0, 1, 2])
def test_one_member_cannot_settle_for_a_committee_of_two(client_for, new_account, play, panel, mines, committee,
                                                         members, signing):  # fmt: skip
    campaign = play(client_for(new_account()), panel(committee, members), round_size=1, min_mines=1)
    (mine,) = mines(1)
    campaign.submit(mine, "a")
    entries = [campaign.entry(mine.account.address, "a")]
    settlement = campaign.settlement(entries, 200_000)
    alone = sign_settlement(campaign.domain, settlement, members[signing])
    for signature in (alone, alone + alone):
        with pytest.raises(ContractRevertError) as caught:
            mine.transact(calls.settle_round(settlement, entries, signature))
        assert caught.value.name == "Sonar_BadSignature"
        assert caught.value.arguments == {
            "oracle": committee.address, "digest": hash_settlement(campaign.domain, settlement),
        }  # fmt: skip


def test_signatures_are_believed_off_chain_exactly_where_the_contract_believes_them(chain_web3, committee, members):
    digest = digest_of(b"anything")
    by = {
        account.address: bytes(account.unsafe_sign_hash(digest).signature) for account in (*members, Account.create())
    }
    other = bytes(members[0].unsafe_sign_hash(digest_of(b"else")).signature)
    parts = [*by.values(), other, bytes(65), by[members[0].address][:64]]
    chosen = [*(pick for size in range(3) for pick in permutations(parts, size)), *permutations(parts[:3])]
    attempts = [b"".join(pick) for pick in chosen]
    contract = chain_web3.eth.contract(address=committee.address, abi=artifact("CapsuleCommittee")["abi"])

    def off_chain(signature):
        try:
            verify_joined(digest, signature, committee.members, committee.threshold)
        except SignatureError:
            return False
        return True

    believed = [signature for signature in attempts if off_chain(signature)]
    assert len(believed) == 4, "three pairs and all three, each in one order"
    assert join_signatures({member.address: by[member.address] for member in members}) in believed
    for signature in attempts:
        magic = contract.functions.isValidSignature(digest, signature).call()
        assert (magic == bytes.fromhex("1626ba7e")) == (signature in believed)


def test_a_committee_that_cannot_be_is_refused_before_it_is_paid_for(chain_web3, new_account, members):
    addresses = [member.address for member in members]
    account = new_account()
    for given, threshold, says in [
        (addresses, 0, "the threshold of 3 members is 1 to 3, not 0"),
        (addresses, 4, "the threshold of 3 members is 1 to 3, not 4"),
        ([*addresses, addresses[1].lower()], 2, "stands in the committee twice"),
        ([], 1, "1 to 32 members, not 0"),
        ([Account.create().address for _ in range(33)], 1, "1 to 32 members, not 33"),
        ([*addresses[:2], "0x12"], 1, "'0x12' is not an address"),
    ]:
        with pytest.raises(ConfigError, match=says):
            deploy_committee(chain_web3, account, given, threshold)
    assert chain_web3.eth.get_transaction_count(account.address) == 0


def test_other_code_is_no_committee(chain_web3, chain_url, deployed, new_token):
    for place in (deployed.address, Account.create().address, new_token("HonestToken").address):
        with pytest.raises(WrongChainError, match=rf"what is at {place} does not answer like a CapsuleCommittee"):
            read_committee(chain_url, Address(place))


def test_code_that_answers_like_a_committee_is_compared_byte_by_byte(chain_url, committee, monkeypatch):
    web3 = connect_web3(chain_url, 10)
    real = web3.provider.make_request

    def tampered(method, parameters):
        answer = real(method, parameters)
        if method == "eth_getCode":
            answer["result"] = answer["result"][:-2] + "ff"
        return answer

    monkeypatch.setattr(web3.provider, "make_request", tampered)
    with pytest.raises(WrongChainError, match=r"byte \d+ is 0xff instead of"):
        read_committee(web3, committee.address)
