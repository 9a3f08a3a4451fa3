"""Fixtures that every test directory shares: an embedded chain, funded accounts, a freshly deployed contract."""

import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from hypothesis import settings
from web3 import Web3
from web3.contract import Contract

from sonar.chain.bytecode import SONAR
from sonar.chain.client import SonarClient
from sonar.chain.deploy import Deployment
from sonar.chain.embedded import EmbeddedServer
from sonar.units import Address, Wei

if TYPE_CHECKING:
    from commands import Commands
    from postgres import Cluster

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Shells start what they run in the background with Ctrl-C ignored, and it would be ignored by what tests start too.
    signal.signal(signal.SIGINT, signal.default_int_handler)

MODE = os.environ.get("SONAR_TEST_MODE", "quick")
"""How long the tests may take: `scripts/test` sets it to quick, full (up to an hour more) or soak (longer)."""

DEPLOYMENT_GAS = 8_000_000
"""More than the contract takes to be deployed."""

for _mode, _examples in (("quick", 40), ("full", 400), ("soak", 4000)):
    settings.register_profile(_mode, max_examples=_examples, deadline=None)
settings.load_profile(MODE)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Each worker begins with its share of the long tests: none is left with one when the others have ended.

    Stealing starts from slices of one length each, in the order of the tests.
    """
    if not hasattr(config, "workerinput"):
        return
    workers = config.workerinput["workercount"]
    long = [item for item in items if item.get_closest_marker("long")]
    others = iter([item for item in items if not item.get_closest_marker("long")])
    count, dealt = len(items), []
    for worker in range(workers):
        share = long[worker::workers]
        size = (count - len(dealt)) // (workers - worker)
        dealt += share + list(itertools.islice(others, max(0, size - len(share))))
    items[:] = dealt + list(others)


@pytest.fixture(scope="session")
def effort() -> Callable[[int, int, int], int]:
    """Chooses a number of repetitions: effort(quick, full, soak)."""
    return lambda quick, full, soak: {"quick": quick, "full": full, "soak": soak}[MODE]


@pytest.fixture(scope="module")
def chain_url() -> Iterator[str]:
    """The RPC address of an embedded chain; one for each test module, because time on it only goes forward."""
    with EmbeddedServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server.url
        server.shutdown()
        thread.join(10)


@pytest.fixture(scope="module")
def chain_web3(chain_url: str) -> Web3:
    """A bare connection to the chain."""
    return Web3(Web3.HTTPProvider(chain_url, request_kwargs={"timeout": 30}))


@pytest.fixture(scope="module")
def funder(chain_web3: Web3) -> Callable[[Address | str, int], None]:
    """Gives an address native coin."""
    banks = list(chain_web3.eth.accounts)
    ask = chain_web3.provider.make_request

    def fund(address: Address | str, wei: int) -> None:
        # In the node's own words: web3 would ask it five things more each time, and nearly every test begins here.
        transfer = {"to": Web3.to_checksum_address(address), "value": hex(wei)}
        while "error" in (sent := ask("eth_sendTransaction", [transfer | {"from": banks[0]}])):  # type: ignore[arg-type]
            # A session's chain outlives many tests: when one bank has given away what it had, the next one goes on.
            assert len(banks) > 1, sent
            banks.pop(0)
        assert chain_web3.eth.wait_for_transaction_receipt(sent["result"])["status"] == 1

    return fund


@pytest.fixture(scope="module")
def new_account(funder: Callable[[Address | str, int], None]) -> Callable[..., LocalAccount]:
    """Makes accounts that hold 100 ether, or what is asked for."""

    def make(wei: Wei | int = 100 * 10**18) -> LocalAccount:
        account: LocalAccount = Account.create()
        if wei:
            funder(account.address, wei)
        return account

    return make


@pytest.fixture(scope="module")
def advance_time(chain_web3: Web3) -> Callable[[int], None]:
    """Lets seconds pass on the chain, and a block with them."""

    def advance(seconds: int) -> None:
        for method, parameters in (("evm_increaseTime", [seconds]), ("evm_mine", [])):
            answer = chain_web3.provider.make_request(method, parameters)  # type: ignore[arg-type]
            assert "error" not in answer, answer

    return advance


@pytest.fixture(scope="session")
def mine_commands() -> Iterator["Commands"]:
    """Runs `mine` commands in processes of their own."""
    from commands import Commands

    commands = Commands("mine")
    yield commands
    commands.close()


@pytest.fixture(scope="session")
def capsule_commands() -> Iterator["Commands"]:
    """Runs `capsule` commands in processes of their own."""
    from commands import Commands

    commands = Commands("capsule")
    yield commands
    commands.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator["Cluster"]:
    """A PostgreSQL of this test process; skips where none is installed, unless SONAR_REQUIRE_POSTGRES=1."""
    from postgres import REQUIRED, Cluster, find_binaries

    binaries = find_binaries()
    if binaries is None:
        assert not REQUIRED, "no PostgreSQL is installed: run apt-get install postgresql"
        pytest.skip("no PostgreSQL is installed")
    with Cluster(binaries) as cluster:
        yield cluster


@pytest.fixture
def postgres_url(postgres: "Cluster") -> Iterator[str]:
    """The URL of a fresh PostgreSQL database."""
    name = postgres.new_database()
    yield postgres.url(name)
    postgres.drop(name)


@pytest.fixture
def deployed(chain_web3: Web3) -> Deployment:
    """A fresh contract, put there by the chain's first account: what `deploy` does besides has tests of its own."""
    ask = chain_web3.provider.make_request
    made = {"from": chain_web3.eth.accounts[0], "data": f"0x{SONAR.creation_code().hex()}", "gas": hex(DEPLOYMENT_GAS)}
    sent = ask("eth_sendTransaction", [made])  # type: ignore[arg-type]
    assert "error" not in sent, sent
    receipt = chain_web3.eth.wait_for_transaction_receipt(sent["result"])
    assert receipt["status"] == 1
    assert receipt["contractAddress"] is not None
    place = Address(receipt["contractAddress"])
    return Deployment(chain_web3.eth.chain_id, place, receipt["blockNumber"], bytes(receipt["transactionHash"]))


