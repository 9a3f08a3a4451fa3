"""The actors, by their roles, and a fresh contract for every test."""

import gc

import pytest
from brownie import HonestToken, Sonar, accounts, web3
from market import Market, on_anvil


@pytest.fixture(scope="session", autouse=True)
def compiled_project():
    """Brownie collects garbage after every test; it need not look through the compiled project each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def sonar(module_isolation):
    if on_anvil():
        # Ganache was started so: blocks are a second apart, whatever the wall clock says.
        web3.provider.make_request("anvil_setBlockTimestampInterval", [1])
    return accounts[9].deploy(Sonar)


@pytest.fixture(autouse=True)
def isolated(sonar, fn_isolation):
    """Every test starts from the chain as it was after the deployment."""


@pytest.fixture(scope="module")
def market(sonar):
    return Market(sonar, oracle_key="0x" + "5e" * 32)


@pytest.fixture(scope="module")
def owner():
    return accounts[0]


@pytest.fixture(scope="module")
def mines():
    return accounts[1:5]


@pytest.fixture(scope="module")
def mine(mines):
    return mines[0]


@pytest.fixture(scope="module")
def attacker():
    return accounts[6]


@pytest.fixture(scope="module")
def stranger():
    return accounts[7]


@pytest.fixture
def fund(sonar):
    """Deploys a token contract, gives an account plenty of it and approves it all."""

    def deploy(contract, account):
        token = account.deploy(contract)
        token.mint(account, 10**24, {"from": account})
        token.approve(sonar, 10**24, {"from": account})
        return token

    return deploy


@pytest.fixture
def token(fund, owner):
    """An ERC-20 token that behaves."""
    return fund(HonestToken, owner)
