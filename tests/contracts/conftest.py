"""The actors, by their roles, and a fresh contract for every test, on the chain that `chains` names."""

import gc

import pytest
from chains import CHAIN
from market import Market

ORACLE_KEY = "0x" + 32 * "5e"

if CHAIN == "brownie":
    # Brownie's environment has only what Brownie needs, and a chain of its own.
    collect_ignore = ["test_chains_in_process.py"]


@pytest.fixture(scope="session")
def artifacts():
    """The compiled contracts; Brownie compiles its own."""
    from chains.artifacts import load_artifacts

    return load_artifacts()


@pytest.fixture(scope="module")
def open_chain(request):
    """Answers a function that makes a chain of a kind."""

    def make(kind):
        if kind == "brownie":
            request.getfixturevalue("module_isolation")
            from chains.brownie_chain import BrownieChain

            return BrownieChain()
        if kind == "eth-tester":
            from chains.eth_tester import EthTesterChain

            return EthTesterChain(request.getfixturevalue("artifacts"))
        assert kind == "revm", f"SONAR_TEST_CHAIN={kind} is no chain: revm, eth-tester or brownie"
        from chains.revm import RevmChain

        return RevmChain(request.getfixturevalue("artifacts"))

    return make


@pytest.fixture(scope="session", autouse=True)
def compiled_project():
    """Brownie collects garbage after every test; it need not look through the compiled project each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def chain(open_chain):
    return open_chain(CHAIN)


@pytest.fixture(scope="module")
def sonar(chain):
    return chain.deploy("Sonar", sender=chain.accounts[9])


@pytest.fixture(scope="module")
def after_deployment(chain, sonar):
    return chain.snapshot()


@pytest.fixture(autouse=True)
def isolated(chain, after_deployment):
    """Every test leaves the chain as it was after the deployment."""
    yield
    chain.restore(after_deployment)


@pytest.fixture(scope="module")
def market(sonar):
    return Market(sonar, ORACLE_KEY)


@pytest.fixture
def metered_market(market, open_chain):
    """A market where gas is counted as a network counts it."""
    if market.chain.metered:
        return market
    if CHAIN == "brownie":
        pytest.skip("coverage runs code that was not optimized")
    chain = open_chain("eth-tester")
    return Market(chain.deploy("Sonar", sender=chain.accounts[9]), ORACLE_KEY)


@pytest.fixture(scope="module")
def owner(chain):
    return chain.accounts[0]


@pytest.fixture(scope="module")
def mines(chain):
    return chain.accounts[1:5]


@pytest.fixture(scope="module")
def mine(mines):
    return mines[0]


@pytest.fixture(scope="module")
def attacker(chain):
    return chain.accounts[6]


@pytest.fixture(scope="module")
def stranger(chain):
    return chain.accounts[7]


@pytest.fixture
def fund(chain, sonar):
    """Deploys a token contract, gives an account plenty of it and approves it all."""

    def deploy(contract, account):
        token = chain.deploy(contract, sender=account)
        token.mint(account, 10**24, sender=account)
        token.approve(sonar, 10**24, sender=account)
        return token

    return deploy


@pytest.fixture
def token(fund, owner):
    """An ERC-20 token that behaves."""
    return fund("HonestToken", owner)
