"""The demo, as a stranger runs it: whole campaigns on both chains, one at full key size, checked by their reports."""

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from sonar.processes import wait_until

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(1800)


def run_demo(tmp_path: Path, *arguments: str, tolerated: str | None = None) -> dict:
    """The report of a demo that keeps all its promises but a `tolerated` one, with its files in tmp_path/files."""
    report = tmp_path / "report.json"
    command = ["scripts/demo", "--json", str(report), "--keep", str(tmp_path / "files"), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED: ")]
    assert done.returncode == (1 if failed else 0), done.stdout + done.stderr
    unforeseen = [line for line in failed if tolerated is None or not line.startswith(f"FAILED: {tolerated}")]
    assert not unforeseen, done.stdout + done.stderr
    return json.loads(report.read_text())


def check_money(report: dict) -> None:
    """Every wei of the bounty is accounted for, and nobody but kept gradients with a share was paid."""
    paid = sum(payout["wei"] for payout in report["payouts"])
    assert paid + report["refund_wei"] == report["campaign"]["bounty_wei"]
    assert (
        paid == sum(row["payout_wei"] for row in report["rounds"]) == sum(g["payout_wei"] for g in report["gradients"])
    )
    for gradient in report["gradients"]:
        assert (gradient["payout_wei"] > 0) == (gradient["share_ppm"] > 0), gradient
        assert gradient["verdict"] == "kept" or not gradient["share_ppm"], gradient
    campaign = report["campaign"]
    rise = min(campaign["final_score_ppm"], campaign["target_score_ppm"]) - campaign["start_score_ppm"]
    assert paid == campaign["bounty_wei"] * rise // campaign["base_ppm"]
    assert report["audit"]["holds"] > 20
    assert report["audit"]["differs"] == report["audit"]["unchecked"] == 0


def check_fairness(report: dict) -> None:
    """No honest mine takes more than half, and the model is nearly what pooled data would give."""
    paid = sum(payout["wei"] for payout in report["payouts"])
    assert max(payout["wei"] for payout in report["payouts"]) * 2 <= paid
    assert sum(payout["wei"] > 0 for payout in report["payouts"]) >= 3
    assert report["model"]["test_accuracy"] >= report["model"]["pooled_test_accuracy"] - 0.03


def loaded_modules(log: Path) -> set[str]:
    """The modules that a process imported in its whole life, from PYTHONPROFILEIMPORTTIME's lines in its log."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


@pytest.mark.long
def test_the_embedded_demo_pays_everyone_as_promised(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    report = run_demo(tmp_path, "--embedded", "--key-bits", "2048")
    check_money(report)
    check_fairness(report)
    for mine in ("mine1", "poisoner"):
        loaded = loaded_modules(tmp_path / "files" / f"{mine}.log")
        assert "sonar.syft.map" in loaded
        assert not any(module.startswith("capsule.secret") for module in loaded)
    assert "capsule.secret" in loaded_modules(next((tmp_path / "files").rglob("capsule.log")))


@pytest.mark.long
def test_the_demo_on_ganache_with_the_embedded_kubo_pays_everyone_as_promised(tmp_path: Path):
    report = run_demo(tmp_path, "--chain", "ganache")
    check_money(report)
    check_fairness(report)
    assert report["chain"]["client"].startswith("Ganache")
    assert report["model"]["key_bits"] == 3072


@pytest.mark.long
def test_the_original_rule_of_one_gradient_at_a_time_still_works(tmp_path: Path):
    report = run_demo(
        tmp_path, "--embedded", "--round-size", "1", "--max-rounds", "5", "--mines", "2", "--key-bits", "2048"
    )
    check_money(report)
    assert (
        len({(gradient["round"], gradient["mine"]) for gradient in report["gradients"]}) == len(report["rounds"]) <= 5
    )


@pytest.mark.full
@pytest.mark.timeout(3_600)
def test_every_split_of_the_digits_pays_as_promised_and_poison_hardly_ever(tmp_path: Path):
    poisoned = {}
    for seed in range(2, 9):
        folder = tmp_path / str(seed)
        folder.mkdir()
        report = run_demo(folder, "--embedded", "--seed", str(seed), tolerated="the poisoner was paid")
        check_money(report)
        paid = {payout["name"]: payout["wei"] for payout in report["payouts"]}
        poisoned[seed] = paid.get("poisoner", 0) / sum(paid.values())
        print(f"seed {seed}: {[row['score_ppm'] for row in report['rounds']]}, {report['model']}, {poisoned[seed]}")
    # What a split can bring to a poisoner by luck is told in docs/judging.md; the mean of many is what is promised.
    assert sum(poisoned.values()) / len(poisoned) <= 0.015, poisoned


@pytest.mark.long
def test_any_csv_with_a_class_column_can_be_campaigned_for(tmp_path: Path):
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    with (tmp_path / "patients.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*data.feature_names, "diagnosis"])
        writer.writerows([*row, data.target_names[k]] for row, k in zip(data.data, data.target, strict=True))
    report = run_demo(
        tmp_path, "--embedded", "--data", str(tmp_path / "patients.csv"), "--target", "diagnosis", "--mines", "3",
        "--target-score", "0.97", "--bounty", "2.5", "--key-bits", "2048",
    )  # fmt: skip
    check_money(report)
    assert report["campaign"]["bounty_wei"] == 25 * 10**17
    assert report["model"]["test_accuracy"] > 0.9


@pytest.mark.parametrize(
    ("content", "column", "message"),
    [
        ("a,b\n1,x\n", "c", "has no column 'c'; it has a, b"),
        ("a,b\nred,x\n", "b", "line 2 has a feature that is no number"),
        ("a,b\nnan,x\n", "b", "line 2 has a feature that is not finite"),
        ("a,b\n1,x\n2\n", "b", "line 3 has 1 cells, the header 2"),
        ("a,b\n1,x\n2,x\n", "b", "has 1 class: give at least 2"),
        ("", "b", "has no records"),
        ("a,b\n", "b", "has no records"),
        ("a,b\n1,x\n2,y\n", "b", "2 records are too few for 4 mines"),
        ("\ufeffb;a\nx;1\ny;2\n", "b", "2 records are too few for 4 mines"),
        ("a,a,b\n1,2,x\n2,3,y\n", "b", "two columns of the same name"),
        ('a,b\n1,"x\n2,y\n', "b", "is not a readable CSV file"),
        (b"a,b\n1,\xff\n2,y\n", "b", "is not UTF-8"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_with_its_reason(tmp_path: Path, content, column, message):
    path = tmp_path / "[" / "b].csv"  # in which rich would see a tag that closes nothing
    path.parent.mkdir()
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    command = [sys.executable, "scripts/demo.py", "--embedded", "--data", str(path), "--target", column]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 3
    assert message in done.stderr
    assert str(path) in done.stderr or "records are too few" in message


@pytest.mark.parametrize("option", ["--json", "--keep"])
def test_a_path_that_cannot_be_written_is_said_before_anything_is_done(tmp_path: Path, option: str):
    (tmp_path / "file").touch()
    command = [sys.executable, "scripts/demo.py", "--embedded", option, str(tmp_path / "file" / "inside")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (3, "")
    assert "cannot be written" in done.stderr


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_demo_that_is_ended_leaves_no_process_behind(spawn, tmp_path: Path, end):
    folder = tmp_path / "files"
    demo = spawn("demo", str(ROOT / "scripts" / "demo.py"), "--embedded", "--keep", str(folder))
    wait_until(lambda: any(folder.rglob("chain.log")), timeout=240, what="the chain", child=demo)
    family = [psutil.Process(demo.pid), *psutil.Process(demo.pid).children(recursive=True)]
    assert len(family) > 1
    family[0].send_signal(end)
    assert demo.wait(60) == 130
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
