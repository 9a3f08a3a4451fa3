"""The audit log as the ledger writes it: each entry once, with what it tells of; nothing done that it cannot tell."""

import json
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from mine.audit import AuditEntry, AuditFile, AuditHead
from mine.audit.facts import ChargeFacts
from mine.cli import main
from mine.data import inspect
from mine.errors import AuditError
from mine.ledger import Ledger
from mine.privacy.sketch import Contents
from sonar.chain.records import Verdict


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "mine.db") as opened:
        yield opened


def entries(ledger):
    return [(entry.kind, json.loads(entry.facts)) for entry in ledger.audit_entries()]


def test_the_log_tells_a_gradients_life_and_who_asked_for_it(stage, opened_mine):
    mine, ledger = opened_mine
    campaign = stage.campaign(stage.spec(rounds={"round_size": 2}))
    daemon = mine.daemon(ledger, stage.store)
    daemon.step()
    stage.submit_other(campaign)
    stage.settle(campaign, [Verdict.LEFT_OUT, Verdict.LEFT_OUT])
    daemon.step()

    assert ledger.verify_audit().length == 7
    added, (policy, _), trained, posted, judged, again, _ = entries(ledger)
    assert added[0] == "dataset added"
    assert added[1]["records"] == 60
    assert policy == "policy changed"
    assert trained[0] == "trained"
    event = stage.submitted(campaign)[0]
    asked = {"campaign": "0x" + campaign.hex(), "owner": stage.owner.address, "capsule": stage.attester.address}
    assert trained[1].items() >= {**asked, "round": 0, "version": 0, "records": 60}.items()
    assert trained[1]["gradient"] == "0x" + event.gradient.hex()
    assert posted[0] == "posted"
    assert posted[1]["gradient"] == trained[1]["gradient"]
    assert judged[0] == "judged"
    bond = stage.client.campaign(campaign).terms.bond
    assert judged[1].items() >= {"verdict": "left_out", "payout_wei": 0, "bond_lost_wei": bond // 10}.items()
    assert again[0] == "trained"


def test_a_round_that_closed_without_the_gradient_is_told_with_the_reason(stage, opened_mine):
    mine, ledger = opened_mine
    campaign = stage.campaign(stage.spec(rounds={"round_size": 2}))
    worker = mine.worker(ledger, stage.store)
    worker.follow(mine.home.policy())
    prepared = worker.prepare(worker.train(ledger.campaign(campaign), mine.home.policy()))
    stage.submit_other(campaign)
    stage.submit_other(campaign)
    worker.post(prepared, mine.home.policy())
    assert entries(ledger)[-1] == (
        "missed", {"campaign": "0x" + campaign.hex(), "round": 0, "reason": "the round closed before it was posted"},
    )  # fmt: skip


def test_a_gradient_that_the_chain_took_back_is_told_each_time(stage, opened_mine):
    mine, ledger = opened_mine
    campaign = stage.campaign()
    mine.daemon(ledger, stage.store).step()
    ledger.send(ledger.take_back(ledger.submission(campaign, 0)), 0)
    assert [kind for kind, _ in entries(ledger)][-3:] == ["posted", "taken back", "posted"]


def test_what_is_undone_leaves_no_entry(ledger):
    ledger.record("kept", {})
    with suppress(KeyboardInterrupt), ledger._database.write():
        ledger.record("undone", {})
        raise KeyboardInterrupt
    ledger.record("kept", {"again": True})
    assert [kind for kind, _ in entries(ledger)] == ["kept", "kept"]
    assert ledger.verify_audit().length == 2


def test_two_processes_write_one_chain(ledger, tmp_path):
    with Ledger(tmp_path / "mine.db") as other:
        for number in range(5):
            ledger.record("one", {"number": number})
            other.record("other", {"number": number})
        assert ledger.verify_audit() == other.verify_audit()
    assert [kind for kind, _ in entries(ledger)] == ["one", "other"] * 5


def test_what_a_stop_left_unwritten_is_written_next_time(ledger, monkeypatch):
    ledger.record("first", {})
    monkeypatch.setattr(AuditFile, "append", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    for kind in ("second", "third"):
        with pytest.raises(KeyboardInterrupt):
            ledger.record(kind, {})
    monkeypatch.undo()
    assert len(entries(ledger)) == 1
    ledger.check_audit()
    assert [kind for kind, _ in entries(ledger)] == ["first", "second", "third"]


def test_a_restarted_log_holds_what_the_old_one_never_got(ledger, monkeypatch):
    ledger.record("first", {})
    ledger.audit_log.write_bytes(b"")
    with pytest.raises(AuditError):
        ledger.record("second", {"round": 2})
    ledger.restart_audit("emptied")
    ((kind, facts),) = entries(ledger)
    assert kind == "log restarted"
    (line,) = facts["unwritten"]
    assert json.loads(line)["facts"] == {"round": 2}


def test_a_cut_tail_is_noticed_before_anything_is_done(stage, opened_mine):
    mine, ledger = opened_mine
    stage.campaign()
    daemon = mine.daemon(ledger, stage.store)
    lines = ledger.audit_log.read_bytes().splitlines(keepends=True)
    ledger.record("one more", {})
    ledger.audit_log.write_bytes(b"".join(lines))
    with pytest.raises(AuditError, match="does not end with entry 2, as it was left, but with 1"):
        daemon.step()
    with pytest.raises(AuditError, match="line 2 of the audit log"):
        ledger.verify_audit()
    assert mine.told == []


def test_a_log_that_is_cut_while_the_mine_runs_ends_it_and_nothing_is_lost(stage, opened_mine):
    mine, ledger = opened_mine
    campaign = stage.campaign(stage.spec(rounds={"round_size": 2}))
    daemon = mine.daemon(ledger, stage.store)
    daemon.step()
    whole = ledger.audit_log.read_bytes()
    ledger.audit_log.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    stage.submit_other(campaign)
    stage.settle(campaign, [Verdict.LEFT_OUT, Verdict.LEFT_OUT])
    with pytest.raises(AuditError):
        daemon.run()
    ledger.audit_log.write_bytes(whole)
    mine.daemon(ledger, stage.store).step()
    assert [kind for kind, _ in entries(ledger)][-3:] == ["judged", "trained", "posted"]
    ledger.verify_audit()


def test_a_log_that_is_gone_is_noticed(ledger):
    ledger.record("one", {})
    ledger.audit_log.unlink()
    with pytest.raises(AuditError, match="but with 0"):
        ledger.check_audit()


def test_a_mine_goes_on_after_a_lost_log_once_its_owner_says_why(ledger):
    for kind in ("one", "two"):
        ledger.record(kind, {})
    ledger.audit_log.write_bytes(b"nonsense\n")
    with pytest.raises(AuditError):
        ledger.check_audit()
    aside = ledger.restart_audit("the disk was full of nonsense")
    ledger.record("three", {})
    assert aside.read_bytes() == b"nonsense\n"
    assert ledger.verify_audit().length == 4
    facts = {"reason": "the disk was full of nonsense", "entries": 2, "before": "audit.1.jsonl", "unwritten": []}
    assert entries(ledger) == [("log restarted", facts), ("three", {})]
    ledger.audit_log.unlink()
    assert ledger.restart_audit("again") is None
    assert entries(ledger) == [("log restarted", {"reason": "again", "entries": 4, "before": None, "unwritten": []})]


def test_a_change_is_recorded_once(ledger):
    for bond in ("0.01", "0.01", "0.02", "0.01"):
        ledger.record_change("policy", {"max_bond": bond})
    assert [facts["max_bond"] for _, facts in entries(ledger)] == ["0.01", "0.02", "0.01"]


def test_what_cannot_be_recorded_is_not_released(stage, opened_mine):
    mine, ledger = opened_mine
    campaign = stage.campaign()
    worker = mine.worker(ledger, stage.store)
    worker.follow(mine.home.policy())
    trained = worker.train(ledger.campaign(campaign), mine.home.policy())
    ledger.audit_log.write_bytes(b"")
    with pytest.raises(AuditError):
        worker.prepare(trained)
    with pytest.raises(AuditError):
        mine.daemon(ledger, stage.store).step()
    assert stage.submitted(campaign) == []


def test_a_ledger_that_was_put_back_takes_over_the_logs_end_and_says_so(tmp_path):
    with Ledger(tmp_path / "mine.db") as ledger:
        ledger.record("before", {})
        with sqlite3.connect(tmp_path / "copy.db") as copy:
            ledger._database._db.backup(copy)
        ledger.record("after", {})
    for left in tmp_path.glob("mine.db*"):
        left.unlink()
    (tmp_path / "copy.db").rename(tmp_path / "mine.db")
    with Ledger(tmp_path / "mine.db") as ledger:
        with pytest.raises(AuditError, match="an older copy of it was put back"):
            ledger.verify_audit()
        ledger.check_audit()
        assert ledger.verify_audit().length == 3
        assert entries(ledger)[-1] == ("ledger put back", {"knew": 1, "log": 2})


def test_a_log_of_another_mine_is_not_taken_over(tmp_path):
    with Ledger(tmp_path / "mine.db") as ledger:
        ledger.record("ours", {})
        with Ledger(tmp_path / "other.db") as other:
            other._audit_file.path = tmp_path / "other.jsonl"
            for _ in range(3):
                other.record("theirs", {})
            ledger.audit_log.write_bytes(other.audit_log.read_bytes())
        with pytest.raises(AuditError, match="entry 3 was not written by this mine's ledger"):
            ledger.check_audit()


@pytest.mark.parametrize("facts", [{}, {
    "datasets": ["clinic"], "statistic": "0x" + "11" * 32, "contents": "0x" + "22" * 24, "rho": "1000",
}])  # fmt: skip
def test_a_charge_that_others_wrote_into_the_log_is_a_finding_and_no_charge(ledger, facts):
    ledger.record("dataset added", {"dataset": "clinic"})
    forged = AuditEntry.after(ledger.audit_head(), 1_800_000_000, "released", facts, bytes(32))
    with ledger.audit_log.open("ab") as log:
        log.write(forged.line + b"\n")
    with Ledger(ledger.audit_log.with_name("mine.db")) as again:
        for _ in range(2):
            with pytest.raises(AuditError, match="entry 2 was not written by this mine's ledger"):
                again.check_audit()
        with pytest.raises(AuditError, match="line 2 of the audit log"):
            again.verify_audit()
        assert again.pools() == []
        again.restart_audit("others wrote into it")
        assert again.pools() == []
        again.check_audit()


def test_a_fault_in_the_middle_of_the_log_stops_a_start(ledger):
    for number in range(3):
        ledger.record("posted", {"round": number})
    lines = ledger.audit_log.read_bytes().splitlines(keepends=True)
    ledger.audit_log.write_bytes(lines[0].replace(b'"round":0', b'"round":9') + lines[1] + lines[2])
    with Ledger(ledger.audit_log.with_name("mine.db")) as again, pytest.raises(AuditError, match="line 1 of the audit"):
        again.check_audit()


def charge(**facts):
    told = {"datasets": ["clinic"], "statistic": "0x11", "contents": "0x" + "22" * 24, "rho": "1/41"}
    return AuditEntry.after(AuditHead(), 1, "charged", {**told, **facts}, bytes(32))


def test_a_charge_in_the_log_is_read_to_the_last_fact():
    facts = ChargeFacts.of(charge(campaign=b"\1" * 32, round=3))
    assert (facts.cost, facts.digest(facts.campaign), facts.round) == (Fraction(1, 41), b"\1" * 32, 3)


@pytest.mark.parametrize(("fact", "value"), [
    ("datasets", []), ("datasets", "clinic"), ("rho", "0"), ("rho", "-1"), ("rho", "1/0"), ("rho", 1.5), ("rho", None),
    ("contents", "22"), ("contents", 7), ("statistic", "0xzz"), ("round", -1), ("round", "1"), ("campaign", ""),
])  # fmt: skip
def test_a_charge_in_the_log_that_makes_no_sense_is_told_with_the_fact(fact, value):
    with pytest.raises(AuditError, match=f"entry 1 of the audit log is a 'charged'.*{fact}"):
        ChargeFacts.of(charge(**{fact: value}))


def test_the_charges_of_a_log_that_cannot_be_mended_are_taken_over_when_it_is_begun_anew(tmp_path):
    with Ledger(tmp_path / "mine.db") as ledger:
        ledger.record("before", {})
        with sqlite3.connect(tmp_path / "copy.db") as copy:
            ledger._database._db.backup(copy)
        ledger.record("released", json.loads(charge().facts))
        ledger.record("after", {})
    for left in tmp_path.glob("mine.db*"):
        left.unlink()
    (tmp_path / "copy.db").rename(tmp_path / "mine.db")
    lines = (tmp_path / "audit.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "audit.jsonl").write_bytes(lines[0] + lines[1] + b"nonsense\n")
    with Ledger(tmp_path / "mine.db") as ledger:
        with pytest.raises(AuditError):
            ledger.check_audit()
        ledger.restart_audit("the disk was full of nonsense")
        assert ledger.spent(ledger.pool_of("clinic")) == Fraction(1, 41)
        assert ledger.verify_audit().length == 3


def test_a_new_ledger_takes_an_old_log_for_a_strangers_until_its_owner_says_what_it_is(tmp_path):
    with Ledger(tmp_path / "mine.db") as ledger:
        ledger.record("released", json.loads(charge().facts))
    for left in tmp_path.glob("mine.db*"):
        left.unlink()
    with Ledger(tmp_path / "mine.db") as ledger:
        with pytest.raises(AuditError, match="entry 1 was not written by this mine's ledger"):
            ledger.record("posted", {})
        ledger.restart_audit("the ledger was lost")
        assert ledger.spent(ledger.pool_of("clinic")) == Fraction(1, 41)
        assert ledger.verify_audit().length == 2


def test_a_new_ledger_beside_an_old_log_names_the_ways_out(tmp_path):
    with Ledger(tmp_path / "mine.db") as ledger:
        ledger.record("posted", {})
    lose(tmp_path)
    for look in (Ledger.check_audit, Ledger.verify_audit):
        with (
            Ledger(tmp_path / "mine.db") as ledger,
            pytest.raises(AuditError, match=r"a new one: put the mine\.db back") as told,
        ):
            look(ledger)
        way = '`mine audit restart --reason "..."`, which counts what the log tells of charges'
        assert str(told.value).endswith(way)
        assert str(told.value).count("mine audit restart") == 1
        assert told.value.line == 1


def test_a_log_that_is_cut_names_the_ways_out(ledger):
    ledger.record("posted", {})
    ledger.audit_log.write_bytes(b"")
    with pytest.raises(AuditError, match='from a backup, or begin a new one with `mine audit restart --reason "'):
        ledger.check_audit()


RESTART = """
import os, signal, sys
from pathlib import Path
from mine.ledger import Ledger

with Ledger(Path(sys.argv[1])) as ledger:
    move_away = ledger._audit_file.move_away
    ledger._audit_file.move_away = lambda: (move_away(), os.kill(os.getpid(), signal.SIGKILL))
    ledger.restart_audit("the ledger was lost")
"""


def test_a_kill_while_a_log_is_begun_anew_forgets_no_charge(tmp_path):
    with Ledger(tmp_path / "mine.db") as ledger:
        ledger.record("released", json.loads(charge().facts))
    lose(tmp_path)
    died = subprocess.run([sys.executable, "-c", RESTART, tmp_path / "mine.db"], capture_output=True, timeout=60)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    assert not (tmp_path / "audit.jsonl").exists()
    with Ledger(tmp_path / "mine.db") as ledger:
        with pytest.raises(AuditError):
            ledger.check_audit()
        ledger.restart_audit("again")
        assert ledger.spent(ledger.pool_of("clinic")) == Fraction(1, 41)
        ledger.verify_audit()


def test_the_charges_of_every_log_that_was_moved_away_are_taken_over_by_a_new_ledger(tmp_path):
    with Ledger(tmp_path / "mine.db") as ledger:
        for name in "abcdefghijkl":  # the tenth comes after the ninth
            ledger.record("released", {**json.loads(charge().facts), "datasets": [name]})
            ledger.restart_audit("to see")
        ledger._audit_file.append = not_now
        with pytest.raises(NotNow):
            ledger.record("released", {**json.loads(charge().facts), "datasets": ["never written"]})
    with Ledger(tmp_path / "mine.db") as ledger:
        ledger.restart_audit("what was not written is in its first entry")
    lose(tmp_path)
    with Ledger(tmp_path / "mine.db") as ledger:
        for _ in range(2):
            ledger.restart_audit("the ledger was lost")
            names = [*"abcdefghijkl", "never written"]
            assert [ledger.spent(ledger.pool_of(name)) for name in names] == [13 * Fraction(1, 41)] * 13
        ledger.verify_audit()


class NotNow(Exception):
    """What stops a log from being written."""


def not_now(_entries):
    raise NotNow


def test_a_ledger_of_before_a_restart_takes_over_what_the_new_log_tells(tmp_path):
    with Ledger(tmp_path / "mine.db") as ledger:
        ledger.record("before", {})
        with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
            ledger._database._db.backup(copy)
        ledger.record("after", {})
        ledger.restart_audit("to see")
        ledger.record("released", json.loads(charge().facts))
    (tmp_path / "audit.1.jsonl").unlink()  # backups have the log that is in use
    lose(tmp_path)
    (tmp_path / "copy.db").rename(tmp_path / "mine.db")
    with Ledger(tmp_path / "mine.db") as ledger:
        with pytest.raises(AuditError, match="does not end with entry 1, as it was left"):
            ledger.check_audit()
        ledger.restart_audit("an older ledger was put back")
        assert ledger.spent(ledger.pool_of("clinic")) == Fraction(1, 41)


def test_a_new_ledger_knows_by_the_log_where_data_sets_lay(tmp_path, write_csv):
    file = write_csv(tmp_path / "clinic.csv")
    with Ledger(tmp_path / "mine.db") as ledger:
        ledger.add_dataset(inspect("clinic", file, "target"))
        ledger.record("released", json.loads(charge().facts))
    lose(tmp_path)
    with Ledger(tmp_path / "mine.db") as ledger:
        ledger.restart_audit("the ledger was lost")
        other = Contents(b"\x33" * 24, 60, np.arange(60, dtype=np.uint64), ())
        assert ledger.recognise(other, "patients", (str(file),)) == ledger.pool_of("clinic")


def test_a_log_that_cannot_be_read_is_not_taken_for_lost(ledger):
    ledger.record("posted", {})
    ledger.audit_log.unlink()
    ledger.audit_log.mkdir()
    for use in (ledger.check_audit, ledger.verify_audit, lambda: ledger.restart_audit("it is no file")):
        with pytest.raises(AuditError, match="cannot be read: Is a directory; mend that, or move it away"):
            use()


def test_what_is_too_long_to_be_read_again_is_not_written(ledger):
    with pytest.raises(AuditError, match="'policy changed' cannot be recorded: its entry would have 11"):
        ledger.record("policy changed", {"settings": "e" * 1_100_000})
    ledger.record("posted", {})
    assert ledger.verify_audit().length == 1


def lose(home):
    """The ledger is lost, and the log beside it is not."""
    for left in home.glob("mine.db*"):
        left.unlink()


def test_the_log_holds_no_value_of_the_data(stage, opened_mine):
    mine, ledger = opened_mine
    stage.campaign()
    mine.daemon(ledger, stage.store).step()
    values = (line.split(",") for line in Path(ledger.datasets()[0].source.location).read_text().splitlines()[1:])
    log = ledger.audit_log.read_text()
    assert not any(value in log for row in values for value in row[:-1])


@pytest.fixture
def command(ledger, tmp_path):
    """`mine audit` commands of this ledger's home."""
    (tmp_path / "account.key").touch(0o600)

    def call(*words):
        return CliRunner().invoke(main, ["audit", *words, "--home", str(tmp_path)])

    return call


def test_show_tells_entries_to_machines_as_they_are(ledger, command):
    ledger.record("posted", {"campaign": bytes(32), "round": 0})
    ledger.record("posted", {"campaign": b"\1" * 32, "round": 7})
    ledger.record("withdrawn", {"amount": 10**30})
    shown = json.loads(command("show", "--json").stdout)
    assert [(row["sequence"], row["kind"]) for row in shown] == [(1, "posted"), (2, "posted"), (3, "withdrawn")]
    assert shown[2]["facts"] == {"amount": 10**30}
    verified = json.loads(command("verify", "--json").stdout)
    assert verified == {"entries": 3, "head": shown[2]["hash"]}
    assert json.loads(command("show", "--json", "--campaign", "0x0101").stdout) == [shown[1]]
    assert json.loads(command("show", "--json", "--kind", "posted", "--last", "1").stdout) == [shown[1]]
    assert json.loads(command("verify", "--json", "--head", shown[0]["hash"]).stdout) == verified


def test_text_of_strangers_cannot_steer_the_terminal(ledger, command):
    ledger.record("denied", {"reason": "\x1b[2J\nall is well", "\x07": "\u202e"})
    shown = command("show").stdout
    assert shown.count("\n") == 1
    assert shown.strip().isprintable()


def test_a_home_with_a_broken_log_still_shows_what_holds(ledger, command):
    for number in range(3):
        ledger.record("posted", {"round": number})
    lines = ledger.audit_log.read_text().splitlines(keepends=True)
    ledger.audit_log.write_text(lines[0] + lines[1].replace("posted", "judged") + lines[2])
    done = command("show")
    assert done.exit_code == 9
    assert done.stdout.count("\n") == 1
    assert "line 2 of the audit log" in done.stderr
    assert command("verify").exit_code == 9
    machines = command("show", "--json", "--last", "5")
    assert machines.exit_code == 9
    assert [row["sequence"] for row in json.loads(machines.stdout)] == [1]
    assert "line 2 of the audit log" in machines.stderr
