"""A contract is deployed once whatever happens, written down, and found again through the deployments file."""

import json
from importlib.resources import files

import pytest
from eth_account import Account
from web3 import HTTPProvider, Web3

from sonar.chain.bytecode import SONAR, committee
from sonar.chain.client import SonarClient
from sonar.chain.deploy import deploy, verify_deployment
from sonar.chain.deployments import Deployments, History, Intent, deployments_path, find_record, find_sonar, locked
from sonar.chain.errors import RpcUnavailableError, TransactionFailedError, UnfundedAccountError, WrongChainError
from sonar.chain.once import deploy_once
from sonar.config import Network
from sonar.deployment import deploy_network
from sonar.errors import ConfigError

PANEL = committee([Account.create().address for _ in range(3)], 2)

SEND = "eth_sendRawTransaction"


class Stopped(BaseException):
    """The process ends here, as far as the code under test can tell."""


class Mortal(HTTPProvider):
    """A connection to a real node, whose process is stopped before or after the request that `last` names."""

    def __init__(self, url: str, last: int | str | None = None, *, after: bool = False) -> None:
        super().__init__(url)
        self.asked: list[str] = []
        self._last, self._after = last, after

    def make_request(self, method, params):
        self.asked.append(method)
        dies = self._last in (method, len(self.asked))
        if dies and not self._after:
            raise Stopped
        answer = super().make_request(method, params)
        if dies:
            raise Stopped
        return answer


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("SONAR_HOME", str(tmp_path))
    monkeypatch.delenv("SONAR_DEPLOYMENTS", raising=False)
    return tmp_path / "deployments.json"


@pytest.fixture
def said():
    return []


@pytest.fixture
def put(chain_web3, file, said):
    """Deploys once: put(account, blueprint, ...)."""

    def once(account, blueprint=SONAR, web3=chain_web3, **options):
        options = {"chain_id": chain_web3.eth.chain_id, "timeout": 30, **options}
        return deploy_once(web3, account, blueprint, file, say=said.append, **options)

    return once


def used(web3, account) -> int:
    """How many transactions the account has paid for."""
    return web3.eth.get_transaction_count(account.address)


def test_a_deployment_is_written_down_and_not_repeated(chain_web3, put, new_account, file, said):
    account = new_account()
    record = put(account)
    chain_id = chain_web3.eth.chain_id
    assert Deployments.load(file).history(chain_id) == History(current=record)
    assert record.is_of(SONAR, chain_id)
    assert (record.deployer, used(chain_web3, account)) == (account.address, 1)
    assert chain_web3.eth.get_transaction(record.transaction)["blockNumber"] == record.block
    verify_deployment(chain_web3, record.address, transaction=bytes.fromhex(record.transaction[2:]))
    assert put(new_account()) == record
    assert said[-1] == f"Sonar is there already, as {file} says"


def test_another_deployment_keeps_the_former_one(chain_web3, put, new_account, file, said):
    account = new_account()
    first, second, third = put(account), put(account, again=True), put(account, again=True)
    history = Deployments.load(file).history(chain_web3.eth.chain_id)
    assert (history.current, history.previous) == (third, (second, first))
    assert said[-1] == f"{file} keeps the former one, {second.address}, among `previous`"
    for record in (first, second, third):
        assert find_record(chain_web3.eth.chain_id, "Sonar", record.address.lower()) == record
    assert find_record(chain_web3.eth.chain_id, "Sonar", account.address) is None


def test_a_committee_is_another_one_by_its_members_or_its_threshold(chain_web3, put, new_account, file, said):
    account = new_account()
    first = put(account, PANEL)
    assert put(account, PANEL) == first
    other = put(account, committee(PANEL.members, 3))
    assert (other.members, other.threshold) == (PANEL.members, 3)
    history = Deployments.load(file).history(chain_web3.eth.chain_id, "CapsuleCommittee")
    assert (history.current, history.previous, used(chain_web3, account)) == (other, (first,), 2)
    said.clear()
    assert put(account, PANEL) == first
    assert said == [
        f"`current` of {file}, {other.address}, is not the CapsuleCommittee asked for: its threshold is 3",
        f"CapsuleCommittee is there already, as {file} says among `previous`",
    ]
    assert Deployments.load(file).history(chain_web3.eth.chain_id, "CapsuleCommittee") == history
    assert used(chain_web3, account) == 2
    put(account, committee(PANEL.members[:2], 2))
    assert f"its members are {', '.join(PANEL.members)}" in said[2]


