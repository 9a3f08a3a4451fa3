"""The client against a real chain: views, transactions sent once, errors with their reasons."""

import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from eth_account import Account

from sonar.chain import calls
from sonar.chain._rpc import connect_web3, rpc
from sonar.chain.client import SonarClient, entries_head
from sonar.chain.deploy import deploy, verify_deployment
from sonar.chain.errors import (
    ChainError,
    ContractRevertError,
    RpcUnavailableError,
    TransactionFailedError,
    TransactionTimeoutError,
    UnfundedAccountError,
    WrongChainError,
)
from sonar.chain.events import GradientJudged, GradientSubmitted, RoundSettled, Withdrawn
from sonar.chain.records import NATIVE, Status, Verdict
from sonar.config import Network
from sonar.errors import ConfigError
from sonar.protocol.messages import sign_admission
from sonar.units import Address, CampaignId, Ppm, Wei, ether


def test_a_created_campaign_reads_back_as_it_was_given(stage):
    campaign = stage()
    record = campaign.owner.campaign(campaign.id)
    assert record.terms == campaign.terms
    assert (record.id, record.owner) == (campaign.id, campaign.owner.account.address)
    assert (record.status, record.version, record.paid) == (Status.RUNNING, 0, 0)
    assert (record.start_score, record.score, record.base) == (100_000, 100_000, 800_000)
    (event,) = campaign.created.events
    assert (event.id, event.terms, event.admission) == (campaign.id, campaign.terms, campaign.admission)
    assert (event.spec_cid, event.model_cid) == ("bafkreispec", "bafkreimodel")


def test_an_empty_round_has_the_seed_as_its_head(stage):
    campaign = stage()
    record = campaign.owner.round(campaign.id)
    assert (record.number, record.count, record.open, record.closes_at) == (0, 0, True, 0)
    assert record.head == entries_head(campaign.id, 0, [])


def test_the_heads_of_a_round_with_gradients_agree(stage, mines):
    campaign = stage()
    entries = []
    for index, mine in enumerate(mines(2)):
        receipt = campaign.submit(mine, str(index))
        (event,) = receipt.events
        assert isinstance(event, GradientSubmitted)
        assert (event.index, event.mine, event.cid) == (index, mine.account.address, "bafkreigradient")
        entries.append(campaign.entry(mine.account.address, str(index)))
        assert mine.last_submission(campaign.id, mine.account.address) == 0
    record = campaign.owner.round(campaign.id)
    assert (record.count, record.head) == (2, entries_head(campaign.id, 0, entries))
    assert record.closes_at == record.opened_at + 600


def test_who_never_submitted_has_no_last_submission(stage, mines):
    campaign = stage()
    (mine,) = mines(1)
    assert mine.last_submission(campaign.id, mine.account.address) is None


def test_a_settled_round_pays_what_the_quote_said(stage, mines):
    campaign = stage(round_size=2)
    two = mines(2)
    entries = [campaign.entry(mine.account.address, str(i)) for i, mine in enumerate(two)]
    for index, mine in enumerate(two):
        campaign.submit(mine, str(index))
    quote = campaign.owner.quote(campaign.id, Ppm(120_000))
    assert quote == ether("0.025")
    receipt = campaign.settle(two[0], campaign.settlement(entries, 120_000), entries)
    *judged, settled = receipt.events
    assert isinstance(settled, RoundSettled)
    assert settled.advances
    assert settled.payout == quote == sum(event.payout for event in judged if isinstance(event, GradientJudged))
    assert [event.verdict for event in judged if isinstance(event, GradientJudged)] == [Verdict.KEPT] * 2
    for mine in two:
        assert mine.credit(Address(mine.account.address)) == quote // 2 + campaign.terms.bond
    record = campaign.owner.campaign(campaign.id)
    assert (record.score, record.version, record.paid) == (120_000, 1, quote)


