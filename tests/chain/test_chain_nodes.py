"""The client behaves alike on the chains from npm, each with its own way of answering."""

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from eth_account import Account
from nodes import until
from web3 import Web3

from sonar.chain import calls
from sonar.chain.client import SonarClient
from sonar.chain.committee import deploy_committee, read_committee
from sonar.chain.cursor import EventCursor
from sonar.chain.deploy import deploy
from sonar.chain.errors import ChainError, ContractRevertError, TransactionFailedError
from sonar.chain.heartbeat import beat, heartbeat
from sonar.processes import free_port
from sonar.units import Address

MODULES = Path(__file__).parents[2] / "node_modules"
ANVIL = MODULES / "@foundry-rs" / "anvil-linux-amd64" / "bin" / "anvil"
GANACHE = MODULES / "ganache" / "dist" / "node" / "cli.js"


@pytest.fixture(scope="module", params=["ganache", "anvil", "legacy"])
def node(request, tmp_path_factory):
    """A chain from npm on a free port; `legacy` is one without EIP-1559 fees."""
    port = str(free_port())
    if request.param != "ganache":
        fork = {"anvil": "paris", "legacy": "berlin"}[request.param]
        command = [str(ANVIL), "--port", port, "--hardfork", fork, "--silent"]
    else:
        command = [str(shutil.which("node")), str(GANACHE), "--server.port", port, "--logging.quiet"]
        command += ["--chain.hardfork", "shanghai"]
    if not Path(command[0]).is_file() or not (GANACHE if request.param == "ganache" else ANVIL).is_file():
        pytest.skip(f"{request.param} is not installed: npm install")
    environment = {**os.environ, "HOME": str(tmp_path_factory.mktemp("home"))}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) as process:
        try:
            web3 = Web3(Web3.HTTPProvider(f"http://127.0.0.1:{port}"))
            until(web3.is_connected, "the node answers")
            yield web3
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture
def actors(node):
    """A fresh contract and clients of it for new accounts with ten ether."""

    def fund():
        account = Account.create()
        sent = node.eth.send_transaction(
            {"from": node.eth.accounts[0], "to": account.address, "value": 10**19, "gasPrice": 10**10}
        )
        node.eth.wait_for_transaction_receipt(sent)
        return account

    contract = deploy(node, fund()).address
    return lambda: SonarClient.connect(node.provider.endpoint_uri, contract, fund())


def test_a_round_that_closes_by_time_is_settled_and_paid(node, actors, play):
    campaign = play(actors(), Account.create(), round_seconds=2)
    mines = [actors(), actors()]
    start = campaign.created.block
    for index, mine in enumerate(mines):
        campaign.submit(mine, str(index))
    entries = [campaign.entry(mine.account.address, str(i)) for i, mine in enumerate(mines)]
    settlement = campaign.settlement(entries, 120_000)
    with pytest.raises(ContractRevertError) as caught:
        campaign.settle(mines[0], settlement, entries)
    assert caught.value.name == "Sonar_RoundOpen"
    with heartbeat(node, 0.2):
        until(lambda: not mines[0].round(campaign.id).open, "the round closes")
        receipt = campaign.settle(mines[0], settlement, entries)
    assert [type(event).__name__ for event in receipt.events] == ["GradientJudged", "GradientJudged", "RoundSettled"]
    got = EventCursor(campaign.owner, start).read()
    assert len(got) == 6
    assert tuple(got[-3:]) == receipt.events
    for mine in mines:
        assert mine.transact(calls.withdraw(Address(mine.account.address))).events[0].amount > 10**16