def test_a_former_one_that_is_gone_is_told_and_not_replaced(chain_web3, put, new_account, file):
    account = new_account()
    chain_id = chain_web3.eth.chain_id
    record = put(account)
    gone = record.model_copy(update={"address": account.address})
    gone = gone.model_copy(update={"runtime_sha256": SONAR.runtime_digest(chain_id, account.address)})
    other = record.model_copy(update={"runtime_sha256": "0" * 64})
    Deployments({}).updated(chain_id, "Sonar", History(current=other, previous=(gone,))).save(file)
    with pytest.raises(WrongChainError, match=f"says that Sonar is at {account.address}, but no contract is at"):
        put(account)
    assert used(chain_web3, account) == 1


def test_another_versions_contract_is_named_and_this_ones_deployed(chain_web3, put, new_account, file, said):
    account = new_account()
    record = put(account)
    other = record.model_copy(update={"runtime_sha256": "0" * 64})
    Deployments({}).updated(chain_web3.eth.chain_id, "Sonar", History(current=other)).save(file)
    said.clear()
    assert put(account) != record
    assert (
        said[0] == f"`current` of {file}, {record.address}, is not the Sonar asked for: its code is another version's"
    )
    assert used(chain_web3, account) == 2


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_whoever_is_stopped_at_any_request_and_runs_again_pays_once(chain_url, chain_web3, put, new_account, file,
                                                                    after):  # fmt: skip
    counted = Mortal(chain_url)
    put(new_account(), web3=Web3(counted))
    assert SEND in counted.asked
    for last in range(1, len(counted.asked) + 1):
        file.unlink()
        account = new_account()
        with pytest.raises(Stopped):
            put(account, web3=Web3(Mortal(chain_url, last, after=after)))
        record = put(account)
        assert used(chain_web3, account) == 1, f"stopped at request {last}, {counted.asked[last - 1]}"
        assert Deployments.load(file).history(chain_web3.eth.chain_id) == History(current=record)


@pytest.fixture
def put_network(chain_url, file, tmp_path, said):
    """Deploys for a network file: put_network(account)."""

    def once(account, url=chain_url):
        key = tmp_path / f"{account.address}.key"
        if not key.exists():
            key.touch(mode=0o600)
            key.write_text(account.key.hex())
        return deploy_network(
            rpc_url=url, account_file=key, store="memory:", capsule=None, capsule_url=None,
            path=tmp_path / "network.json", say=said.append,
        )  # fmt: skip

    return once


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_network_whose_deployment_is_stopped_at_any_request_is_paid_for_once(
    chain_url, chain_web3, put_network, new_account, tmp_path, monkeypatch, after
):
    def stopping(last=None):
        provider = Mortal(chain_url, last, after=after)
        monkeypatch.setattr("sonar.chain._rpc.connect_web3", lambda *_, **__: Web3(provider))
        return provider

    counted = stopping()
    put_network(new_account())
    assert SEND in counted.asked
    for last in range(1, len(counted.asked) + 1):
        (tmp_path / "network.json").unlink()
        account = new_account()
        stopping(last)
        with pytest.raises(Stopped):
            put_network(account)
        stopping()
        network, _ = put_network(account)
        assert used(chain_web3, account) == 1, f"stopped at request {last}, {counted.asked[last - 1]}"
        verify_deployment(chain_web3, network.contract)
        assert not (tmp_path / "network.json.deployment").exists()


def test_a_network_file_that_was_not_written_is_written_without_paying_again(
    chain_web3, put_network, new_account, tmp_path, monkeypatch
):
    def stopped(*_):
        raise Stopped

    account = new_account()
    with monkeypatch.context() as patch:
        patch.setattr(Network, "save", stopped)
        with pytest.raises(Stopped):
            put_network(account)
    network, file = put_network(account)
    assert Network.load(file) == network
    assert used(chain_web3, account) == 1


