"""A marketplace on an Anvil of its own, for measuring gas: the same transactions, byte for byte, at every run.

Accounts are addresses without keys, which Anvil lets everyone send from; only oracles sign. Blocks are one second
apart, gas is free, and every digest is without zero bytes, which calldata would carry at a discount.
"""

import json
import platform
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address
from web3 import HTTPProvider, Web3
from web3.types import TxReceipt

from sonar.chain import bytecode, calls
from sonar.chain._artifact import artifact
from sonar.chain._rpc import rpc
from sonar.chain.client import entries_head
from sonar.chain.compile import EVM_VERSION, OPTIMIZER_RUNS
from sonar.chain.records import NATIVE, Admission, Entry, Outcome, PayoutBase, Settlement, Terms, Verdict
from sonar.processes import Child, free_port, wait_until
from sonar.protocol.messages import Domain, hash_admission, sign_admission, sign_settlement
from sonar.storage.cids import raw_cid
from sonar.units import Address, CampaignId, Cid, Digest, KeyId, Ppm, ether

ROOT = Path(__file__).resolve().parent.parent
MOST_GRADIENTS = 64
START = 1_700_000_000
GAS_LIMIT = 30_000_000
BOUNTY, BOND = ether(1), ether("0.01")
START_SCORE, STEP, TARGET = Ppm(100_000), Ppm(20_000), Ppm(800_000)
SLASH, MIN_GAIN, MAX_ROUNDS = Ppm(100_000), Ppm(1_000), 10
ERC20_SOURCE = """
pragma solidity ^0.8.26;
import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
contract Token is ERC20("Token", "TOK") { constructor() { _mint(msg.sender, 1e24); } }
"""
"""Not one of the tests' mocks: a contract's code may depend on what is compiled beside it."""
ROUND_SECONDS, SETTLEMENT_SECONDS, CAMPAIGN_SECONDS = 600, 600, 86_400


class BenchError(Exception):
    """The measurement could not be made."""


def anvil_binary() -> Path:
    """Anvil's own binary: a killed npm wrapper leaves it running."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    name = f"anvil-{platform.system().lower()}-{machine}"
    return ROOT / "node_modules" / "@foundry-rs" / name / "bin" / "anvil"


@contextmanager
def anvil() -> Iterator[Web3]:
    """A fresh chain at paris, on a free loopback port, ended with the context."""
    if not anvil_binary().is_file():
        raise BenchError(f"there is no Anvil at {anvil_binary()}: run `npm ci` in the repository, then again")
    port = free_port()
    command = [str(anvil_binary()), "--host", "127.0.0.1", "--port", str(port), "--hardfork", EVM_VERSION]
    command += ["--timestamp", str(START), "--gas-limit", str(GAS_LIMIT), "--block-base-fee-per-gas", "0"]
    command += ["--gas-price", "0", "--auto-impersonate", "--quiet"]
    with tempfile.TemporaryDirectory(prefix="sonar-gas-") as temporary:
        # Anvil keeps files below HOME.
        child = Child("anvil", command, log=Path(temporary) / "anvil.log", env={"HOME": temporary})
        try:
            web3 = Web3(HTTPProvider(f"http://127.0.0.1:{port}"))
            wait_until(web3.is_connected, timeout=30, what="answering", child=child)
            request(web3, "anvil_setBlockTimestampInterval", 1)
            yield web3
        finally:
            child.stop()


def request(web3: Web3, method: str, *arguments: Any) -> Any:
    """Anvil's answer to a method that web3 does not know."""
    answer = web3.provider.make_request(method, list(arguments))
    if "error" in answer:
        raise BenchError(f"Anvil refused {method}: {answer['error']['message']}")
    return answer["result"]


def address(name: str) -> Address:
    """An account's address, made of its name."""
    return Address(to_checksum_address(digest(f"account {name}")[:20]))


def digest(name: str) -> Digest:
    """A pretended SHA-256 without zero bytes."""
    return Digest(bytes(byte or 1 for byte in sha256(name.encode()).digest()))


def compile_token() -> dict[str, Any]:
    """The token's ABI and code, compiled with the settings of the contracts that ship."""
    request = {
        "language": "Solidity",
        "sources": {"Token.sol": {"content": ERC20_SOURCE}},
        "settings": {
            "evmVersion": EVM_VERSION,
            "optimizer": {"enabled": True, "runs": OPTIMIZER_RUNS},
            "viaIR": True,
            "metadata": {"appendCBOR": False, "bytecodeHash": "none"},
            "remappings": ["@openzeppelin/=node_modules/@openzeppelin/"],
            "outputSelection": {"Token.sol": {"Token": ["abi", "evm.bytecode.object"]}},
        },
    }
    command = [ROOT / "scripts" / "solc-node", "--standard-json"]
    done = subprocess.run(command, cwd=ROOT, input=json.dumps(request), capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"solc does not run: {done.stderr.strip()[-300:]}")
    answer = json.loads(done.stdout)
    if "contracts" not in answer:
        raise BenchError(f"the token does not compile: {answer['errors'][0]['formattedMessage']}")
    return dict(answer["contracts"]["Token.sol"]["Token"])


