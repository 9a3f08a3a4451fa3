"""Sonar's commands, each in a process of its own that need not import anything: forked from one that has.

Importing takes most of a short command's time. What is forked has its own arguments, environment, folder and output,
nothing to read, and ends as any Python process does; nobody has run a command in it before. A test of what a command
loads, or of a process that is spoken to while it runs, starts one itself.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["Commands"]

_SERVER = """
import gc, json, os, runpy, signal, sys, tempfile
{libraries}
gc.freeze()  # no command need look through these when it ends
{preparation}
for line in sys.stdin:
    asked = json.loads(line)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            for number, file in enumerate((os.open(os.devnull, os.O_RDONLY), out.fileno(), err.fileno())):
                os.dup2(file, number)
            break
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0), err.seek(0)
        told = {{"returncode": code, "stdout": out.read().decode(), "stderr": err.read().decode()}}
        print(json.dumps(told), flush=True)
else:
    sys.exit()
signal.alarm(asked["seconds"])
os.chdir(asked["folder"])
os.environ.clear()
os.environ.update(asked["environment"])
program, *sys.argv[1:] = asked["command"]
sys.argv[0] = program
(runpy.run_path if program.endswith(".py") else runpy.run_module)(program, run_name="__main__")
"""
_LIBRARIES = {
    # Not DuckDB, which is told to leak, on stderr, where it is not freed at the end.
    "mine": "import eth_account, httpx, ipfshttpclient, numpy, pydantic, rich.live, sonar.chain.client, sonar.syft",
    "capsule": "import capsule.cli, capsule.serving, capsule.home, capsule.custody.restoring, capsule.custody.backup",
}
_PREPARATION = {
    "mine": "import mine.cli, mine.commands.session, mine.daemon, mine.metrics, mine.overview, mine.worker",
    "capsule": "",
}


class Commands:
    """Runs commands one after the other; the first one starts the process that they are forked from."""

    def __init__(self, package: str, preparation: str = "") -> None:
        """Commands of `package`; `preparation` is Python that runs before any of them, for all of them."""
        self._package = package
        self._libraries = _LIBRARIES[package]
        self._preparation = f"{_PREPARATION[package]}\n{preparation}"
        self._process: subprocess.Popen[str] | None = None

    def run(
        self, command: Sequence[str | Path], environment: Mapping[str, str], *, seconds: int = 240
    ) -> "subprocess.CompletedProcess[str]":
        """Runs a module or a script (`*.py`) with its arguments; one that takes longer ends by SIGALRM."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _SERVER.format(libraries=self._libraries, preparation=self._preparation)],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {
            "command": [str(word) for word in command],
            "environment": dict(environment),
            "folder": str(Path.cwd()),
            "seconds": seconds,
        }
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        told = json.loads(self._process.stdout.readline())
        return subprocess.CompletedProcess(asked["command"], **told)

    def __call__(self, *arguments: str | Path, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Runs a command of the package, with these variables and none else that Sonar reads."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SONAR_")}
        return self.run([self._package, *arguments], {**clean, **variables})

    def close(self) -> None:
        """Ends the process that commands are forked from."""
        if self._process is not None:
            self._process.communicate()
