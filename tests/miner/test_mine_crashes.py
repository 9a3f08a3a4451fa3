"""kill -9 at any instant: a real process, a real chain, and afterwards exactly one gradient and one bond."""

import importlib.util
import json
import random
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from mine.records import State
from sonar.chain.records import Verdict
from sonar.units import ether

_SPEC = importlib.util.spec_from_file_location("crashing_mine", Path(__file__).with_name("crashing_mine.py"))
crashing_mine = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(crashing_mine)

SIGNED = "after the ledger, before sending"
INTENT = "after an intent, before sending"
SENT = "after sending, before an answer"


def state(mine, campaign, number=0):
    with mine.home.ledger() as ledger:
        found = ledger.submission(campaign, number)
    return found and found.state


def transactions(stage, mine):
    return stage.client.web3.eth.get_transaction_count(mine.account.address)


@pytest.mark.parametrize("instant", crashing_mine.INSTANTS)
def test_a_kill_at_any_instant_neither_loses_nor_doubles_the_gradient(stage, instant):
    mine = stage.mine()
    campaign = stage.campaign()
    bond = stage.client.campaign(campaign).terms.bond

    killed = mine.once(crash=instant)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = mine.once()
    assert again.returncode == 0, again.stderr

    (event,) = stage.submitted(campaign)
    stage.opened(event, stage.paillier, stage.spec())
    assert state(mine, campaign) is State.SENT
    assert transactions(stage, mine) == 1
    spent = ether(10) - stage.client.balance(mine.account.address)
    assert bond <= spent < bond + ether("0.01")
    with mine.home.ledger() as ledger:
        ledger.verify_audit()
        assert [entry.kind for entry in ledger.audit_entries()] == [
            "dataset added",
            "policy changed",
            "trained",
            "posted",
        ]


def test_a_signed_transaction_whose_nonce_was_used_elsewhere_is_signed_again(stage):
    mine = stage.mine()
    campaign = stage.campaign()
    assert mine.once(crash=SIGNED).returncode == -signal.SIGKILL
    web3 = stage.client.web3
    transfer = {"to": stage.owner.address, "value": 1, "nonce": 0, "gas": 21000, "chainId": web3.eth.chain_id,
                "gasPrice": web3.eth.gas_price}  # fmt: skip
    sent = web3.eth.send_raw_transaction(mine.account.sign_transaction(transfer).raw_transaction)
    assert web3.eth.wait_for_transaction_receipt(sent)["status"] == 1

    done = mine.once()
    assert done.returncode == 0, done.stderr
    assert len(stage.submitted(campaign)) == 1
    assert transactions(stage, mine) == 2