def test_a_committee_judges_a_campaign_that_is_topped_up_and_handed_over(node, actors, play, panel):
    members = [Account.create() for _ in range(3)]
    owner, heir, mine = actors(), actors(), actors()
    committee = deploy_committee(node, actors().account, [member.address for member in members], 2)
    assert read_committee(node, committee.address) == committee
    campaign = play(owner, panel(committee, members[1:]), round_size=1, min_mines=1)
    owner.transact(calls.top_up(campaign.id, campaign.terms.bounty))
    owner.transact(calls.transfer_campaign(campaign.id, Address(heir.account.address)))
    assert owner.pending_owner(campaign.id) == heir.account.address
    heir.transact(calls.accept_campaign(campaign.id))
    campaign.submit(mine, "a")
    entries = [campaign.entry(mine.account.address, "a")]
    settlement = campaign.settlement(entries, 800_000)
    with pytest.raises(ContractRevertError) as caught:
        replace(campaign, oracle=panel(committee, members[:1])).settle(mine, settlement, entries)
    assert caught.value.name == "Sonar_BadSignature"
    campaign.settle(mine, settlement, entries)
    heir.transact(calls.close_campaign(campaign.id))
    left = 2 * campaign.terms.bounty - campaign.owner.campaign(campaign.id).paid
    assert (heir.credit(Address(heir.account.address)), owner.credit(Address(owner.account.address))) == (left, 0)


def test_reverts_are_decoded_wherever_they_happen(actors, play):
    campaign = play(actors(), Account.create(), round_size=1, min_mines=1)
    first, second = actors(), actors()
    with pytest.raises(ContractRevertError, match="knows no campaign"):
        first.campaign(bytes(32))
    with pytest.raises(ContractRevertError, match="is in round 0, not 7"):
        campaign.submit(first, "x", number=7)
    call = campaign.submission("late")
    signed = second.sign(call)
    campaign.submit(first, "first")
    second.send(signed)
    receipt = second.wait(signed.hash)
    assert not receipt.succeeded
    assert second._reason(call, receipt).name == "Sonar_RoundClosed"


def test_a_transaction_sent_again_is_not_run_again(actors, play):
    campaign = play(actors(), Account.create())
    mine = actors()
    signed = mine.sign(campaign.submission("once"))
    replaced = mine.sign(campaign.submission("instead"), nonce=signed.nonce)
    for _ in range(3):
        mine.send(signed)
    assert mine.wait(signed.hash).succeeded
    assert mine.used_nonce() == signed.nonce + 1
    with pytest.raises(TransactionFailedError, match="used its nonce 0 for another one"):
        mine.send(replaced)


def test_a_cursor_never_asks_past_the_head(actors, play):
    campaign = play(actors(), Account.create())
    cursor = EventCursor(campaign.owner, campaign.owner.block_number() + 1)
    assert cursor.read() == []
    campaign.submit(actors(), "1")
    assert len(cursor.read()) == 1
    assert cursor.read() == []


def test_a_heartbeat_goes_on_after_an_outage(chain_url):
    class Busy:
        def __init__(self, real):
            self.real, self.outages = real, 3

        def make_request(self, method, parameters):
            if self.outages:
                self.outages -= 1
                raise ConnectionError("busy")
            return self.real.make_request(method, parameters)

    web3 = Web3(Web3.HTTPProvider(chain_url))
    before = web3.eth.block_number
    beat(web3)
    assert web3.eth.block_number > before
    head = web3.eth.block_number
    busy = Web3(Web3.HTTPProvider(chain_url))
    busy.provider = Busy(web3.provider)
    with heartbeat(busy, 0.01) as thread:
        until(lambda: busy.provider.outages == 0 and web3.eth.block_number > head, "a block after the outage")
    assert not thread.is_alive()


def test_a_node_that_makes_no_blocks_on_request_is_named(chain_url):
    class Real:
        endpoint_uri = chain_url

        def make_request(self, method, parameters):
            return {"error": {"code": -32601, "message": "the method evm_mine does not exist"}}

    web3 = Web3(Web3.HTTPProvider(chain_url))
    web3.provider = Real()
    with pytest.raises(ChainError, match="makes no blocks on request"):
        beat(web3)
