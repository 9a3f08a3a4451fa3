"""The embedded chain: an Ethereum node as far as clients can tell, with the real clock and quick ends."""

import http.client
import json
import signal
import subprocess
import sys
import threading
import time
import urllib.request

import pytest
from eth_account import Account
from web3 import Web3
from web3.exceptions import Web3RPCError

from sonar.chain._evm import EmbeddedChain
from sonar.chain._methods import Methods
from sonar.chain.embedded import EmbeddedServer


def rpc(web3, method, *parameters):
    return web3.provider.make_request(method, list(parameters))


def start():
    command = [sys.executable, "-m", "sonar.chain.embedded", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return process, json.loads(process.stdout.readline())


def test_the_process_says_where_it_is_and_ends_on_sigterm_at_once():
    process, said = start()
    with process:
        try:
            assert set(said) == {"rpc_url", "port", "chain_id", "accounts"}
            web3 = Web3(Web3.HTTPProvider(said["rpc_url"]))
            assert web3.eth.chain_id == said["chain_id"] == 131277322940537
            assert web3.eth.accounts == said["accounts"]
            begun = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
            assert time.monotonic() - begun < 3
            assert process.stderr.read() == ""
        finally:
            process.kill()


def test_a_taken_port_is_an_error_and_not_another_chain():
    with EmbeddedServer() as server:
        port = server.server_address[1]
        command = [sys.executable, "-m", "sonar.chain.embedded", "--port", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode != 0
        assert done.stdout == ""
        assert "in use" in done.stderr


def test_block_times_follow_the_real_clock(chain_web3):
    before = int(time.time())
    account = Account.create()
    for _ in range(5):
        chain_web3.eth.send_transaction({"from": chain_web3.eth.accounts[1], "to": account.address, "value": 1})
    stamp = chain_web3.eth.get_block("latest")["timestamp"]
    assert before <= stamp <= int(time.time())


def test_time_goes_on_while_nobody_sends_anything():
    chain = EmbeddedChain(accounts=1)
    before = chain.head
    chain.keep_time()
    chain.advance_time(5)
    chain.keep_time()
    assert chain.head.block_number > before.block_number
    assert chain.head.timestamp >= before.timestamp + 5


def test_a_block_made_on_request_is_one_block_however_much_time_passed():
    chain = EmbeddedChain(accounts=1, clock=lambda: 1_000_000_000.9)
    methods = Methods(chain)
    methods({"method": "evm_increaseTime", "params": [50]})
    methods({"method": "evm_mine"})
    assert (chain.head.block_number, chain.head.timestamp) == (1, 1_000_000_050)
    methods({"method": "evm_mine"})
    assert (chain.head.block_number, chain.head.timestamp) == (2, 1_000_000_050)


def test_time_can_be_moved_ahead_but_not_back(chain_web3):
    before = chain_web3.eth.get_block("latest")["timestamp"]
    rpc(chain_web3, "evm_increaseTime", 1000)
    rpc(chain_web3, "evm_mine")
    later = chain_web3.eth.get_block("latest")["timestamp"]
    assert later >= before + 1000
    rpc(chain_web3, "evm_increaseTime", -5000)
    rpc(chain_web3, "evm_mine", later + 50)
    assert chain_web3.eth.get_block("latest")["timestamp"] >= later + 50


def test_a_transaction_is_mined_at_once_and_found_everywhere(chain_web3, new_account):
    sender, receiver = new_account(), Account.create()
    price = {"maxFeePerGas": 10**10, "maxPriorityFeePerGas": 10**9}
    call = {"to": receiver.address, "value": 7, "gas": 21_000, "nonce": 0, "chainId": chain_web3.eth.chain_id}
    signed = sender.sign_transaction({**call, **price})
    sent = chain_web3.eth.send_raw_transaction(signed.raw_transaction)
    assert sent == signed.hash
    receipt = chain_web3.eth.get_transaction_receipt(sent)
    assert (receipt["status"], receipt["gasUsed"], receipt["from"]) == (1, 21_000, sender.address)
    found = chain_web3.eth.get_transaction(sent)
    assert (found["to"], found["value"], found["nonce"], found["type"]) == (receiver.address, 7, 0, 2)
    block = chain_web3.eth.get_block(receipt["blockNumber"])
    assert block["transactions"] == [sent]
    assert chain_web3.eth.get_block(block["hash"], True)["transactions"][0]["hash"] == sent
    assert chain_web3.eth.get_balance(receiver.address) == 7
    assert chain_web3.eth.get_balance(receiver.address, receipt["blockNumber"] - 1) == 0
    paid = receipt["effectiveGasPrice"] * 21_000 + 7
    assert chain_web3.eth.get_balance(sender.address) == 100 * 10**18 - paid


def test_what_other_nodes_refuse_is_refused_in_their_words(chain_web3, new_account):
    sender, receiver = new_account(), Account.create()
    base = {"to": receiver.address, "value": 1, "gas": 21_000, "gasPrice": 10**10, "chainId": chain_web3.eth.chain_id}

    def refused(**changes):
        signed = sender.sign_transaction({**base, **changes})
        with pytest.raises(Web3RPCError) as caught:
            chain_web3.eth.send_raw_transaction(signed.raw_transaction)
        return caught.value.rpc_response["error"]["message"]

    assert "insufficient funds" in refused(nonce=0, value=10**21)
    assert "nonce too high" in refused(nonce=5)
    chain_web3.eth.send_raw_transaction(sender.sign_transaction({**base, "nonce": 0}).raw_transaction)
    assert "already known" in refused(nonce=0)
    assert "nonce too low" in refused(nonce=0, value=2)
    assert "base fee" in refused(nonce=1, gasPrice=1) or chain_web3.eth.get_block("latest")["baseFeePerGas"] <= 1
    assert refused(nonce=1, chainId=1)
    assert refused(nonce=1, gas=40_000_000)
    assert chain_web3.eth.get_transaction_count(sender.address) == 1


def test_a_foreign_account_is_not_unlocked(chain_web3):
    answer = rpc(chain_web3, "eth_sendTransaction", {"from": Account.create().address, "to": None, "value": "0x1"})
    assert "development accounts" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("method", "parameters", "code"),
    [
        ("eth_unheardOf", [], -32601),
        ("eth_getBalance", ["0x12"], -32602),
        ("eth_getBalance", [], -32602),
        ("eth_sendRawTransaction", ["0x02c0"], -32000),
        ("eth_sendRawTransaction", ["0x"], -32000),
        ("eth_getLogs", [{"fromBlock": "0x0", "toBlock": "0xffffff"}], -32000),
        ("eth_getLogs", ["latest"], -32602),
        ("eth_getBalance", ["0x" + "11" * 20, "0xffffff"], -32000),
        ("eth_call", [7], -32602),
    ],
)
def test_bad_requests_get_an_error_and_no_cut_line(chain_web3, method, parameters, code):
    assert rpc(chain_web3, method, *parameters)["error"]["code"] == code


def test_what_does_not_exist_is_null(chain_web3):
    nothing = "0x" + "00" * 32
    for method in ("eth_getTransactionByHash", "eth_getTransactionReceipt"):
        assert rpc(chain_web3, method, nothing)["result"] is None
    assert rpc(chain_web3, "eth_getBlockByNumber", "0xffffff", False)["result"] is None
    assert rpc(chain_web3, "eth_getBlockByHash", nothing, False)["result"] is None


def post(url, body):
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())


