"""The pool of judge processes: what a job can do to it, whose turn it is, and that nothing of it is left behind."""

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from nodes import until

from capsule.sandbox import JobLostError, Limits, Sandbox, SandboxError
from capsule.sandbox.pool import Pool
from sonar.sandbox import FrameError, Loss, Process, ProcessError
from sonar.sandbox.frames import Frame

HERE = Path(__file__).parent
BURNING = "burning_jobs:Burning"
SMALL = 512 << 20


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets judge processes find the test's own jobs."""
    given = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", str(HERE) if given is None else f"{HERE}{os.pathsep}{given}")


@contextmanager
def started(processes: int = 1, **limits: Any) -> Iterator[Pool]:
    pool = Pool(Limits(processes=processes, memory=limits.pop("memory", SMALL), **limits), BURNING)
    pool.start()
    try:
        yield pool
    finally:
        pool.stop()


@pytest.fixture
def pool(path: None) -> Iterator[Pool]:
    with started() as made:
        yield made


def ask(pool: Pool, job: str, *blobs: bytes, lane: str = "a", **words: Any) -> Frame:
    seconds, most, fresh = words.pop("seconds", 20.0), words.pop("most", 0), words.pop("fresh", False)
    request = Frame({"job": job, **words}, blobs)
    return pool.run(lane, request, lambda answer: answer, seconds=seconds, most=most, fresh=fresh)


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody reaps yet counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_job_gets_its_bytes_and_gives_some_back(pool: Pool) -> None:
    blobs = (b"", b"one", os.urandom(3 << 20))
    answer = ask(pool, "echo", *blobs, most=4 << 20, word="ä")
    assert answer == Frame({"job": "echo", "word": "ä"}, blobs)


@pytest.mark.parametrize(
    ("job", "loss", "words"),
    [
        ("time", Loss.TIME, "more than 1 seconds"),
        ("memory", Loss.MEMORY, "memory"),
        ("abort", Loss.CRASH, "SIGABRT"),
        ("killed", Loss.CRASH, "SIGKILL"),
        ("leave", Loss.CRASH, "ended with 3"),
        ("starve", Loss.MEMORY, "more memory than the [0-9]+ MiB"),
        ("raise", Loss.FAILURE, "ValueError at burning_jobs.py"),
        ("garbage", Loss.LIE, "head of 4294967295 bytes"),
    ],
)
def test_what_ends_a_job_is_told_apart_and_the_process_is_replaced(
    pool: Pool, job: str, loss: Loss, words: str
) -> None:
    (before,) = pool.pids
    with pytest.raises(JobLostError, match=words) as lost:
        ask(pool, job, seconds=1.0 if job == "time" else 20.0)
    assert lost.value.loss is loss
    assert pool.losses == {loss.value: 1}
    assert ask(pool, "echo", b"still there", most=64).blobs == (b"still there",)
    assert before not in pool.pids
    assert gone(before)


def test_what_a_job_raises_does_not_tell_what_it_was_about(pool: Pool) -> None:
    with pytest.raises(JobLostError) as lost:
        ask(pool, "raise")
    assert "prime" not in str(lost.value)


def test_what_a_library_prints_is_no_answer(pool: Pool) -> None:
    ask(pool, "print")
    assert ask(pool, "echo", word="next").body["word"] == "next"
    with pytest.raises(JobLostError) as lost:
        ask(pool, "leave")
    assert lost.value.loss is Loss.CRASH  # an earlier job's words are not this one's


def test_an_answer_larger_than_was_asked_for_is_not_read(pool: Pool) -> None:
    assert len(ask(pool, "large", size=1000, most=1000).blobs[0]) == 1000
    with pytest.raises(JobLostError, match="not of at most 1000 bytes") as lost:
        ask(pool, "large", size=1001, most=1000)
    assert lost.value.loss is Loss.LIE


@pytest.mark.parametrize(
    "spent",
    [
        {"decrypting of 0x1234": 1}, {"total": -1}, {"total": True}, {"total": 1.5}, {"total": "1"}, {"total": None},
        {"total": 2**80}, {"total": 10**9}, {f"part {i}": i for i in range(10_000)}, [1], None,
    ],
    ids=lambda spent: str(spent)[:20],
)  # fmt: skip
def test_times_that_no_job_takes_are_a_lie_and_are_not_kept(pool: Pool, spent: Any) -> None:
    ask(pool, "spent", spent={"total": 1000, "judging": 999})
    with pytest.raises(JobLostError, match="its times are") as lost:
        ask(pool, "spent", spent=spent)
    assert lost.value.loss is Loss.LIE
    assert pool.spent == {"total": 1000, "judging": 999, "jobs": 1}