def test_a_credit_is_withdrawn_to_any_account(stage, mines):
    campaign = stage(min_mines=1, round_size=1)
    (mine,) = mines(1)
    campaign.submit(mine, "only")
    entries = [campaign.entry(mine.account.address, "only")]
    campaign.settle(mine, campaign.settlement(entries, 200_000), entries)
    owed = mine.credit(Address(mine.account.address))
    to = Address(Account.create().address)
    (event,) = mine.transact(calls.withdraw(to)).events
    assert event == Withdrawn(event.block, 0, event.transaction, NATIVE, mine.account.address, to, owed)
    assert mine.balance(to) == owed
    assert mine.credit(Address(mine.account.address)) == 0


def test_an_unsettled_round_can_be_expired_and_the_campaign_closed(stage, mines, advance_time):
    campaign = stage()
    (mine,) = mines(1)
    campaign.submit(mine, "late")
    entries = [campaign.entry(mine.account.address, "late")]
    with pytest.raises(ContractRevertError) as caught:
        campaign.owner.transact(calls.expire_round(campaign.id, 0, entries))
    assert caught.value.name == "Sonar_RoundNotExpired"
    with pytest.raises(ContractRevertError, match="holds 1 gradients"):
        campaign.owner.transact(calls.close_campaign(campaign.id))
    advance_time(1300)
    campaign.owner.transact(calls.expire_round(campaign.id, 0, entries))
    assert campaign.owner.round(campaign.id).number == 1
    campaign.owner.transact(calls.close_campaign(campaign.id))
    assert campaign.owner.campaign(campaign.id).status == Status.CLOSED
    assert campaign.owner.credit(Address(campaign.owner.account.address)) == campaign.terms.bounty


def test_a_revert_names_its_reason_before_anything_is_sent(stage, mines):
    campaign = stage()
    (mine,) = mines(1)
    campaign.submit(mine, "first")
    nonce = mine.next_nonce()
    with pytest.raises(ContractRevertError, match="one a round") as caught:
        campaign.submit(mine, "second")
    assert caught.value.name == "Sonar_AlreadySubmitted"
    assert caught.value.arguments == {"id": campaign.id, "round": 0, "mine": mine.account.address}
    assert mine.next_nonce() == nonce


def test_a_view_that_reverts_names_its_reason(stage):
    unknown = CampaignId(bytes(32))
    with pytest.raises(ContractRevertError, match="knows no campaign 0x0000"):
        stage().owner.campaign(unknown)


def test_a_transaction_that_reverts_in_its_block_names_its_reason(stage, mines, monkeypatch):
    campaign = stage(round_size=1, min_mines=1)
    first, second = mines(2)
    call = campaign.submission("second")
    signed = second.sign(call)
    campaign.submit(first, "first")
    # The estimate was right when it was made: only the mined block can tell.
    monkeypatch.setattr(second, "sign", lambda _: signed)
    with pytest.raises(ContractRevertError) as caught:
        second.transact(call)
    assert caught.value.name == "Sonar_RoundClosed"
    receipt = second.receipt(signed.hash)
    assert receipt is not None
    assert not receipt.succeeded
    assert receipt.events == ()


def test_a_transaction_sent_twice_happens_once(stage, mines):
    campaign = stage()
    (mine,) = mines(1)
    signed = mine.sign(campaign.submission("once"))
    assert mine.receipt(signed.hash) is None
    for _ in range(3):
        mine.send(signed)
    assert mine.wait(signed.hash).succeeded
    assert mine.used_nonce() == signed.nonce + 1 == mine.next_nonce()
    assert campaign.owner.round(campaign.id).count == 1


def test_a_transaction_whose_nonce_was_used_can_no_longer_be_sent(stage, mines):
    campaign = stage()
    (mine,) = mines(1)
    old = mine.sign(campaign.submission("old"))
    campaign.submit(mine, "new")
    with pytest.raises(TransactionFailedError, match="used its nonce 0 for another one"):
        mine.send(old)


def test_threads_of_one_client_do_not_share_a_nonce(stage, mines):
    campaigns = [stage() for _ in range(4)]
    (mine,) = mines(1)
    with ThreadPoolExecutor(4) as pool:
        receipts = list(pool.map(lambda campaign: campaign.submit(mine, "same"), campaigns))
    assert all(receipt.succeeded for receipt in receipts)
    assert mine.used_nonce() == 4