def test_garbage_and_batches_are_answered(chain_url):
    assert post(chain_url, b"{")["error"]["code"] == -32700
    assert post(chain_url, b"7")["error"]["code"] == -32600
    assert post(chain_url, b"[" * 100_000)["error"]["code"] == -32700
    call = {"jsonrpc": "2.0", "method": "eth_chainId"}
    answers = post(chain_url, json.dumps([{**call, "id": 1}, {**call, "id": 2}]).encode())
    assert [answer["id"] for answer in answers] == [1, 2]


def test_an_oversized_body_is_refused_before_it_is_read(chain_url):
    connection = http.client.HTTPConnection(chain_url.removeprefix("http://"), timeout=10)
    try:
        connection.putrequest("POST", "/")
        connection.putheader("Content-Length", str(4 * 1024 * 1024 + 1))
        connection.endheaders()
        assert connection.getresponse().status == 413
    finally:
        connection.close()


def test_logs_are_filtered_by_topic_and_address(stage, mines, chain_web3):
    one, other = stage(), stage()
    (mine,) = mines(1)
    one.submit(mine, "1")
    address = one.owner.address
    topic = lambda campaign: "0x" + campaign.id.hex()  # noqa: E731

    def count(**wanted):
        return len(chain_web3.eth.get_logs({"fromBlock": 0, "toBlock": "latest", **wanted}))

    assert count(address=address) == 3
    assert count(address=[address, other.owner.address], topics=[None, topic(one)]) == 2
    assert count(address=address, topics=[None, [topic(one), topic(other)]]) == 3
    assert count(address=address, topics=[None, None, None, None, None]) == 0
    assert count(address=Account.create().address) == 0
    block = chain_web3.eth.get_block(one.created.block)
    assert len(chain_web3.eth.get_logs({"blockHash": block["hash"]})) == 1


def test_many_threads_at_once_lose_nothing(chain_web3, chain_url):
    bank = chain_web3.eth.accounts[2]
    receiver = Account.create().address
    problems = []

    def pay():
        try:
            web3 = Web3(Web3.HTTPProvider(chain_url))
            for _ in range(5):
                web3.eth.send_transaction({"from": bank, "to": receiver, "value": 1})
        except Exception as error:  # noqa: BLE001
            problems.append(error)

    threads = [threading.Thread(target=pay) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert problems == []
    assert chain_web3.eth.get_balance(receiver) == 30


def test_an_estimate_is_enough_and_not_more(stage, mines, chain_web3):
    campaign = stage()
    (mine,) = mines(1)
    call = campaign.submission("x" * 5, cid="y" * 90)
    transaction = {
        "from": mine.account.address, "to": mine.address, "value": call.value, "data": mine.encode(call).data,
    }  # fmt: skip
    estimate = chain_web3.eth.estimate_gas(transaction)
    assert mine.transact(call).gas_used <= estimate <= mine.receipt(_last(chain_web3)).gas_used * 1.1


def _last(web3):
    number = web3.eth.block_number
    while not web3.eth.get_block(number)["transactions"]:
        number -= 1
    return bytes(web3.eth.get_block(number)["transactions"][0])
