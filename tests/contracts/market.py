"""A marketplace in the hands of a test: builds and signs what the contract takes, and remembers what it sent.

It shares no code with the package: messages are encoded by eth_account, heads and payouts are computed here again.
"""

from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from hashlib import sha256

import pytest
from chains.base import Reverted
from eth_abi import encode
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils import keccak

NATIVE = "0x0000000000000000000000000000000000000000"
OTHER = "0x" + 20 * "66"  # somebody who takes no part
ZERO = bytes(32)
REENTRANT = bytes.fromhex("3ee5aeb5")  # ReentrancyGuardReentrantCall()
PPM = 1_000_000
MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR
BOND = 10**15
BOUNTY = 10**18


class PayoutBase(IntEnum):
    TARGET = 0
    GAIN = 1


class Status(IntEnum):
    NONE = 0
    RUNNING = 1
    FINISHED = 2
    CLOSED = 3


class Verdict(IntEnum):
    LEFT_OUT = 0
    KEPT = 1
    UNAVAILABLE = 2
    INVALID = 3
    COPY = 4


TYPES = {
    "Admission": "bytes32 spec,bytes32 model,bytes32 key,bytes32 sealingKey,uint32 startScore,address oracle,"
    "address owner,uint40 validUntil",
    "Settlement": "bytes32 campaign,uint32 round,bytes32 head,uint32 score,uint8 exponent,bytes32 model,bytes32 key,"
    "bytes32 product,string modelCid,string productCid,Outcome[] outcomes",
    "Outcome": "uint8 verdict,uint32 weight,uint32 share",
}


def digest(text):
    """The SHA-256 of a pretended artifact."""
    return sha256(text.encode()).digest()


@contextmanager
def refused(error, *arguments):
    """The transaction or the call inside must revert with exactly this custom error and these arguments."""
    with pytest.raises(Reverted) as raised:
        yield
    assert raised.value.error == (error, tuple(_plain(argument) for argument in arguments))


def _plain(argument):
    """A contract stands for its address."""
    return argument if isinstance(argument, (int, bytes, str)) else str(argument)


def kept(weight, share):
    return (Verdict.KEPT, weight, share)


def judged(verdict):
    return (verdict, 0, 0)


@dataclass
class Campaign:
    """What a test knows of its campaign without asking the contract."""

    id: bytes
    owner: str
    terms: dict
    admission: dict
    round: int = 0
    entries: list = field(default_factory=list)

    def head(self):
        """The hash chain over the present round's entries."""
        head = keccak(encode(["bytes32", "uint32"], [self.id, self.round]))
        for mine, artifact, gradient in self.entries:
            head = keccak(encode(["bytes32", "address", "bytes32", "bytes32"], [head, mine, artifact, gradient]))
        return head

    def paid_at(self, score):
        """The payout formula of the design, in integers."""
        start, target = self.admission["startScore"], self.terms["target"]
        base = target if self.terms["payoutBase"] == PayoutBase.TARGET else target - start
        return self.terms["bounty"] * (min(score, target) - start) // base