def test_an_unfunded_account_is_told_what_it_lacks(stage, client_for, new_account):
    campaign = stage()
    for wei in (0, int(ether("0.01"))):
        poor = client_for(new_account(wei))
        with pytest.raises(UnfundedAccountError, match=r"needs 0\.01 and (up to|at least) .* for gas: fund it"):
            campaign.submit(poor, "poor")


def test_an_account_is_told_to_send_what_the_transaction_takes_and_no_less(stage, client_for, new_account):
    owner = stage().owner
    poor = new_account(1)
    with pytest.raises(UnfundedAccountError) as caught:
        client_for(poor).sign(calls.close_campaign(bytes(32)))
    told = re.fullmatch(
        rf"account {poor.address} has 0\.000000000000000001 ether, but needs (?:up to|at least) (\S+) for gas: "
        r"fund it by a transfer of (\S+) ether or more",
        str(caught.value),
    )
    assert told
    assert int(ether(told[2])) + 1 >= int(ether(told[1])) >= 21_000 * owner.fee_market().usual.highest


def test_a_client_without_an_account_only_reads(stage, client_for):
    campaign = stage()
    reader = SonarClient(campaign.owner.web3, campaign.owner.address, campaign.owner.chain_id)
    assert reader.campaign(campaign.id).status == Status.RUNNING
    with pytest.raises(ChainError, match="has no account and can only read"):
        reader.transact(calls.close_campaign(campaign.id))


def test_a_transaction_that_is_in_no_block_times_out(stage):
    unknown = bytes(31) + b"\1"
    with pytest.raises(TransactionTimeoutError, match=r"in no block after 0\.05 s"):
        stage().owner.wait(unknown, timeout=0.05)


def test_a_wrong_rpc_address_is_named_without_its_path(deployed):
    with pytest.raises(RpcUnavailableError, match=r"http://127\.0\.0\.1:9 does not answer") as caught:
        SonarClient.connect("http://127.0.0.1:9/v3/secret-access-key", deployed.address)
    assert "secret" not in str(caught.value)


def test_something_that_is_no_node_is_named(chain_url, deployed, plain_http):
    with pytest.raises(RpcUnavailableError, match="is this the RPC address of an Ethereum node"):
        SonarClient.connect(plain_http, deployed.address)


def test_a_node_that_is_silent_ends_within_the_timeout(deployed, silent_server):
    begun = time.monotonic()
    with pytest.raises(RpcUnavailableError, match="did not answer in time"):
        SonarClient.connect(silent_server, deployed.address, timeout=0.2)
    assert time.monotonic() - begun < 5


def test_a_broken_connection_is_tried_again_unless_it_sends():
    retry = connect_web3("http://127.0.0.1:9", 1).provider.exception_retry_configuration
    assert {"eth_call", "eth_getLogs", "eth_estimateGas"} <= set(retry.method_allowlist)
    assert not {"eth_sendRawTransaction", "eth_sendTransaction"} & set(retry.method_allowlist)


def test_a_network_with_long_extra_data_is_read(chain_url, monkeypatch):
    web3 = connect_web3(chain_url, 10)
    real = web3.provider.make_request

    def sealed_by_validators(method, parameters):
        answer = real(method, parameters)
        if method == "eth_getBlockByNumber":
            answer["result"]["extraData"] = "0x" + "ab" * 97
        return answer

    monkeypatch.setattr(web3.provider, "make_request", sealed_by_validators)
    with rpc(web3):
        assert web3.eth.get_block("latest")["gasLimit"] == 30_000_000


def test_another_chain_is_refused(chain_url, deployed):
    with pytest.raises(WrongChainError, match="serves chain 131277322940537, not 1"):
        SonarClient.connect(chain_url, deployed.address, chain_id=1)


def test_an_address_without_a_contract_is_refused(chain_url):
    with pytest.raises(WrongChainError, match="was it restarted"):
        SonarClient.connect(chain_url, Account.create().address)
    with pytest.raises(ConfigError, match="is not an address"):
        SonarClient.connect(chain_url, "0x12")