def test_a_deployment_for_a_network_on_another_chain_is_not_forgotten(put_network, new_account, tmp_path):
    journal = tmp_path / "network.json.deployment"
    Deployments({}).updated(5, "Sonar", History()).save(journal)
    with pytest.raises(
        ConfigError, match=r"network\.json\.deployment holds a deployment on chain 5 that has not ended"
    ):
        put_network(new_account())
    assert journal.exists()


def test_what_is_under_way_is_finished_before_anything_else(chain_url, chain_web3, put, new_account, file, said):
    account = new_account()
    with pytest.raises(Stopped):
        put(account, web3=Web3(Mortal(chain_url, SEND)))
    with pytest.raises(ConfigError, match=f"another deployment of Sonar by {account.address} that has not ended"):
        put(new_account())
    put(account, again=True)
    assert said[0] == f"going on with the deployment that {file} holds"
    assert used(chain_web3, account) == 1


def test_a_nonce_that_another_transaction_took_is_told_and_nothing_is_paid_for_twice(chain_url, chain_web3, put,
                                                                                    new_account, file):  # fmt: skip
    account = new_account()
    with pytest.raises(Stopped):
        put(account, web3=Web3(Mortal(chain_url, SEND)))
    deploy(chain_web3, account, PANEL)
    with pytest.raises(TransactionFailedError, match=f"used its nonce 0 .*remove `pending` from {file}"):
        put(account)
    assert used(chain_web3, account) == 1


def test_a_deployment_that_reverted_is_over(chain_url, chain_web3, put, new_account, file):
    account = new_account()
    with pytest.raises(Stopped):
        put(account, web3=Web3(Mortal(chain_url, SEND)))
    # As if the chain had changed its rules meanwhile: what was signed now runs out of gas.
    chain_id = chain_web3.eth.chain_id
    pending = Deployments.load(file).history(chain_id).pending
    fields = {"nonce": 0, "chainId": chain_id, "gas": 500_000, "gasPrice": 10**10, "value": 0}
    signed = account.sign_transaction({**fields, "data": SONAR.creation_code()})
    changes = {"raw": f"0x{signed.raw_transaction.hex()}", "transaction": f"0x{signed.hash.hex()}"}
    history = History(pending=Intent(**{**pending.model_dump(), **changes}))
    Deployments.load(file).updated(chain_id, "Sonar", history).save(file)
    with pytest.raises(TransactionFailedError, match=r"reverted|out of gas"):
        put(account)
    assert Deployments.load(file).history(chain_id) == History()
    assert put(account).deployer == account.address


def test_a_node_of_another_chain_is_refused_before_anything_is_paid_or_written(chain_web3, put, new_account, file):
    account = new_account()
    with pytest.raises(WrongChainError, match=rf"serves chain {chain_web3.eth.chain_id}, not 1: check"):
        put(account, chain_id=1)
    assert (used(chain_web3, account), file.exists()) == (0, False)


def test_an_account_that_cannot_pay_leaves_nothing_under_way(put, new_account, file):
    with pytest.raises(UnfundedAccountError):
        put(new_account(1000))
    assert not file.exists()


def test_a_node_that_does_not_answer_leaves_nothing_under_way(put, file):
    with pytest.raises(RpcUnavailableError):
        put(Account.create(), web3=Web3(HTTPProvider("http://127.0.0.1:9")))
    assert not file.exists()


def test_a_record_that_does_not_hold_is_never_repaired_silently(chain_web3, put, new_account, file):
    account = new_account()
    record = put(account)
    chain_id = chain_web3.eth.chain_id
    gone = record.model_copy(update={"address": account.address})
    gone = gone.model_copy(update={"runtime_sha256": SONAR.runtime_digest(chain_id, account.address)})
    Deployments({}).updated(chain_id, "Sonar", History(current=gone)).save(file)
    with pytest.raises(
        WrongChainError, match=rf"says that Sonar is at {account.address}, but no contract is at .*--again"
    ):
        put(account)
    assert used(chain_web3, account) == 1


def test_two_deployments_at_once_are_refused(put, new_account, file):
    with locked(file), pytest.raises(ConfigError, match="another deployment is under way"):
        put(new_account())
    put(new_account())


