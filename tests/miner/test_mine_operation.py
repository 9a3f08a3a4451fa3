"""Running a mine: its numbers and health, withdrawing by itself, a policy that breaks while it runs, a stuck fee."""

import io
import json
import re
import urllib.error
import urllib.request
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from mine.metrics import serving
from mine.records import Aim, Fate, Purpose, State
from mine.sending import REPLACE_SECONDS
from mine.status import show_live, status_report, status_table
from mine.vitals import Vitals, Watch, load_vitals
from sonar.chain.calls import withdraw
from sonar.chain.errors import FeeLimitError, TransactionTimeoutError
from sonar.chain.fees import Fees
from sonar.chain.records import NATIVE, Verdict
from sonar.errors import ConfigError
from sonar.units import Address, Wei


def ask(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def numbers(text: bytes) -> dict[str, float]:
    """Samples by name and label."""
    return {
        sample.name + "".join(f"[{value}]" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


@pytest.fixture
def settled(stage, opened_mine):
    """A mine with one kept gradient that has its pay to come."""
    mine, ledger = opened_mine
    campaign = stage.campaign(stage.spec(rounds={"round_size": 2}))
    daemon = mine.daemon(ledger, stage.store)
    daemon.step()
    stage.submit_other(campaign)
    stage.settle(campaign, [Verdict.LEFT_OUT, Verdict.LEFT_OUT])
    daemon.step()
    assert stage.client.credit(mine.account.address) > 0
    return mine, ledger, daemon, campaign


def test_what_is_owed_is_withdrawn_by_itself_once_it_is_enough(stage, settled):
    mine, ledger, daemon, campaign = settled
    owed = stage.client.credit(mine.account.address)
    mine.home.policy_file.write_text('[money]\nwithdraw_above = "1"\n')
    daemon.step()
    assert stage.client.credit(mine.account.address) == owed
    mine.home.policy_file.write_text('[money]\nwithdraw_above = "0.000001"\n')
    daemon.step()
    daemon.step()
    assert stage.client.credit(mine.account.address) == 0
    (told,) = [facts for what, facts in mine.told if what == "withdrawn"]
    assert (told["amount_wei"], told["to"]) == (owed, mine.account.address)
    assert ledger.submission(campaign, 0).state is State.PAID
    (spent,) = ledger.transactions(daemon.worker.deployment, aim=Aim(Purpose.WITHDRAW))
    assert (spent.fate, spent.gas_used > 0) == (Fate.MINED, True)


def test_how_a_mine_stands_is_saved_also_once_a_clock_that_was_ahead_is_right(settled):
    mine, _, daemon, _ = settled
    now = [90_000.0]
    watch = Watch(daemon, mine.home.vitals_file, lambda: now[0])
    for moment in (90_000.0, 3_600.0):
        now[0] = moment
        watch.look()
        assert load_vitals(mine.home.vitals_file)["stepped"] == moment


def test_the_numbers_and_the_health_of_a_mine_are_served(stage, settled):
    mine, _, daemon, _ = settled
    watch = Watch(daemon, mine.home.vitals_file)
    watch.look()
    warnings: list[str] = []
    with serving("127.0.0.1", 0, lambda: watch.vitals, warnings.append) as url:
        status, body = ask(url + "/metrics")
        found = numbers(body)
        assert status == 200
        assert found["sonar_mine_submissions[settled]"] == 1
        assert found["sonar_mine_submissions[sent]"] == 1
        assert found["sonar_mine_transactions[mined]"] == 2
        assert found["sonar_mine_campaigns[running]"] == 1
        assert found["sonar_mine_steps_total"] == 1
        assert found["sonar_mine_gas_spent_wei_total"] > 0
        assert found["sonar_mine_credit_wei"] == pytest.approx(stage.client.credit(mine.account.address))
        assert found["sonar_mine_account_wei"] == pytest.approx(stage.client.balance(mine.account.address))
        assert mine.account.address.lower() not in body.decode().lower()
        assert ask(url + "/healthz")[0] == ask(url + "/readyz")[0] == 200
        watch.vitals = replace(watch.vitals, stepped=0.0, waiting={"chain": "it is down"})
        assert ask(url + "/healthz")[0] == ask(url + "/readyz")[0] == 503
        assert "down" not in ask(url + "/readyz")[1].decode(), "what is said of the chain is for the owner"
        assert ask(url + "/account.key")[0] == 404
    assert warnings == []
    left = load_vitals(mine.home.vitals_file)
    assert left is not None
    assert left["submissions"] == {"settled": 1, "sent": 1}
    assert mine.home.vitals_file.stat().st_mode & 0o077 == 0


def test_a_port_that_is_taken_is_told_with_the_option(stage):
    now = Vitals(0.0, 0.0, 1.0)
    with (
        serving("127.0.0.1", 0, lambda: now, print) as url,
        pytest.raises(ConfigError, match="--metrics-port"),
        serving("127.0.0.1", int(url.rpartition(":")[2]), lambda: now, print),
    ):
        pass


def test_metrics_that_others_can_reach_are_warned_of():
    warnings: list[str] = []
    with serving("0.0.0.0", 0, lambda: Vitals(0.0, 0.0, 1.0), warnings.append):
        assert "everybody who reaches it" in warnings[0]


def test_a_policy_that_breaks_while_a_mine_runs_is_waited_for(stage, opened_mine):
    mine, ledger = opened_mine
    daemon = mine.daemon(ledger, stage.store)
    daemon.attempt()
    good = mine.home.policy_file.read_text() if mine.home.policy_file.exists() else ""
    mine.home.policy_file.write_text("[money]\nmax_bond = 5\n")
    campaign = stage.campaign()
    daemon.attempt()
    assert stage.submitted(campaign) == []
    assert "policy" in daemon.reasons()
    mine.home.policy_file.write_text(good)
    daemon.attempt()
    assert len(stage.submitted(campaign)) == 1
    assert daemon.reasons() == {}


def test_an_open_gradient_is_given_to_the_store_again_and_again(stage, opened_mine):
    mine, ledger = opened_mine
    now = [0.0]
    campaign = stage.campaign()
    daemon = mine.daemon(ledger, stage.store, clock=lambda: now[0])
    daemon.step()
    (event,) = stage.submitted(campaign)
    for file in (stage.folder / "store").rglob("*"):
        if file.is_file():
            file.unlink()
    daemon.step()
    now[0] += 3600
    daemon.step()
    stage.opened(event, stage.paillier, stage.spec())


class Pool:
    """A client whose transactions wait until they offer as much as the chain asks for."""

    def __init__(self, client, monkeypatch) -> None:
        self.asked, self.waiting = 0, {}
        self._client, self._send, self._receipt, self._knows = client, client.send, client.receipt, client.knows
        monkeypatch.setattr(client, "send", self.send)
        monkeypatch.setattr(client, "knows", lambda hash_: hash_ in self.waiting or self._knows(hash_))

    def send(self, signed) -> None:
        if Fees.of(signed.raw).highest < self.asked:
            self.waiting[signed.hash] = signed
        else:
            self._send(signed)


def test_a_transaction_that_waits_in_vain_is_replaced_at_a_higher_fee_under_the_same_nonce(stage, settled, monkeypatch):
    mine, ledger, daemon, _ = settled
    worker, now = daemon.worker, [1000.0]
    sender, client = worker.sender, worker.client
    sender._patience, sender._clock = 0.2, lambda: now[0]
    pool, aim = Pool(client, monkeypatch), Aim(Purpose.WITHDRAW)
    call = withdraw(Address(mine.account.address), NATIVE)
    usual = client.fee_market().usual.highest
    pool.asked = usual + 1

    with pytest.raises(TransactionTimeoutError):
        sender.deliver(aim, call)
    with pytest.raises(TransactionTimeoutError):
        sender.deliver(aim, call)  # too soon to replace it
    assert len(ledger.transactions(worker.deployment, aim=aim)) == 1

    now[0] += 100 * REPLACE_SECONDS
    receipt = sender.deliver(aim, call)
    first, second = ledger.transactions(worker.deployment, aim=aim)
    assert (first.nonce, first.fate, second.fate) == (second.nonce, Fate.REPLACED, Fate.MINED)
    assert receipt.hash == second.hash
    assert Fees.of(second.raw).highest > Fees.of(first.raw).highest
    assert client.credit(mine.account.address) == 0


def test_a_transaction_that_was_signed_while_the_clock_was_ahead_is_replaced_once_it_is_right(
    stage, settled, monkeypatch
):
    mine, ledger, daemon, _ = settled
    worker, now = daemon.worker, [1000.0 + 86_400]
    sender, client = worker.sender, worker.client
    sender._patience, sender._clock = 0.2, lambda: now[0]
    pool, aim = Pool(client, monkeypatch), Aim(Purpose.WITHDRAW)
    call = withdraw(Address(mine.account.address), NATIVE)
    pool.asked = client.fee_market().usual.highest + 1
    with pytest.raises(TransactionTimeoutError):
        sender.deliver(aim, call)
    now[0] -= 86_400
    assert sender.deliver(aim, call).succeeded
    assert [one.fate for one in ledger.transactions(worker.deployment, aim=aim)] == [Fate.REPLACED, Fate.MINED]


def test_withdraw_offers_no_more_for_gas_than_the_policy_lets_it(stage, settled):
    mine, *_ = settled
    owed = stage.client.credit(mine.account.address)
    mine.home.policy_file.write_text("[money]\nmax_gas_gwei = 0.000000001\n")
    refused = mine.call("withdraw")
    assert refused.returncode == 4
    assert "the limit is 0.000000001" in refused.stderr
    mine.home.policy_file.write_text("[money]\nmax_gas_gwei = 1000\n")
    assert mine.call("withdraw").returncode == 0
    assert (owed > 0, stage.client.credit(mine.account.address)) == (True, 0)


def test_a_transaction_that_nobody_wants_any_more_frees_its_nonce(stage, settled, monkeypatch):
    mine, ledger, daemon, _ = settled
    worker, now = daemon.worker, [1000.0]
    sender, client = worker.sender, worker.client
    sender._patience, sender._clock = 0.2, lambda: now[0]
    pool, aim = Pool(client, monkeypatch), Aim(Purpose.WITHDRAW)
    pool.asked = client.fee_market().usual.highest + 1
    with pytest.raises(TransactionTimeoutError):
        sender.deliver(aim, withdraw(Address(mine.account.address), NATIVE))
    (waiting,) = ledger.transactions(worker.deployment, aim=aim)
    owed = client.credit(mine.account.address)
    now[0] += 100 * REPLACE_SECONDS
    sender.tend(lambda _: False)
    sender.tend(lambda _: False)
    assert client.used_nonce() == waiting.nonce + 1
    assert ledger.transactions(worker.deployment, Fate.SIGNED) == []
    assert client.credit(mine.account.address) == owed, "it was used for nothing"


def test_a_mine_never_offers_more_for_gas_than_its_owner_lets_it(stage, settled):
    mine, ledger, daemon, _ = settled
    worker = daemon.worker
    worker._fee_limit = Wei(1)
    with pytest.raises(FeeLimitError):
        worker.sender.deliver(Aim(Purpose.WITHDRAW), withdraw(Address(mine.account.address), NATIVE))
    assert ledger.transactions(worker.deployment, aim=Aim(Purpose.WITHDRAW)) == []


def test_a_mine_at_work_tells_where_its_numbers_are(stage):
    mine = stage.mine()
    done = mine.call("run", "--once", "--metrics-port", "0", "--json")
    assert done.returncode == 0, done.stderr
    first = json.loads(done.stdout.splitlines()[0])
    assert first["event"] == "metrics"
    assert first["url"].startswith("http://127.0.0.1:")
    assert first["time"].endswith("+00:00")


def test_status_on_a_terminal_is_a_live_table_in_which_nothing_steers_the_terminal(stage, settled):
    mine, ledger, _, campaign = settled
    ledger.note(ledger.submission(campaign, 0), "left out \x1b[31m[bold]by an owner[/bold]")
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=200, height=30, no_color=True)

    def read() -> dict:
        if "by an owner" in shown.getvalue():
            raise KeyboardInterrupt
        return status_report(mine.home.path, mine.network_file)

    with pytest.raises(KeyboardInterrupt):
        show_live(read, console, seconds=0.01)
    text = shown.getvalue()
    assert re.search(r"0x[0-9a-f]{12} +0 +settled", text), "round 0 is a round"
    assert re.search(r"data +0x\w+: 60 records, /", text), "the data sets stand above the rounds"
    assert campaign.hex()[:10] in text
    assert "[31m[bold]by an owner[/bold]" in text
    assert "\x1b[31m" not in text


def test_status_beside_a_running_daemon_leaves_it_the_events(stage, opened_mine):
    mine, ledger = opened_mine
    daemon = mine.daemon(ledger, stage.store)
    daemon.step()
    with mine.home.running():
        stage.campaign()
        report = status_report(mine.home.path, mine.network_file)
        assert report["daemon"]["state"] == "running"
        assert report["submissions"] == []
        daemon.step()
    assert "campaign" in mine.words()


def test_status_says_why_a_round_is_left_alone(stage, opened_mine):
    mine, ledger = opened_mine
    mine.home.policy_file.write_text('[money]\nmax_bond = "0"\n')
    campaign = stage.campaign()
    mine.daemon(ledger, stage.store).step()
    report = status_report(mine.home.path, mine.network_file)
    (row,) = report["rounds"]
    assert (row["campaign"], row["state"]) == ("0x" + campaign.hex(), "refused")
    assert "max_bond" in status_table(report)