def test_another_contract_at_the_address_is_noticed(chain_url, chain_web3, new_account):
    # PUSH1 0 PUSH1 0 RETURN as runtime code: answers every call with nothing.
    account = new_account()
    chain = {"nonce": 0, "chainId": chain_web3.eth.chain_id, "gas": 200_000, "gasPrice": 10**10, "value": 0}
    signed = account.sign_transaction({**chain, "data": "0x6460006000f36000526005601bf3"})
    sent = chain_web3.eth.send_raw_transaction(signed.raw_transaction)
    address = chain_web3.eth.wait_for_transaction_receipt(sent)["contractAddress"]
    assert bytes(chain_web3.eth.get_code(address)).hex() == "60006000f3"
    client = SonarClient.connect(chain_url, address)
    with pytest.raises(WrongChainError, match="does not answer getCampaign"):
        client.campaign(CampaignId(bytes(32)))
    with pytest.raises(WrongChainError, match="not this version's Sonar contract"):
        verify_deployment(chain_web3, address)


def test_a_deployment_holds_the_shipped_code(chain_web3, deployed):
    verify_deployment(chain_web3, deployed.address)
    assert chain_web3.eth.get_block(deployed.block)["transactions"][0] == deployed.transaction
    with pytest.raises(WrongChainError, match="no contract is at"):
        verify_deployment(chain_web3, Address(Account.create().address))


def test_a_network_file_makes_a_client(chain_url, deployed):
    network = Network(
        rpc_url=chain_url, chain_id=131277322940537, contract=deployed.address, start_block=1, store="memory:"
    )
    assert SonarClient.from_network(network).address == deployed.address
    with pytest.raises(WrongChainError):
        SonarClient.from_network(network.model_copy(update={"chain_id": 7}))
    head = SonarClient.from_network(network).block_number()
    assert SonarClient.from_network(network.model_copy(update={"start_block": head})).address == deployed.address
    with pytest.raises(
        WrongChainError, match=r"start_block 99999998 is ahead of the chain, whose latest block is \d+:"
    ):
        SonarClient.from_network(network.model_copy(update={"start_block": 99_999_998}))


def test_an_admission_makes_one_campaign_for_its_owner_only(stage, mines):
    campaign = stage()
    signature = sign_admission(campaign.domain, campaign.admission, campaign.oracle)

    def create(client: SonarClient, **changes: object) -> str:
        call = calls.create_campaign(
            campaign.terms, replace(campaign.admission, **changes), signature, "bafkreispec", "bafkreimodel"
        )
        with pytest.raises(ContractRevertError) as caught:
            client.transact(call)
        return caught.value.name

    (other,) = mines(1)
    assert create(campaign.owner) == "Sonar_CampaignExists"
    assert create(other) == "Sonar_AdmissionNotForCaller"
    assert create(other, owner=other.account.address) == "Sonar_BadSignature"


def test_an_admission_for_another_contract_is_refused(stage, client_for, chain_url, chain_web3, new_account):
    campaign = stage()
    other = deploy(chain_web3, new_account())
    client = SonarClient.connect(chain_url, other.address, campaign.owner.account)
    signature = sign_admission(campaign.domain, campaign.admission, campaign.oracle)
    call = calls.create_campaign(campaign.terms, campaign.admission, signature, "bafkreispec", "bafkreimodel")
    with pytest.raises(ContractRevertError) as caught:
        client.transact(call)
    assert caught.value.name == "Sonar_BadSignature"


def test_a_token_bounty_sends_no_coin(stage):
    campaign = stage()
    token = replace(campaign.terms, token=Address("0x" + "11" * 20))
    call = calls.create_campaign(token, campaign.admission, b"", "a", "b")
    assert call.value == Wei(0)
    native = calls.create_campaign(campaign.terms, campaign.admission, b"", "a", "b")
    assert native.value == campaign.terms.bounty


@pytest.fixture
def plain_http():
    class Page(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def log_message(self, *_):
            pass

    yield from _serve(HTTPServer(("127.0.0.1", 0), Page))


def _serve(server):
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join(10)


@pytest.fixture
def silent_server():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_values_that_the_contracts_types_do_not_hold_are_an_error_in_one_sentence(stage):
    campaign = stage()
    with pytest.raises(ChainError) as caught:
        campaign.owner.transact(calls.top_up(campaign.id, Wei(2**128)))
    assert str(caught.value) == (
        f"the contract's topUp does not take 0x{campaign.id.hex()}, {2**128}: check each value"
    )