@pytest.fixture
def client_for(chain_url: str, deployed: Deployment) -> Callable[[LocalAccount | None], SonarClient]:
    """Answers clients of the fresh contract, one for each account."""
    connected: dict[str, SonarClient] = {}

    def connect(account: LocalAccount | None = None) -> SonarClient:
        name = "" if account is None else account.address
        if name not in connected:
            connected[name] = SonarClient.connect(chain_url, deployed.address, account, timeout=30)
        return connected[name]

    return connect


@pytest.fixture(scope="session")
def contract_artifacts() -> Mapping[str, Any]:
    """The contracts and their mocks, compiled."""
    from chains.artifacts import load_artifacts

    return load_artifacts()


@pytest.fixture
def new_token(chain_web3: Web3, contract_artifacts: Mapping[str, Any]) -> Callable[..., Contract]:
    """Deploys a token of contracts/mocks and mints it to accounts: new_token("HonestToken", {address: amount})."""
    bank = chain_web3.eth.accounts[0]

    def make(name: str = "HonestToken", holders: Mapping[str, int] | None = None) -> Contract:
        compiled = contract_artifacts[name]
        made = chain_web3.eth.contract(abi=compiled.abi, bytecode=compiled.bytecode)
        receipt = chain_web3.eth.wait_for_transaction_receipt(made.constructor().transact({"from": bank}))
        token = chain_web3.eth.contract(address=receipt["contractAddress"], abi=compiled.abi)
        for account, amount in (holders or {}).items():
            chain_web3.eth.wait_for_transaction_receipt(token.functions.mint(account, amount).transact({"from": bank}))
        return token

    return make
