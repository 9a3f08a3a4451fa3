"""`capsule` as a process of its own: made once, served, asked, stopped, started again."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import Commands
from eth_account.signers.local import LocalAccount

from capsule.client import CapsuleClient
from capsule.errors import CapsuleError, CapsuleUnavailableError
from capsule.home import create_home, open_home
from capsule.keypool import KeyPool
from capsule.keyprocess import KeyProcess
from capsule.secret import Vault, generate_key
from capsule.secret.stretching import INTERACTIVE
from capsule.state import State
from sonar import __version__
from sonar.chain.deploy import Deployment
from sonar.config import Network
from sonar.protocol.messages import Domain

PASSPHRASE = "correct horse"


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def run(capsule_commands: Commands) -> Run:
    """Runs a `capsule` command, with the Capsule's passphrase unless `environment` has another."""

    def command(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return capsule_commands(*arguments, **{"SONAR_CAPSULE_PASSPHRASE": PASSPHRASE, **(environment or {})})

    return command


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "capsule"


def init(run: Run, home: Path, *more: str) -> Any:
    done = run("init", "--home", str(home), "--key-bits", "512", "--allow-insecure-small-key", "--json", *more)
    assert done.returncode == 0, done.stderr
    assert "make backups with\n`capsule backup`" in done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def template(run: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A Capsule that `capsule init` made, and what it said."""
    home = tmp_path_factory.mktemp("template") / "capsule"
    return home, init(run, home)


@pytest.fixture
def made(home: Path, template: tuple[Path, Any]) -> Any:
    """What init said of the Capsule that is now at home: a copy, for whom making one is not the question."""
    shutil.copytree(template[0], home)
    return template[1]


class Served:
    """A served Capsule; `stop` ends it like an operator would."""

    def __init__(self, home: Path, network: Path) -> None:
        options = ["--home", str(home), "--network", str(network), "--port", "0", "--poll", "0.1"]
        command = [sys.executable, "-m", "capsule", "serve", *options]
        environment = {**os.environ, "SONAR_CAPSULE_PASSPHRASE": PASSPHRASE}
        self.log = (home / "log").open("ab")
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=self.log)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, (home / "log").read_text()
        self.facts = json.loads(line)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(120)
        finally:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.log.close()


@pytest.fixture
def network(tmp_path: Path, chain_url: str, deployed: Deployment, client_for: Any) -> Path:
    chain_id = client_for(None).chain_id
    return Network(
        rpc_url=chain_url,
        chain_id=chain_id,
        contract=deployed.address,
        start_block=deployed.block,
        store=f"directory:{tmp_path / 'store'}",
    ).save(tmp_path / "network.json")


@pytest.fixture
def serve(network: Path) -> Iterator[Callable[[Path], Served]]:
    running: list[Served] = []

    def start(home: Path) -> Served:
        running.append(Served(home, network))
        return running[-1]

    yield start
    for served in running:
        if served.process.poll() is None:
            served.stop()


def test_init_prints_the_attesting_address_and_keeps_everything_private(run: Run, home: Path) -> None:
    made = init(run, home)
    assert made["address"].startswith("0x")
    assert oct(home.stat().st_mode)[-3:] == "700"
    assert {path.name for path in home.iterdir()} >= {"attester.json", "capsule.db"}
    for path in home.iterdir():
        assert oct(path.stat().st_mode)[-3:] == "600", path


@pytest.mark.usefixtures("made")
def test_init_never_overwrites_a_capsule(run: Run, home: Path) -> None:
    before = (home / "attester.json").read_bytes()
    done = run("init", "--home", str(home))
    assert done.returncode == 8
    assert "Capsule already" in done.stderr
    assert (home / "attester.json").read_bytes() == before


@pytest.mark.usefixtures("made")
def test_a_capsule_whose_engine_cannot_be_used_does_not_start(run: Run, home: Path, network: Path) -> None:
    options = ("--home", str(home), "--network", str(network), "--port", "0")
    done = run("serve", *options, environment={"SONAR_ENGINE": "nonsense"})
    assert done.returncode == 6
    assert "no engine 'nonsense': choose one of" in done.stderr


@pytest.mark.parametrize("bits", ["1024", "2047", "3071"])
def test_init_refuses_keys_that_are_too_small_or_odd(run: Run, home: Path, bits: str) -> None:
    done = run("init", "--home", str(home), "--key-bits", bits)
    assert done.returncode == 8
    assert "2048" in done.stderr
    assert not home.exists()


def test_init_needs_a_passphrase(run: Run, home: Path, tmp_path: Path) -> None:
    for words in ("", "\nsecond line"):
        (tmp_path / "words").write_text(words)
        done = run("init", "--home", str(home), "--passphrase-file", str(tmp_path / "words"))
        assert (done.returncode, f"passphrase is empty ({tmp_path}" in done.stderr) == (3, True)
    done = run("init", "--home", str(home), "--passphrase-file", str(tmp_path / "nothing"))
    assert done.returncode == 3
    assert not home.exists()


@pytest.mark.usefixtures("made")
def test_serve_without_a_capsule_a_network_or_the_passphrase_says_what_to_do(
    run: Run, home: Path, network: Path
) -> None:
    done = run("serve", "--home", str(home / "none"), "--network", str(network))
    assert (done.returncode, "capsule init" in done.stderr) == (8, True)
    done = run("serve", "--home", str(home), "--network", str(home / "none.json"))
    assert (done.returncode, "network" in done.stderr) == (3, True)
    wrong = {"SONAR_CAPSULE_PASSPHRASE": "wrong"}
    done = run("serve", "--home", str(home), "--network", str(network), environment=wrong)
    assert (done.returncode, "passphrase" in done.stderr) == (8, True)
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can")
@pytest.mark.usefixtures("made")
def test_root_leaves_nothing_in_a_home_that_is_not_his(run: Run, home: Path, network: Path) -> None:
    for path in (home, *home.iterdir()):
        os.chown(path, 65534, -1)
    before = sorted(home.iterdir())
    for command in (
        ("serve", "--network", str(network)), ("keys", "rotate"), ("keys", "list"), ("campaigns",), ("held",),
        ("audit", "show"), ("init",),
    ):  # fmt: skip
        done = run(*command, "--home", str(home), environment={"SONAR_CAPSULE_NEW_PASSPHRASE": "battery staple"})
        assert (done.returncode, f"`runuser -u {home.owner()} -- capsule ...`" in done.stderr) == (8, True), command
    done = run("campaigns", environment={"SONAR_CAPSULE_HOME": str(home)})
    assert (done.returncode, "runuser" in done.stderr) == (8, True)
    assert sorted(home.iterdir()) == before
    assert {path.stat().st_uid for path in home.iterdir()} == {65534}


def test_a_short_passphrase_is_told_of_and_an_empty_one_by_its_file(run: Run, home: Path, tmp_path: Path) -> None:
    (tmp_path / "words").write_text("abc")
    small = ("--key-bits", "512", "--allow-insecure-small-key")
    done = run("init", "--home", str(home), *small, "--passphrase-file", str(tmp_path / "words"))
    assert (done.returncode, "a passphrase of 3 characters can be guessed" in done.stderr) == (0, True)
    (tmp_path / "empty").write_text("\n")
    rotate = ("keys", "rotate", "--home", str(home), "--passphrase-file", str(tmp_path / "words"))
    done = run(*rotate, "--new-passphrase-file", str(tmp_path / "empty"))
    assert (done.returncode, f"the new passphrase is empty ({tmp_path / 'empty'}" in done.stderr) == (3, True)
    done = run(*rotate, "--new-passphrase-file", str(tmp_path / "words"))
    assert (done.returncode, "is the present one" in done.stderr) == (3, True)


@pytest.mark.usefixtures("made")
def test_serve_with_a_chain_that_does_not_answer_ends_with_its_exit_code(run: Run, home: Path, network: Path) -> None:
    found = Network.load(network).model_copy(update={"rpc_url": "http://127.0.0.1:9"}).save(home / "network.json")
    done = run("serve", "--home", str(home), "--port", "0", "--network", str(found))
    assert done.returncode == 4, done.stderr


def test_a_served_capsule_answers_stops_at_sigterm_and_is_the_same_after_a_restart(
    run: Run,
    home: Path,
    made: Any,
    network: Path,
    serve: Callable[[Path], Served],
    new_account: Callable[[], LocalAccount],
) -> None:
    account, found = new_account(), Network.load(network)
    served = serve(home)
    assert served.facts["address"] == made["address"]
    domain = Domain(found.chain_id, found.contract)  # type: ignore[arg-type]
    with CapsuleClient(served.facts["url"], domain, account, attester=made["address"]) as client:
        assert client.info().sealing_key.hex() == made["sealing_key"][2:]
        key = client.new_key()
        assert key.n.bit_length() == 512
        assert client.health().status == "ok"
    asked = run("info", "--network", str(network), "--url", served.facts["url"], "--json")
    assert json.loads(asked.stdout)["address"] == made["address"]
    second = run("serve", "--home", str(home), "--port", "0", "--network", str(network))
    assert (second.returncode, "another process" in second.stderr) == (8, True)
    assert served.stop() == 0
    log = (home / "log").read_text()
    assert f"Capsule {made['address']} of Sonar {__version__} begins to serve balance_ether=0" in log
    assert f"chain={found.chain_id} contract={found.contract} store=directory database={home / 'capsule.db'}" in log
    assert f"the account {made['address']} has 0 ether" in log
    assert "names the Capsule" not in log

    found.model_copy(update={"capsule": account.address}).save(network)
    home.chmod(0o755)
    again = serve(home)
    with CapsuleClient(again.facts["url"], domain, account, attester=made["address"]) as client:
        assert client.info().sealing_key.hex() == made["sealing_key"][2:]
        assert client.new_key().n != key.n
    log = (home / "log").read_text()
    assert f"the network file names the Capsule {account.address}, and this is {made['address']}" in log
    assert f"run chmod 700 {home}" in log


@pytest.mark.usefixtures("made")
def test_a_killed_capsule_starts_again(home: Path, serve: Callable[[Path], Served]) -> None:
    served = serve(home)
    served.process.kill()
    served.process.wait(10)
    assert served.process.stdout is not None
    served.process.stdout.close()
    served.log.close()
    assert serve(home).facts["address"] == served.facts["address"]


def test_info_without_a_capsule_ends_with_its_exit_code(run: Run, network: Path) -> None:
    done = run("info", "--network", str(network), "--url", "http://127.0.0.1:9")
    assert (done.returncode, "does not answer" in done.stderr) == (8, True)
    assert run("info", "--network", str(network)).returncode == 3


def test_help_answers_without_loading_the_heavy_parts() -> None:
    code = (
        "import sys, capsule.cli; print([m for m in ('web3', 'eth_account', 'fastapi', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.usefixtures("made")
def test_a_file_that_is_no_database_is_not_touched(home: Path) -> None:
    (home / "capsule.db").write_bytes(b"not a database" * 1000)
    for leftover in home.glob("capsule.db-*"):
        leftover.unlink()
    with pytest.raises(CapsuleError, match="backup"):
        open_home(home, PASSPHRASE)
    assert (home / "capsule.db").read_bytes() == b"not a database" * 1000


# ---- keys made ahead


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    opened = State(tmp_path / "keys.db")
    opened.audit.begin(bytes(32))
    yield opened
    opened.close()


def test_the_pool_fills_itself_and_hands_each_key_out_once(state: State) -> None:
    pool = KeyPool(
        state, Vault.create(PASSPHRASE, cost=INTERACTIVE), lambda: generate_key(256, allow_insecure_small_key=True),
        size=2, allow_insecure_small_key=True,
    )  # fmt: skip
    pool.start()
    try:
        keys = [pool.claim("round", timeout=30).public.n for _ in range(5)]
        assert len(set(keys)) == 5
        deadline = time.monotonic() + 30
        while state.spare_keys() < 2:
            assert time.monotonic() < deadline
            threading.Event().wait(0.01)
    finally:
        pool.stop()
    assert state.spare_keys() == 2
    with pytest.raises(CapsuleError, match="backup"):
        pool.secret(b"nobody's".ljust(32))  # type: ignore[arg-type]


def test_an_empty_pool_says_that_it_may_work_later(state: State) -> None:
    blocked = threading.Event()

    def never() -> Any:
        blocked.wait(30)
        raise CapsuleError("stopped")

    pool = KeyPool(state, Vault.create(PASSPHRASE, cost=INTERACTIVE), never, cancel=blocked.set)
    pool.start()
    try:
        with pytest.raises(CapsuleUnavailableError, match="try again"):
            pool.claim("issued", timeout=0.05)
    finally:
        pool.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_key_process_gets_nothing_of_the_environment_that_may_be_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SONAR_CAPSULE_DATABASE", "postgresql+psycopg://capsule:secret@db/capsule")
    monkeypatch.setenv("PGPASSWORD", "secret")
    monkeypatch.setenv("TZ", "UTC")
    maker = KeyProcess(512, allow_insecure_small_key=True)
    maker.make()
    assert maker._child is not None
    shown = Path(f"/proc/{maker._child.pid}/environ").read_bytes()
    maker.rest()
    assert b"TZ=UTC" in shown
    assert b"secret" not in shown


def test_keys_come_from_another_process_which_can_be_cancelled() -> None:
    maker = KeyProcess(512, allow_insecure_small_key=True)
    assert maker.make().public.bits == 512
    assert maker.make().public.n != maker.make().public.n
    maker.rest()
    assert maker.make().public.bits == 512
    maker.rest()
    with pytest.raises(CapsuleError, match="key process"):
        KeyProcess(512).make()
    slow = KeyProcess(8192)
    failed: list[Exception] = []

    def try_it() -> None:
        try:
            slow.make()
        except CapsuleError as error:
            failed.append(error)

    thread = threading.Thread(target=try_it)
    thread.start()
    slow.cancel()
    thread.join(30)
    assert failed


def test_a_key_process_that_hangs_is_ended_and_the_next_key_comes_from_another() -> None:
    maker = KeyProcess(512, allow_insecure_small_key=True)
    maker.make()
    hanging = maker._child
    assert hanging is not None
    hanging.send_signal(signal.SIGSTOP)
    usual, maker._seconds = maker._seconds, 0.5  # for the one that hangs: a busy machine takes longer to start another
    with pytest.raises(CapsuleError, match=r"made no key in 0\.5 s"):
        maker.make()
    assert hanging.returncode == -signal.SIGKILL
    maker._seconds = usual
    assert maker.make().public.bits == 512
    maker.rest()


def test_the_key_process_leaves_it_to_the_capsule_when_to_stop() -> None:
    maker = KeyProcess(512, allow_insecure_small_key=True)
    first = maker.make()
    assert maker._child is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        maker._child.send_signal(number)  # as systemd and terminals do, to every process of a service
        assert maker.make().public.n != first.public.n
    child = maker._child
    maker.cancel()
    maker.rest()
    assert child.returncode == -signal.SIGKILL


def test_a_home_is_made_for_safe_keys_only_unless_asked(tmp_path: Path) -> None:
    with pytest.raises(CapsuleError, match="2048"):
        create_home(tmp_path / "new", PASSPHRASE, 1024)
