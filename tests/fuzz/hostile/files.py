"""Decoders of files on a user's machine: network, deployments, accounts, policies, ledgers, drafts, tables."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory

from eth_account import Account

from hostile.mutations import json_text
from hostile.target import Target
from mine.data import inspect
from mine.errors import DataError, LedgerError, PolicyError
from mine.ledger import Ledger
from mine.policy import Policy
from pysonar.drafts import Draft, Drafts
from sonar.chain.client import SignedTransaction
from sonar.chain.deployments import Deployments
from sonar.chain.records import NATIVE
from sonar.config import Network
from sonar.errors import ConfigError
from sonar.units import Address, CampaignId, Wei
from sonar.wallet import load_account

__all__ = ["targets"]

_KEY = bytes(range(1, 33))
_ADDRESS = "0x" + "11" * 20
_NETWORK = {
    "rpc_url": "http://127.0.0.1:8545", "chain_id": 1337, "contract": _ADDRESS, "start_block": 5,
    "store": "directory:/srv/store", "capsule_url": "http://127.0.0.1:8700", "capsule": _ADDRESS,
}  # fmt: skip
_RECORD = {
    "address": _ADDRESS, "block": 3, "transaction": "0x" + "ab" * 32, "deployer": _ADDRESS,
    "runtime_sha256": "cd" * 32, "source_sha256": "ef" * 32,
}  # fmt: skip
_POLICY = b"""[accept]
capsules = ["0x1111111111111111111111111111111111111111"]
[data]
min_records = 20
[datasets.clinic]
purposes = ["research"]
[money]
max_bond = "0.5"
max_gas_gwei = 30
[work]
hours = ["mon-fri 22:00-06:00"]
longest_training = "1h"
[privacy]
epsilon = 0.5
[committees.0x2222222222222222222222222222222222222222]
members = ["0x1111111111111111111111111111111111111111"]
threshold = 1
"""
_TABLES = (
    b"a,b,target\n1,2,yes\n3.5,-4,no\n5,6e1,yes\n",
    b'a;"b c";target\r\n1;2;"y""s"\r\n3;4;no\r\n',
    b"\xef\xbb\xbfa\tb\ttarget\n1\t\xc3\xa9\tx\n",
)


def targets(stack: ExitStack) -> Iterator[Target]:
    """Files of every actor, in a directory that is removed with the stack."""
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="sonar-fuzz-")))
    yield Target(
        "network-file",
        _reading(folder / "network.json", Network.load),
        (ConfigError,),
        (json.dumps(_NETWORK).encode(), json.dumps({**_NETWORK, "capsule": None}).encode()),
        (json_text,),
    )
    deployments = {"1337": {"Sonar": {"current": _RECORD, "previous": [_RECORD]}}}
    yield Target(
        "deployments-file",
        lambda data: Deployments.parse(data, "deployments.json"),
        (ConfigError,),
        (json.dumps(deployments).encode(),),
        (json_text,),
    )
    keystore = json.dumps(Account.encrypt(_KEY, "words", iterations=2)).encode()
    yield Target(
        "account-file",
        _reading(folder / "account.key", lambda path: load_account(path, "words")),
        (ConfigError,),
        (keystore, b"0x" + _KEY.hex().encode() + b"\n"),
        (json_text,),
        weight=0.3,
    )
    yield Target("policy-file", _reading(folder / "policy.toml", Policy.load), (PolicyError,), (_POLICY,))
    yield Target("ledger-file", _reading(folder / "mine.db", _ledger), (LedgerError,), (_ledger_bytes(folder),),
                 weight=0.05)  # fmt: skip
    yield Target(
        "table",
        _reading(folder / "table.csv", lambda path: inspect("table", path, "target")),
        (DataError,),
        _TABLES,
        weight=0.05,
        samples=True,
    )
    yield from _drafts(folder)


def _reading(path: Path, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """A decoder of bytes made of one of files."""
    path.touch(mode=0o600)

    def decode(data: bytes) -> object:
        path.write_bytes(data)
        return read(path)

    return decode


def _ledger(path: Path) -> object:
    for leftover in ("-wal", "-shm", "-journal"):
        path.with_name(path.name + leftover).unlink(missing_ok=True)
    with Ledger(path) as ledger:
        return len(list(ledger.datasets()))


def _ledger_bytes(folder: Path) -> bytes:
    path = folder / "seed.db"
    Ledger(path).close()
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=DELETE")
    return path.read_bytes()


def _drafts(folder: Path) -> Iterator[Target]:
    drafts = Drafts(folder / "drafts")
    owner = Address(_ADDRESS)
    draft = Draft(
        CampaignId(b"\x01" * 32), 1337, owner, owner, 2**31, NATIVE, Wei(10**18), b"\x12\x34",
        SignedTransaction(b"\x02\x03", b"\x04" * 32, 7),
    )  # fmt: skip
    drafts.save(draft)
    path = folder / "drafts" / f"{draft.campaign.hex()}.json"
    yield Target(
        "draft",
        _reading(path, lambda _: drafts.all(chain_id=1337, contract=owner, owner=owner)),
        (ConfigError,),
        (path.read_bytes(),),
        (json_text,),
        weight=0.3,
    )