@dataclass(frozen=True)
class Oracle:
    """Whose word counts: an account, or a contract that counts the signatures of some."""

    address: Address
    signers: tuple[LocalAccount, ...]

    @classmethod
    def account(cls) -> "Oracle":
        """One Capsule."""
        signer = Account.from_key(digest("key of the Capsule"))
        return cls(Address(signer.address), (signer,))

    def admit(self, domain: Domain, admission: Admission) -> bytes:
        """Its signature of an admission."""
        return b"".join(sign_admission(domain, admission, signer) for signer in self.signers)

    def judge(self, domain: Domain, settlement: Settlement) -> bytes:
        """Its signature of a settlement."""
        return b"".join(sign_settlement(domain, settlement, signer) for signer in self.signers)


@dataclass
class Campaign:
    """A campaign and its present round."""

    id: CampaignId
    oracle: Oracle
    terms: Terms
    score: Ppm = START_SCORE
    number: int = 0
    entries: list[Entry] = field(default_factory=list)

    def next_round(self) -> None:
        """Forgets the present round."""
        self.number += 1
        self.entries = []


class Market:
    """The contract, an ERC-20 token, and mines that have done business before."""

    def __init__(self, web3: Web3) -> None:
        self.web3 = web3
        self.oracle = Oracle.account()
        self.owner = address("owner")
        self.mines = [address(f"mine {index}") for index in range(MOST_GRADIENTS)]
        """They have credits, in coin and in the token."""
        self.newcomers = [address(f"newcomer {index}") for index in range(MOST_GRADIENTS)]
        self._made = 0
        for account in (self.owner, *self.mines, *self.newcomers):
            request(web3, "anvil_setBalance", account, hex(ether(1_000)))
        self.sonar, self.deployment_gas = self.deploy(bytecode.SONAR.creation_code())
        self.domain = Domain(web3.eth.chain_id, self.sonar)
        self._contract = web3.eth.contract(address=to_checksum_address(self.sonar), abi=artifact()["abi"])
        self.token = self._new_token()
        self._give_credits()

    # ---- transactions

    def deploy(self, code: bytes) -> tuple[Address, int]:
        """Deploys a contract; answers its address and the gas."""
        receipt = self.send(None, "0x" + code.hex())
        return Address(str(receipt["contractAddress"])), int(receipt["gasUsed"])

    def runtime_size(self, contract: Address) -> int:
        """The bytes of a deployed contract."""
        return len(self.web3.eth.get_code(to_checksum_address(contract)))

    def send(self, to: Address | None, data: str, *, sender: Address | None = None, value: int = 0) -> TxReceipt:
        """Sends a transaction, which must succeed."""
        transaction: dict[str, Any] = {"from": sender or self.owner, "data": data, "value": value, "gasPrice": 0}
        transaction |= {"gas": GAS_LIMIT} | ({} if to is None else {"to": to})
        sent = self.web3.eth.send_transaction(transaction)
        receipt = self.web3.eth.wait_for_transaction_receipt(sent, poll_latency=0.002)
        if receipt["status"] != 1:
            with rpc(self.web3):
                self.web3.eth.call(transaction)  # raises with the reason
            raise BenchError(f"the transaction {receipt['transactionHash'].to_0x_hex()} reverted")
        return receipt

    def gas(self, sender: Address, call: calls.Call) -> int:
        """Calls the contract; answers the gas that the transaction used."""
        data = self._contract.encode_abi(call.function, args=list(call.arguments))
        return int(self.send(self.sonar, data, sender=sender, value=call.value)["gasUsed"])

    def pass_time(self, seconds: int) -> None:
        """Lets time pass until the next block."""
        now = self.web3.eth.get_block("latest")["timestamp"]
        request(self.web3, "evm_setNextBlockTimestamp", now + seconds)

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """Takes back, at the end, whatever happens to the chain inside."""
        before, made = request(self.web3, "evm_snapshot"), self._made
        try:
            yield
        finally:
            request(self.web3, "evm_revert", before)
            self._made = made

    # ---- a campaign's life; each answers the gas

    def create(
        self, *, token: Address = NATIVE, round_size: int = MOST_GRADIENTS, oracle: Oracle | None = None
    ) -> tuple[Campaign, int]:
        """Opens a campaign whose rounds are full with `round_size` gradients."""
        oracle = oracle or self.oracle
        self._made += 1
        name = f"of campaign {self._made}"
        now = self.web3.eth.get_block("latest")["timestamp"]
        terms = Terms(
            token, BOUNTY, BOND, SLASH, TARGET, PayoutBase.TARGET, MIN_GAIN, min(2, round_size), round_size, MAX_ROUNDS,
            ROUND_SECONDS, SETTLEMENT_SECONDS, now + CAMPAIGN_SECONDS,
        )  # fmt: skip
        admission = Admission(
            digest(f"spec {name}"), digest(f"model {name}"), KeyId(digest(f"key {name}")), digest("sealing key"),
            START_SCORE, oracle.address, self.owner, now + ROUND_SECONDS,
        )  # fmt: skip
        spec, model = raw_cid(f"spec {name}".encode()), raw_cid(f"model {name}".encode())
        call = calls.create_campaign(terms, admission, oracle.admit(self.domain, admission), spec, model)
        gas = self.gas(self.owner, call)
        return Campaign(hash_admission(self.domain, admission), oracle, terms), gas

    def fill(self, campaign: Campaign, mines: Iterable[Address]) -> None:
        """Posts a gradient of each mine into the present round."""
        for mine in mines:
            self.submit(campaign, mine)

    def submit(self, campaign: Campaign, mine: Address) -> int:
        """Posts a mine's gradient into the present round."""
        name = f"of {mine} for round {campaign.number} of {campaign.id.hex()}"
        entry = Entry(mine, digest(f"sealed gradient {name}"), digest(f"gradient {name}"))
        cid = raw_cid(f"sealed gradient {name}".encode())
        call = calls.submit_gradient(
            campaign.id, campaign.number, entry.artifact, entry.gradient, cid, campaign.terms.bond
        )
        gas = self.gas(mine, call)
        campaign.entries.append(entry)
        return gas

    def settlement(self, campaign: Campaign, kept: int) -> Settlement:
        """A settlement that keeps the first `kept` gradients of the round, at equal shares; none: no advance."""
        share = 1_000_000 // max(1, kept)
        outcomes = [Outcome(Verdict.KEPT, 3, Ppm(share))] * kept
        if kept:
            outcomes[-1] = Outcome(Verdict.KEPT, 3, Ppm(1_000_000 - share * (kept - 1)))
        outcomes += [Outcome(Verdict.LEFT_OUT, 0, Ppm(0))] * (len(campaign.entries) - kept)
        name = f"of round {campaign.number} of {campaign.id.hex()}"
        advances = kept > 0
        nothing = bytes(32)
        return Settlement(
            campaign.id, campaign.number, entries_head(campaign.id, campaign.number, campaign.entries),
            Ppm(campaign.score + STEP) if advances else campaign.score, 10 if advances else 0,
            digest(f"model {name}") if advances else Digest(nothing),
            KeyId(digest(f"key {name}") if advances else nothing),
            digest(f"product {name}") if advances else Digest(nothing),
            raw_cid(f"model {name}".encode()) if advances else Cid(""),
            raw_cid(f"product {name}".encode()) if advances else Cid(""),
            tuple(outcomes),
        )  # fmt: skip

    def settle(self, campaign: Campaign, kept: int | None = None) -> int:
        """Settles the present round, full, keeping all of it or the first `kept`; the owner relays."""
        settlement = self.settlement(campaign, len(campaign.entries) if kept is None else kept)
        signature = campaign.oracle.judge(self.domain, settlement)
        gas = self.gas(self.owner, calls.settle_round(settlement, campaign.entries, signature))
        campaign.score = settlement.score
        campaign.next_round()
        return gas

    def expire(self, campaign: Campaign) -> int:
        """Gives the present round up."""
        self.pass_time(ROUND_SECONDS + SETTLEMENT_SECONDS)
        gas = self.gas(self.owner, calls.expire_round(campaign.id, campaign.number, campaign.entries))
        campaign.next_round()
        return gas

    # ---- what everything starts from

    def _new_token(self) -> Address:
        """An ERC-20 token of which the owner has plenty, all approved."""
        compiled = compile_token()
        token, _ = self.deploy(bytes.fromhex(compiled["evm"]["bytecode"]["object"]))
        contract = self.web3.eth.contract(address=to_checksum_address(token), abi=compiled["abi"])
        self.send(token, contract.encode_abi("approve", args=[self.sonar, 2**256 - 1]))
        return token

    def _give_credits(self) -> None:
        """Pays every mine in the token, and returns its bond in coin."""
        campaign, _ = self.create(token=self.token)
        self.fill(campaign, self.mines)
        self.settle(campaign)