class Market:
    """One deployed contract, its chain and its oracle."""

    def __init__(self, sonar, oracle_key):
        self.sonar = sonar
        self.chain = sonar.chain
        self.oracle = Account.from_key(oracle_key)
        self._serial = 0

    def serial(self, what):
        """A name that was not used before."""
        self._serial += 1
        return f"{what} {self._serial}"

    # what is sent

    def terms(self, **changes):
        terms = {
            "token": NATIVE,
            "bounty": BOUNTY,
            "bond": BOND,
            "slash": 100_000,
            "target": 800_000,
            "payoutBase": PayoutBase.TARGET,
            "minGain": 1_000,
            "minMines": 2,
            "roundSize": 3,
            "maxRounds": 10,
            "roundSeconds": 5 * MINUTE,
            "settlementSeconds": HOUR,
            "deadline": self.chain.now() + DAY,
        }
        assert changes.keys() <= terms.keys()
        return terms | changes

    def admission(self, owner, **changes):
        admission = {
            "spec": digest(self.serial("spec")),
            "model": digest(self.serial("model")),
            "key": digest(self.serial("key")),
            "sealingKey": digest("sealing key"),
            "startScore": 100_000,
            "oracle": self.oracle.address,
            "owner": str(owner),
            "validUntil": self.chain.now() + HOUR,
        }
        assert changes.keys() <= admission.keys()
        return admission | changes

    def settlement(self, campaign, score, outcomes, /, **changes):
        """A settlement of the campaign's present round; it advances unless nothing is kept."""
        advances = any(outcome[0] == Verdict.KEPT for outcome in outcomes)
        name = f"{campaign.id.hex()} {campaign.round}"
        settlement = {
            "campaign": campaign.id,
            "round": campaign.round,
            "head": campaign.head(),
            "score": score,
            "exponent": 10 if advances else 0,
            "model": digest("model " + name) if advances else ZERO,
            "key": digest("key " + name) if advances else ZERO,
            "product": digest("product " + name) if advances else ZERO,
            "modelCid": "cid of the model" if advances else "",
            "productCid": "cid of the product" if advances else "",
            "outcomes": outcomes,
        }
        assert changes.keys() <= settlement.keys()
        return settlement | changes

    # signatures

    def _typed(self, kind, message, contract, chain_id):
        types = {}
        for name in (kind, "Outcome") if kind == "Settlement" else (kind,):
            types[name] = [dict(zip(("type", "name"), pair.split(), strict=True)) for pair in TYPES[name].split(",")]
        if "outcomes" in message:
            names = ("verdict", "weight", "share")
            message = message | {"outcomes": [dict(zip(names, o, strict=True)) for o in message["outcomes"]]}
        domain = {
            "name": "Sonar",
            "version": "1",
            "chainId": chain_id or self.chain.chain_id,
            "verifyingContract": str(contract or self.sonar),
        }
        return encode_typed_data(domain, types, message)

    def digest(self, kind, message, *, contract=None, chain_id=None):
        """The EIP-712 digest of a message."""
        typed = self._typed(kind, message, contract, chain_id)
        return keccak(b"\x19" + typed.version + typed.header + typed.body)

    def sign(self, kind, message, *, signer=None, contract=None, chain_id=None):
        """The oracle's signature of a message, or another signer's, or one for another contract or chain."""
        typed = self._typed(kind, message, contract, chain_id)
        return bytes((signer or self.oracle).sign_message(typed).signature)

    # calls

    def create(self, owner, *, terms=None, admission=None, signature=None, value=None, sender=None):
        """Creates a campaign; answers it and the transaction."""
        terms = self.terms(**(terms or {}))
        admission = admission if admission and "spec" in admission else self.admission(owner, **(admission or {}))
        if value is None:
            value = terms["bounty"] if terms["token"] == NATIVE else 0
        tx = self.sonar.createCampaign(
            terms,
            admission,
            self.sign("Admission", admission) if signature is None else signature,
            "cid of the spec",
            "cid of the model",
            sender=sender or owner,
            value=value,
        )
        return Campaign(self.digest("Admission", admission), owner, terms, admission), tx

    def running(self, owner, start=100_000, **terms):
        """A new campaign that nothing has happened to."""
        return self.create(owner, terms=terms, admission={"startScore": start})[0]

    def submit(self, campaign, mine, *, number=None, value=None):
        """Posts a gradient of the mine into the present round."""
        entry = (mine, digest(self.serial("sealed gradient")), digest(self.serial("gradient")))
        tx = self.sonar.submitGradient(
            campaign.id,
            campaign.round if number is None else number,
            entry[1],
            entry[2],
            "cid of the gradient",
            sender=mine,
            value=campaign.terms["bond"] if value is None else value,
        )
        campaign.entries.append(entry)
        return tx

    def submit_through(self, actor, campaign, payer):
        """Posts a gradient of a mine that is a contract; `payer` sends the transaction and the bond."""
        entry = (actor.address, digest(self.serial("sealed gradient")), digest(self.serial("gradient")))
        call = self.sonar.submitGradient.encode(campaign.id, campaign.round, entry[1], entry[2], "cid")
        tx = actor.execute(self.sonar, call, sender=payer, value=campaign.terms["bond"])
        campaign.entries.append(entry)
        return tx

    def fill(self, campaign, mines):
        """Posts one gradient of each mine, then lets the round's time pass unless it is full."""
        for mine in mines:
            self.submit(campaign, mine)
        if len(campaign.entries) < campaign.terms["roundSize"]:
            self.chain.at(self.sonar.getRound(campaign.id)["closesAt"])

    def settle(self, campaign, score, outcomes, /, *, sender, entries=None, signature=None, **changes):
        """Settles the present round."""
        settlement = self.settlement(campaign, score, outcomes, **changes)
        tx = self.sonar.settleRound(
            settlement,
            campaign.entries if entries is None else entries,
            self.sign("Settlement", settlement) if signature is None else signature,
            sender=sender,
        )
        campaign.round += 1
        campaign.entries = []
        return tx

    def expire(self, campaign, *, sender, number=None, entries=None):
        """Gives the present round up."""
        tx = self.sonar.expireRound(
            campaign.id,
            campaign.round if number is None else number,
            campaign.entries if entries is None else entries,
            sender=sender,
        )
        campaign.round += 1
        campaign.entries = []
        return tx

    def close(self, campaign, *, sender=None):
        """Closes the campaign."""
        return self.sonar.close(campaign.id, sender=sender or campaign.owner)

    # what it should come to

    def credits(self, *accounts, token=NATIVE):
        return [self.sonar.credit(token, account) for account in accounts]

    def status(self, campaign):
        return Status(self.sonar.getCampaign(campaign.id)["status"])
