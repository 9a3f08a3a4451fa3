"""Fixtures that every test directory shares: an embedded chain, funded accounts, a freshly deployed contract."""

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

from sonar.chain.client import SonarClient
from sonar.chain.deploy import Deployment, deploy
from sonar.chain.embedded import EmbeddedServer
from sonar.units import Address, Wei

if TYPE_CHECKING:
    from postgres import Cluster

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Shells start what they run in the background with Ctrl-C ignored, and it would be ignored by what tests start too.
    signal.signal(signal.SIGINT, signal.default_int_handler)

MODE = os.environ.get("SONAR_TEST_MODE", "quick")
"""How long the tests may take: `scripts/test` sets it to quick, full (up to an hour more) or soak (longer)."""

for _mode, _examples in (("quick", 40), ("full", 400), ("soak", 4000)):
    settings.register_profile(_mode, max_examples=_examples, deadline=None)
settings.load_profile(MODE)


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

    def fund(address: Address | str, wei: int) -> None:
        # A session's chain outlives many tests: when one bank has given away what it had, the next one goes on.
        while chain_web3.eth.get_balance(banks[0]) < wei + Web3.to_wei(1, "ether"):
            banks.pop(0)
        bank = banks[0]
        sent = chain_web3.eth.send_transaction(
            {"from": bank, "to": Web3.to_checksum_address(address), "value": Web3.to_wei(wei, "wei")}
        )
        assert chain_web3.eth.wait_for_transaction_receipt(sent)["status"] == 1

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
def deployed(chain_web3: Web3, new_account: Callable[..., LocalAccount]) -> Deployment:
    """A fresh contract."""
    return deploy(chain_web3, new_account())


@pytest.fixture
def client_for(chain_url: str, deployed: Deployment) -> Callable[[LocalAccount | None], SonarClient]:
    """Makes clients of the fresh contract."""

    def connect(account: LocalAccount | None = None) -> SonarClient:
        return SonarClient.connect(chain_url, deployed.address, account, timeout=30)

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