def test_an_answer_that_no_such_job_gives_is_a_lie(pool: Pool) -> None:
    def understand(answer: Frame) -> None:
        raise FrameError(f"there is a word {answer.body} in it")

    with pytest.raises(JobLostError, match="makes no sense: there is a word") as lost:
        pool.run("a", Frame({"job": "unheard"}), understand, seconds=20)
    assert lost.value.loss is Loss.LIE


def test_a_process_that_was_killed_while_it_waited_is_replaced_when_it_is_asked(pool: Pool) -> None:
    (before,) = pool.pids
    os.kill(before, signal.SIGKILL)
    with pytest.raises(JobLostError, match="SIGKILL"):
        ask(pool, "echo")
    assert ask(pool, "echo").body == {"job": "echo"}


def test_a_process_that_was_killed_while_it_waited_keeps_nobody_from_stopping(path: None) -> None:
    with started() as pool:
        (before,) = pool.pids
        os.kill(before, signal.SIGKILL)
        until(lambda: gone(before), "it does not end")


def test_a_process_that_closes_its_pipe_and_lives_on_is_waited_for_no_longer_than_one_that_ends(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sonar.sandbox.process._END_SECONDS", 0.1)
    (before,) = pool.pids
    with pytest.raises(JobLostError, match="closed its pipe and did not end") as lost:
        ask(pool, "close")
    assert lost.value.loss is Loss.CRASH
    assert gone(before)
    assert ask(pool, "echo").body == {"job": "echo"}


def test_a_process_for_which_no_pipe_can_be_made_is_told_like_any_that_does_not_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full() -> tuple[int, int]:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("sonar.sandbox.process.os.pipe", full)
    with pytest.raises(ProcessError, match="no process can be started: Too many open files"):
        Process([sys.executable], {}, SMALL)


def test_a_fresh_process_has_done_no_job_before(pool: Pool) -> None:
    first = pool.pids
    ask(pool, "echo", fresh=True)
    assert pool.pids == first  # it had none
    ask(pool, "echo", fresh=True)
    assert pool.pids != first


def test_a_lost_job_is_done_once_more_in_a_new_process(path: None) -> None:
    with Sandbox(Limits(processes=1, memory=SMALL), jobs=BURNING) as sandbox:
        (first,) = sandbox.pids
        with pytest.raises(JobLostError):
            sandbox.run("a", Frame({"job": "abort"}), lambda answer: answer, seconds=20)
        assert sandbox.losses == {"crash": 2}
        until(lambda: sandbox.pids, "the process is not replaced")
        assert sandbox.pids != [first]


def test_lanes_take_turns_so_one_that_asks_much_delays_the_others_by_one_job_each(pool: Pool, tmp_path: Path) -> None:
    turns: dict[str, list[int]] = {"greedy": [], "modest": []}

    def work(lane: str, **words: str) -> None:
        turns[lane].append(ask(pool, "turn", lane=lane, **words).body["turn"])

    (tmp_path / "hold").touch()
    first = threading.Thread(target=work, args=("greedy",), kwargs={"folder": str(tmp_path)})
    first.start()
    until((tmp_path / "begun").exists, "the first job is not begun")
    others = [threading.Thread(target=work, args=(lane,)) for lane in [*["greedy"] * 11, "modest"]]
    for number, thread in enumerate(others, start=1):
        thread.start()
        until(lambda number=number: pool.waiting == number, "the jobs are not all asked for, in their order")
    (tmp_path / "hold").unlink()
    for thread in (first, *others):
        thread.join()
    assert sorted(turns["greedy"] + turns["modest"]) == list(range(13))
    assert turns["modest"][0] <= 2


def test_a_lane_that_lost_a_job_keeps_no_process_from_the_others(path: None) -> None:
    with started(processes=2) as pool:
        with pytest.raises(JobLostError):
            ask(pool, "abort", lane="bad")
        until(lambda: len(pool.pids) == 2, "the process is not replaced")
        outcomes: list[object] = []

        def burn() -> None:
            try:
                ask(pool, "time", lane="bad", seconds=3.0)
            except JobLostError as error:
                outcomes.append(error.loss)

        threads = [threading.Thread(target=burn) for _ in range(2)]
        for thread in threads:
            thread.start()
        for number in range(20):
            assert ask(pool, "echo", lane="good", number=number).body["number"] == number
        assert outcomes == []  # all of it while the first of them burned
        for thread in threads:
            thread.join()
        assert outcomes == [Loss.TIME, Loss.TIME]
        ask(pool, "echo", lane="bad")


def test_stopping_ends_running_and_waiting_jobs_and_leaves_no_process(path: None) -> None:
    errors: list[Exception] = []
    with started() as pool:

        def burn() -> None:
            try:
                ask(pool, "time", seconds=60)
            except SandboxError as error:
                errors.append(error)

        threads = [threading.Thread(target=burn) for _ in range(3)]
        for thread in threads:
            thread.start()
        pids = pool.pids
        until(lambda: pool.waiting == 2, "the jobs are not all asked for")
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert len(errors) == 3
    assert all(gone(pid) for pid in pids)
    with pytest.raises(SandboxError, match="stopped"):
        ask(pool, "echo")


def test_a_process_gets_no_secret_of_its_parent_and_little_of_the_system(
    path: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SONAR_CAPSULE_PASSPHRASE", "correct horse")
    monkeypatch.setenv("SONAR_CAPSULE_DATABASE", "postgresql://user:battery@host/db")
    with started() as pool:
        facts = ask(pool, "facts").body
        (pid,) = pool.pids
        for file in ("cmdline", "environ"):
            seen = Path(f"/proc/{pid}/{file}")
            if os.access(seen, os.R_OK):
                assert b"correct" not in seen.read_bytes()
    assert not {name for name in facts["environment"] if name.startswith("SONAR_CAPSULE")}
    assert "battery" not in str(facts)
    assert facts["memory"] == SMALL
    assert (facts["core"], facts["files"]) == (0, 0)
    assert facts["nice"] >= 10
    assert facts["stdin"] == facts["stdout"] == os.devnull


def test_no_process_outlives_a_parent_that_is_killed(path: None, tmp_path: Path) -> None:
    program = (
        "import threading; from capsule.sandbox import Limits; from sonar.sandbox.frames import Frame\n"
        "from capsule.sandbox.pool import Pool\n"
        f"pool = Pool(Limits(processes=2, memory={SMALL}), {BURNING!r}); pool.start()\n"
        "ask = lambda: pool.run('a', Frame({'job': 'time'}), lambda answer: answer, seconds=600)\n"
        "threading.Thread(target=ask).start()\n"
        "print(*pool.pids, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert not any(gone(pid) for pid in pids)
        parent.kill()
    until(lambda: all(gone(pid) for pid in pids), "a judge process outlives its parent", seconds=10)


def test_processes_that_cannot_start_are_told_and_nobody_waits_for_them(path: None) -> None:
    pool = Pool(Limits(processes=2, memory=1 << 20), BURNING)
    with pytest.raises(SandboxError, match="does not start"):
        pool.start()
    assert pool.pids == []


def test_pool_and_threads_together_fit_the_cores() -> None:
    for processes in (0, 1, 2, 3, 64):
        limits = Limits(processes=processes)
        assert limits.threads == 1 or limits.size * limits.threads <= (os.cpu_count() or 1)


def test_limits_leave_a_gradient_time_for_its_ciphertexts() -> None:
    limits = Limits(seconds=600)
    assert limits.for_gradient(17, 3072) == pytest.approx(60 + 17 * 0.25)
    assert limits.for_gradient(17, 6144) == pytest.approx(60 + 17 * 2)
    assert limits.for_job(1000, 2048) == pytest.approx(600 + 250)


def test_a_process_whose_answer_was_not_read_to_its_end_gets_no_other_job(pool: Pool) -> None:
    before = pool.pids

    def interrupted(_: Frame) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pool.run("a", Frame({"job": "echo"}), interrupted, seconds=20)
    assert ask(pool, "echo", word="mine").body["word"] == "mine"
    assert pool.pids != before