@pytest.mark.parametrize("instant", [INTENT, SENT])
def test_a_kill_in_a_withdrawal_neither_loses_nor_doubles_it(stage, instant):
    mine = stage.mine()
    campaign = stage.campaign(stage.spec(rounds={"round_size": 2}))
    assert mine.once().returncode == 0
    stage.submit_other(campaign)
    stage.settle(campaign, [Verdict.LEFT_OUT, Verdict.LEFT_OUT])
    before, owed = stage.client.balance(mine.account.address), stage.client.credit(mine.account.address)
    assert mine.call("withdraw", crash=instant).returncode == -signal.SIGKILL

    done = mine.call("withdraw", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["amount"] == owed
    assert stage.client.credit(mine.account.address) == 0
    assert transactions(stage, mine) == 2
    assert before < stage.client.balance(mine.account.address) < before + owed


def test_a_gradient_whose_round_closed_during_the_outage_costs_nothing(stage):
    mine = stage.mine()
    campaign = stage.campaign(stage.spec(rounds={"round_size": 2}))
    assert mine.once(crash=SIGNED).returncode == -signal.SIGKILL
    stage.submit_other(campaign)
    stage.submit_other(campaign)
    done = mine.once()
    assert done.returncode == 0, done.stderr
    assert transactions(stage, mine) == 0

    stage.settle(campaign, [Verdict.LEFT_OUT, Verdict.LEFT_OUT])
    done = mine.once()
    assert done.returncode == 0, done.stderr
    assert (state(mine, campaign, 0), state(mine, campaign, 1)) == (State.MISSED, State.SENT)
    assert [event.round for event in stage.submitted(campaign) if event.mine == mine.account.address] == [1]


def test_a_round_that_was_judged_during_the_outage_is_taken_note_of(stage):
    mine = stage.mine()
    campaign = stage.campaign(stage.spec(rounds={"round_size": 2}))
    assert mine.once(crash=SENT).returncode == -signal.SIGKILL
    assert state(mine, campaign) is State.SIGNED
    stage.submit_other(campaign)
    stage.settle(campaign, [Verdict.LEFT_OUT, Verdict.LEFT_OUT])
    done = mine.once()
    assert done.returncode == 0, done.stderr
    assert state(mine, campaign) is State.SETTLED
    assert len([event for event in stage.submitted(campaign) if event.mine == mine.account.address]) == 2


@pytest.mark.timeout(1800)
def test_kills_at_random_moments_leave_one_gradient_for_each_campaign(stage, effort, funder):
    kills = effort(5, 50, 200)
    funder(stage.owner.address, 2 * kills * 10**18)  # each campaign escrows one ether
    mine = stage.mine()
    campaigns = [stage.campaign() for _ in range(2)]
    moments = random.Random(5)
    for _ in range(kills):
        campaigns.append(stage.campaign())
        process = subprocess.Popen(
            mine.command("run", "--poll", "0.05", "--allow-insecure-small-key"),
            env=mine.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(moments.uniform(0.7, 2.5))  # not a wait for anything: the moment of the kill
        process.kill()
        process.wait()
    done = mine.once()
    assert done.returncode == 0, done.stderr
    for campaign in campaigns:
        assert len(stage.submitted(campaign)) == 1, done.stdout + done.stderr
        assert state(mine, campaign) is State.SENT
    assert transactions(stage, mine) == len(campaigns)


def test_two_processes_cannot_mine_with_one_home(stage):
    mine = stage.mine()
    with mine.home.running():
        done = mine.once()
    assert done.returncode == 9
    assert "another process" in done.stderr


def test_sigterm_ends_the_daemon_cleanly(stage):
    mine = stage.mine()
    stage.campaign()
    process = subprocess.Popen(
        mine.command("run", "--poll", "0.05", "--allow-insecure-small-key", "--json"),
        env=mine.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    for line in process.stdout:
        if json.loads(line)["event"] == "posted":
            break
    process.send_signal(signal.SIGTERM)
    rest, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert json.loads(rest.splitlines()[-1])["event"] == "stopped"


@pytest.mark.timeout(600)
def test_sigterm_ends_a_daemon_whose_step_hangs(stage):
    silent = socket.create_server(("127.0.0.1", 0))  # takes connections and never answers
    mine = stage.mine()
    stage.network.model_copy(update={"rpc_url": f"http://127.0.0.1:{silent.getsockname()[1]}"}).save(mine.network_file)
    with silent, subprocess.Popen(
        mine.command("run", "--patience", "60", "--json"),
        env=mine.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert json.loads(process.stdout.readline())["event"] == "started"
        peer, _ = silent.accept()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0  # the step itself would take sixty seconds
        peer.close()


def test_a_mine_at_work_has_never_loaded_the_secret_half(stage):
    mine = stage.mine()
    stage.campaign()
    done = mine.once(crash="modules")
    assert done.returncode == 0, done.stderr
    loaded = done.stderr.split()
    assert "mine.trainer" in loaded
    assert [name for name in loaded if name.startswith("capsule")] == []


def test_no_file_of_a_mine_holds_a_plain_weight_or_gradient(stage):
    mine = stage.mine()
    campaign = stage.campaign()
    assert mine.once().returncode == 0
    with mine.home.ledger() as ledger:
        box = ledger.box(ledger.submission(campaign, 0))
    (event,) = stage.submitted(campaign)
    gradient = stage.opened(event, stage.paillier, stage.spec())
    kept = b"".join(path.read_bytes() for path in mine.home.path.iterdir()) + box
    for value in gradient.ravel():
        assert int(value * 2**39).to_bytes(16, "big", signed=True) not in kept
        assert repr(float(value)).encode() not in kept
