"""Lets the tests of tests/contracts judge changed contracts, for scripts/mutate-contracts.

One process reads all tests once; for every contract it forks, and its child runs them up to the first that fails.
"""

import gc
import io
import multiprocessing
import os
import signal
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from functools import partial
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["CRASH", "TIMEOUT", "Judge"]

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT = "the time limit"
CRASH = "the end of its process"

TESTS = ROOT / "tests" / "contracts"
NO_JUDGES = ("test_chains.py", "test_chains_in_process.py", "test_code.py")
"""They test the chains, or look at the code that ships. Neither do tests in directories below judge: they are slow."""
METERED = "metered_market"
"""Gas is another matter in code that is not optimized."""
PLENTY_OF_CODE = 1 << 20
"""So is its size."""
EXAMPLES = 15
NOBODY = "0x" + 20 * "00"


class Judge:
    """The process with the tests."""

    def __init__(self, contract: str, seconds: float) -> None:
        self._contract = contract
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, seconds))
        self._process.start()
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
        self._process.join()

    def killer(self, bytecode: bytes, coinbase: str = NOBODY, first: Sequence[str] = ()) -> str | None:
        """The test that fails on the contract, or what else ends it; None if it lives. Begins with some tests."""
        try:
            self._connection.send((self._contract, bytecode, coinbase, first))
            answer: str | None = self._connection.recv()
        except (EOFError, ConnectionError):
            raise RuntimeError("the tests cannot be run: see above what pytest said") from None
        return answer


def _serve(requests: Connection, seconds: float) -> None:
    import pytest

    # Ctrl-C reaches the whole group; who asks ends this process by closing the connection.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.chdir(ROOT)
    os.environ["SONAR_TEST_CHAIN"] = "revm"
    said = io.StringIO()
    with redirect_stdout(said):
        code = pytest.main([str(TESTS), "-q", "-s", "-p", "no:cacheprovider"], [_Bench(requests, seconds)])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        os.write(2, said.getvalue().encode())


class _Bench:
    """A pytest plugin that takes the place of the loop over the tests."""

    def __init__(self, requests: Connection, seconds: float) -> None:
        self._requests = requests
        self._seconds = seconds

    def pytest_collection(self) -> None:
        """Comes after the tests' own settings were read, and before the tests are."""
        from hypothesis import Phase, settings

        settings.register_profile(
            "mutation",
            max_examples=EXAMPLES,
            phases=(Phase.explicit, Phase.generate),
            derandomize=True,
            database=None,
            deadline=None,
        )
        settings.load_profile("mutation")

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = [item for item in items if _is_judge(item)]

    def pytest_runtestloop(self, session: Any) -> bool | None:
        if session.testsfailed:
            return None  # what could not be read; pytest's own loop says so
        import pytest
        from chains import artifacts, revm

        compiled, block = artifacts.load_artifacts(), revm.BlockEnv
        revm.CfgEnv = partial(revm.CfgEnv, limit_contract_code_size=PLENTY_OF_CODE)
        # The children find all that the tests load and remember; and looking for garbage would copy every page.
        if failed := _first_failure(session.items, ()):
            raise pytest.UsageError(f"a test fails on the contracts as they are: {failed}")
        gc.collect()
        gc.freeze()
        with suppress(EOFError, BrokenPipeError):  # who asked has ended
            while True:
                contract, bytecode, coinbase, first = self._requests.recv()
                changed = artifacts.Artifact(contract, compiled[contract].abi, bytecode)
                artifacts.load_artifacts = partial(dict, compiled, **{contract: changed})
                revm.BlockEnv = partial(block, coinbase=coinbase)
                self._requests.send(self._fork(session.items, first))
        return True

    def _fork(self, items: Sequence[Any], first: Sequence[str]) -> str | None:
        ours, theirs = multiprocessing.Pipe(duplex=False)
        child = os.fork()
        if child == 0:
            try:
                theirs.send(_first_failure(items, first))
            finally:
                os._exit(0)
        theirs.close()
        try:
            if not ours.poll(self._seconds):
                os.kill(child, signal.SIGKILL)
                return TIMEOUT
            answer: str | None = ours.recv()
        except EOFError:
            return CRASH
        else:
            return answer
        finally:
            os.waitpid(child, 0)
            ours.close()


def _is_judge(item: Any) -> bool:
    return item.path.parent == TESTS and item.path.name not in NO_JUDGES and METERED not in item.fixturenames


def _first_failure(items: Sequence[Any], first: Sequence[str]) -> str | None:
    from _pytest.runner import runtestprotocol

    ranks = {name: rank for rank, name in enumerate(first)}
    ordered = sorted(items, key=lambda item: ranks.get(item.nodeid, len(ranks)))
    for item, following in pairwise([*ordered, None]):
        if any(report.failed for report in runtestprotocol(item, log=False, nextitem=following)):
            return str(item.nodeid)
    return None
