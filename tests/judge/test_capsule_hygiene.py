"""A served Capsule seen from outside: what its processes show of their secrets, and who can rotate them meanwhile."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from custody import PASSPHRASE, fill, make_home

from capsule.home import OpenHome
from sonar.chain.deploy import Deployment
from sonar.config import Network

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture
def home(tmp_path: Path) -> OpenHome:
    made = make_home(tmp_path / "capsule")
    fill(made)
    made.state.close()
    return made


@pytest.fixture
def served(
    home: OpenHome, tmp_path: Path, chain_url: str, deployed: Deployment, client_for: Any
) -> Iterator["subprocess.Popen[str]"]:
    """`capsule serve`, which got its passphrase from the environment, as in a container."""
    network = Network(
        rpc_url=chain_url, chain_id=client_for(None).chain_id, contract=deployed.address,
        start_block=deployed.block, store=f"directory:{tmp_path / 'store'}",
    ).save(tmp_path / "network.json")  # fmt: skip
    options = ["--home", tmp_path / "capsule", "--network", network, "--port", "0", "--poll", "0.1"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "capsule", "serve", *map(str, options)],
            env={**os.environ, "SONAR_CAPSULE_PASSPHRASE": PASSPHRASE, "SONAR_CAPSULE_JUDGE_PROCESSES": "1"},
            stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        try:
            assert process.stdout.readline(), (tmp_path / "log").read_text()
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=120)


def test_no_process_of_a_served_capsule_dumps_core_or_shows_its_passphrase(
    served: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    processes = [psutil.Process(served.pid), *psutil.Process(served.pid).children(recursive=True)]
    assert len(processes) >= 2, "the judge process is one of them"
    for process in processes:
        place = Path(f"/proc/{process.pid}")
        core = next(line for line in (place / "limits").read_text().splitlines() if line.startswith("Max core file"))
        assert core.split()[4:6] == ["0", "0"], process.cmdline()
        assert PASSPHRASE.encode() not in (place / "cmdline").read_bytes()
        if process.pid != served.pid:  # the kernel keeps showing what a process was started with
            assert b"PASSPHRASE" not in _environment(place)
    assert "Umask:\t0077" in Path(f"/proc/{served.pid}/status").read_text()
    for file in (tmp_path / "capsule").iterdir():
        assert oct(file.stat().st_mode)[-3:] == "600", file
    assert PASSPHRASE not in (tmp_path / "log").read_text()


def _environment(place: Path) -> bytes:
    """What a process was started with, as far as this user may see it: of an undumpable one, only root may."""
    try:
        return (place / "environ").read_bytes()
    except PermissionError:
        return b""


def test_a_served_capsule_is_backed_up_but_not_rotated(served: "subprocess.Popen[str]", tmp_path: Path) -> None:
    capsule, variables = [sys.executable, "-m", "capsule"], {**os.environ, "SONAR_CAPSULE_PASSPHRASE": PASSPHRASE}
    where = ["--home", str(tmp_path / "capsule"), "--json"]
    done = subprocess.run(
        [*capsule, "keys", "rotate", *where], env={**variables, "SONAR_CAPSULE_NEW_PASSPHRASE": "new"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, "another process serves" in done.stderr) == (8, True), done.stderr
    done = subprocess.run(
        [*capsule, "backup", str(tmp_path / "backup"), *where],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["bytes"] == (tmp_path / "backup").stat().st_size
    assert served.poll() is None