def test_the_file_is_readable_and_always_the_same_text(chain_web3, put, new_account, file):
    record = put(new_account())
    text = file.read_text()
    assert list(json.loads(text)) == [str(chain_web3.eth.chain_id)]
    small = Deployments.load(file).updated(5, "Sonar", History(current=record))
    both = small.updated(40, "CapsuleCommittee", History(current=record)).updated(5, "CapsuleCommittee", History())
    assert list(json.loads(both.dumps())) == ["5", "40", str(chain_web3.eth.chain_id)]
    assert list(json.loads(both.dumps())["5"]) == ["CapsuleCommittee", "Sonar"]
    for deployments in (small, both):
        assert Deployments.parse(deployments.dumps(), "file").dumps() == deployments.dumps()
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "file: is not JSON: "),
        ("[]", "file: must be a table of names and values"),
        ('{"one": {}}', "one: must fit the pattern "),
        ('{"1": {"Other": {}}}', r"1\.Other: must be 'Sonar' or 'CapsuleCommittee'"),
        ('{"1": {"Sonar": {"curent": {}}}}', r"1\.Sonar\.curent: there is no such field"),
        ('{"1": {"Sonar": {"current": {"address": "0x12"}}}}', r"1\.Sonar\.current\.address: must be 0x and 40 hex"),
        ('{"1": {"Sonar": {"pending": {"nonce": -1}}}}', r"1\.Sonar\.pending\.deployer: is missing"),
    ],
)
def test_a_bad_file_is_an_error_in_one_sentence_that_names_the_field(file, text, said):
    file.write_text(text)
    with pytest.raises(ConfigError, match=rf"^the deployments file {file} is not valid: {said}[^\n]*$"):
        find_sonar(1)


def test_the_file_that_ships_is_valid_and_its_contracts_are_this_versions(file):
    shipped = (files("sonar.chain") / "data" / "deployments.json").read_text()
    deployments = Deployments.parse(shipped, "shipped")
    assert deployments.dumps() == shipped
    for chain_id in deployments.root:
        assert find_sonar(int(chain_id)) is not None
    assert find_sonar(2**62) is None


def test_a_path_comes_before_the_environment_and_that_before_the_home(file, tmp_path, monkeypatch):
    assert deployments_path() == file
    monkeypatch.setenv("SONAR_DEPLOYMENTS", str(tmp_path / "other.json"))
    assert deployments_path() == tmp_path / "other.json"
    assert deployments_path(tmp_path / "given.json") == tmp_path / "given.json"


def test_a_network_file_without_a_contract_finds_it_by_its_chain(chain_url, chain_web3, put, new_account, file,
                                                                 tmp_path, monkeypatch):  # fmt: skip
    short = {"rpc_url": chain_url, "chain_id": chain_web3.eth.chain_id, "store": "memory:"}
    path = tmp_path / "network.json"
    path.write_text(json.dumps(short))
    with pytest.raises(
        ConfigError, match=f"names no contract, and no deployment on chain {short['chain_id']} is known"
    ):
        Network.load(path)
    record = put(new_account())
    network = Network.load(path)
    assert (network.contract, network.start_block) == (record.address, record.block)
    assert SonarClient.from_network(network).address == record.address
    path.write_text(json.dumps({**short, "start_block": 0}))
    assert Network.load(path).start_block == 0
    path.write_text(json.dumps({**short, "contract": new_account().address}))
    assert (Network.load(path).contract != record.address, Network.load(path).start_block) == (True, 0)
    # A file that is named is the only one that is asked.
    path.write_text(json.dumps(short))
    monkeypatch.setenv("SONAR_DEPLOYMENTS", str(tmp_path / "none.json"))
    with pytest.raises(ConfigError, match="names no contract"):
        Network.load(path)


def test_the_contract_of_another_version_is_not_taken_for_this_ones(chain_web3, put, new_account, file):
    record = put(new_account())
    chain_id = chain_web3.eth.chain_id
    other = record.model_copy(update={"runtime_sha256": 64 * "0"})
    Deployments({}).updated(chain_id, "Sonar", History(current=other)).save(file)
    with pytest.raises(ConfigError, match=rf"{record.address} on chain {chain_id}, which is not this version's"):
        find_sonar(chain_id)
    assert put(new_account()).address != record.address
    assert Deployments.load(file).history(chain_id).previous == (other,)
