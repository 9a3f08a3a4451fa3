"""A contract, the actors around it and the ledger, driven in step: every call's end is known before it is sent."""

from dataclasses import dataclass

from chains.base import Reverted
from eth_utils import keccak, to_checksum_address

from machine.ledger import Ledger
from machine.rules import NATIVE, Refusal, Token
from machine.wire import Blob, Call, Signer, domain_separator, encode

__all__ = ["Actor", "Disagreement", "World"]

PLENTY = 2**200
BURNABLE_GAS = 400_000
"""With a call that may burn all of its gas."""
MOODS = ("honest", "fee", "generous", "false", "silent", "reverting", "reentering")
ORACLE_MOODS = ("honest", "reverting", "short", "burning")


class Disagreement(AssertionError):
    """The contract did something else than the ledger."""


@dataclass(frozen=True)
class Actor:
    """Somebody who calls the contract: an account, or a contract that does what it is told."""

    name: str
    address: int
    text: str
    is_puppet: bool = False


class World:
    """One contract with everybody who is after its money. `restart` makes it young again."""

    def __init__(self, chain, artifacts):
        self.chain = chain
        self._words = _Words(artifacts)
        self._deployer, self._puppeteer = chain.accounts[9], chain.accounts[8]
        self.sonar = self._deploy("Sonar")
        domain = domain_separator(chain.chain_id, self._address(self.sonar))
        self.ledger = Ledger(self._address(self.sonar), domain)
        self.ledger.encode_refusal = self._words.refusal
        self._make_oracles()
        self._make_actors()
        self._make_tokens()
        self.auditor = self._deploy("Auditor")
        self.donor = self._deploy("Donor")
        self._young = (chain.snapshot(), self.ledger)
        self.restart()

    def restart(self):
        """Goes back to the beginning."""
        snapshot, ledger = self._young
        self.chain.restore(snapshot)
        self.ledger = ledger.copy()
        self.now = self.chain.now()
        self.next_time = self.now + 1
        self.archive = []
        """(settlement, entries, signature) that an oracle gave away, sent or not."""
        self.admissions = []
        """Those that became campaigns."""
        self.serial = 0
        self.last_refusal = ""

    # ------------------------------------------------------------------------------------------------------- the cast

    def _make_oracles(self):
        self.signers = [Signer(number) for number in range(1001, 1005)]
        self.stranger_signer = Signer(1005)
        honest, second, *_ = self.signers
        members = sorted(self.signers[1:], key=lambda signer: signer.address)
        self.committee_members = members
        texts = [to_checksum_address(member.address.to_bytes(20, "big")) for member in members]
        self.committee = self._deploy("CapsuleCommittee", texts, 2)
        self.consenting = self._deploy("MoodyOracle")
        self.oracles = [honest.address, self._address(self.committee), self._address(self.consenting), second.address]
        self.ledger.consents[self.oracles[2]] = set()

    def _make_actors(self):
        accounts = ("owner", "buyer", "mine a", "mine b", "mine c", "mine d", "thief", "stranger")
        self.actors = [
            Actor(name, int(text, 16), text) for name, text in zip(accounts, self.chain.accounts, strict=False)
        ]
        for name, contract in (
            ("rejecting", "RejectingActor"),
            ("gas burning", "GasBurningActor"),
            ("re-entering", "ReenteringActor"),
        ):
            address = self._address(self._deploy(contract))
            self.actors.append(Actor(name, address, _text(address), is_puppet=True))
        self.rejecting, self.burning, self.reentering = self.actors[-3:]
        receivers = self.ledger.receivers
        receivers |= {self.rejecting.address: "refuse", self.burning.address: "refuse"}
        receivers |= {self.reentering.address: "reenter"}
        receivers |= {self._address(self.sonar): "refuse"}
        receivers |= dict.fromkeys(self.oracles[1:3], "refuse")

    def _make_tokens(self):
        self.tokens = [NATIVE]
        self.moody = []
        for contract in ("HonestToken", "SilentToken", "MoodyToken", "MoodyToken"):
            token = self._deploy(contract)
            address = self._address(token)
            self.tokens.append(address)
            self.ledger.tokens[address] = Token(allowances=contract != "SilentToken")
            if contract == "MoodyToken":
                self.moody.append(Actor(f"moody token {len(self.moody)}", address, token.address, is_puppet=True))
        self.actors += self.moody
        self.everybody = [actor.address for actor in self.actors]
        for token in self.tokens[1:]:
            for actor in self.actors:
                self._tell(_text(token), "mint(address,uint256)", actor.address, PLENTY)
                self.ledger.wallets[token, actor.address] = PLENTY
                if actor.name != "stranger" and token != actor.address:
                    approve = _selector("approve(address,uint256)") + encode(self.ledger.sonar, 2**256 - 1)
                    self._transact(actor, _text(token), approve, 0, None)
                    self.ledger.approved.add((token, actor.address))
        for address in (*self.everybody, int(self._puppeteer, 16), int(self._deployer, 16)):
            self.ledger.wallets[NATIVE, address] = self.chain.balance(_text(address))

    def actor(self, address):
        """Who is at an address; nobody else is ever owed anything."""
        return self.actors[self.everybody.index(address)]

    # ----------------------------------------------------------------------------------------- calls of the contract

    def send(self, actor, call, value=0, *, at_gas=None):
        """Makes a call; the chain and the ledger must agree on how it ends. Answers whether it succeeded."""
        time = self._tick()
        payer = int(self._puppeteer, 16) if actor.is_puppet else actor.address
        try:
            answer, events = self.ledger.perform(call, actor.address, value, time)
        except Refusal as refusal:
            events, expected, refused = [], self._words.refusal(refusal), True
            self.last_refusal = refusal.name or "no data"
        else:
            # A puppet is given what it pays with.
            self.ledger.wallets[NATIVE, payer] -= value
            self.ledger.wallets[NATIVE, actor.address] += value
            expected, refused = encode(*answer), False
        data = self._words.call(call)
        if actor.is_puppet and not refused:
            expected = encode(Blob(expected))
        try:
            receipt = self._transact(actor, self.sonar.address, data, value, at_gas)
        except Reverted as reverted:
            if not refused or reverted.data != expected:
                raise Disagreement(self._explain(actor, call, time, refused, expected, events, reverted)) from None
            return False
        if refused or receipt.output != expected:
            raise Disagreement(self._explain(actor, call, time, refused, expected, events, receipt.output))
        logs = [(log.topics, log.data) for log in receipt.logs if log.address == self.sonar.address]
        predicted = [self._words.event(name, arguments) for name, arguments in events]
        if logs != predicted:
            raise Disagreement(f"{actor.name}: {call}\nevents: {self.chain.catalogue.events(logs)}\nledger: {events}")
        return True

    def send_bare(self, actor, data, value, why):
        """Sends bytes that no function takes; they must be refused without a word."""
        self._tick()
        try:
            self._transact(actor, self.sonar.address, data, value, None)
        except Reverted as reverted:
            if reverted.data == b"":
                self.last_refusal = "no data"
                return
            raise Disagreement(f"{why}: reverted with {reverted}") from None
        raise Disagreement(f"{why}: the contract took it")

    def _explain(self, actor, call, time, refused, expected, events, found):
        ledger = self.chain.catalogue.error(expected) if refused else ("success", expected.hex(), events)
        return f"{actor.name} at {time}: {call}\ncontract: {found!r}\nledger: {ledger}"

    def _tick(self):
        """The time of the next transaction."""
        time = max(self.next_time, self.now + 1)
        self.chain.at(time)
        self.now = time
        self.next_time = time + 1
        return time

    def selector(self, method):
        """The first bytes of a call."""
        return self._words.call(Call(method, ()))

    # ------------------------------------------------------------------------------- what happens around the contract

    def donate(self, token, actor, amount):
        """Forces coin in, or sends tokens, without a call of the contract."""
        if token != NATIVE and self.ledger.tokens[token].mood not in ("honest", "fee", "generous", "silent"):
            return
        self._tick()
        if token == NATIVE:
            force = _selector("force(address)") + encode(self.ledger.sonar)
            payer = int(self._puppeteer, 16) if actor.is_puppet else actor.address
            self._transact(actor, self.donor.address, force, amount, None)
            self.ledger.donate(NATIVE, payer, amount)
            return
        transfer = _selector("transfer(address,uint256)") + encode(self.ledger.sonar, amount)
        self._transact(actor, _text(token), transfer, 0, None)
        self.ledger.donate(token, actor.address, amount)

    def set_token_mood(self, token, mood):
        """Changes how a moody token behaves."""
        self._tick()
        self._tell(_text(token), "setMood(uint8)", MOODS.index(mood))
        self.ledger.tokens[token].mood = mood

    def set_oracle_mood(self, mood):
        """Changes how the oracle that is a contract behaves."""
        self._tick()
        self._tell(self.consenting.address, "setMood(uint8)", ORACLE_MOODS.index(mood))
        self.ledger.unwell = set() if mood == "honest" else {self.oracles[2]}

    def arm(self, actor, call):
        """Lets an actor make a call whenever it is called back."""
        self._tick()
        data = self._words.call(call)
        if actor is self.reentering:
            self._tell(actor.text, "arm(bytes)", Blob(data))
        else:
            self._tell(actor.text, "arm(address,bytes)", self.ledger.sonar, Blob(data))
        self.ledger.armed[actor.address] = call

    def approve(self, digest):
        """Lets the oracle that is a contract consent to a digest, before the moment that is waited for if it can."""
        moment, self.next_time = self.next_time, self.now + 1
        self._tick()
        self.next_time = max(moment, self.next_time)
        self._tell(self.consenting.address, "approve(bytes32)", digest)
        self.ledger.consents[self.oracles[2]].add(digest)

    def signature(self, oracle, digest):
        """An oracle's honest signature, which the ledger learns of."""
        if oracle == self.oracles[2]:
            self.approve(digest)
            return Blob(b"")
        if oracle == self.oracles[1]:
            signature = Blob(b"".join(member.sign(digest) for member in self.committee_members[: 2 + digest[0] % 2]))
        else:
            signature = next(signer for signer in self.signers if signer.address == oracle).sign(digest)
        self.ledger.signed.add((oracle, digest, signature))
        return signature

    # ------------------------------------------------------------------------------------------------------ plumbing

    def _deploy(self, contract, *arguments):
        return self.chain.deploy(contract, *arguments, sender=self._deployer)

    def _address(self, contract):
        return int(contract.address, 16)

    def _tell(self, to, signature, *arguments):
        self.chain.transact(self._deployer, to, _selector(signature) + encode(*arguments))

    def _transact(self, actor, to, data, value, gas):
        if not actor.is_puppet:
            return self.chain.transact(actor.text, to, data, value, gas)
        execute = _EXECUTE + encode(int(to, 16), Blob(data))
        return self.chain.transact(self._puppeteer, actor.text, execute, value, gas)


class _Words:
    """The selectors, topics and encodings of the contract's calls, errors and events, out of its ABI."""

    def __init__(self, artifacts):
        self._selectors, self._errors, self._events = {}, {"": b""}, {}
        for name in ("MoodyToken", "HonestToken", "Sonar"):
            for entry in artifacts[name].abi:
                self._learn(entry)

    def _learn(self, entry):
        if entry["type"] in ("function", "error", "event"):
            digest = keccak(text=f"{entry['name']}({','.join(map(_type, entry['inputs']))})")
            if entry["type"] == "event":
                indexed = [field["indexed"] for field in entry["inputs"]]
                self._events[entry["name"]] = (digest, indexed)
            else:
                (self._selectors if entry["type"] == "function" else self._errors)[entry["name"]] = digest[:4]

    def call(self, call: Call):
        """The data of a call."""
        return self._selectors[call.method] + encode(*call.arguments)

    def refusal(self, refusal):
        """The bytes of a revert."""
        return self._errors[refusal.name] + encode(*refusal.arguments)

    def event(self, name, arguments):
        """An event's topics and data."""
        topic, indexed = self._events[name]
        topics = [encode(argument) for argument, is_topic in zip(arguments, indexed, strict=True) if is_topic]
        data = encode(*(argument for argument, is_topic in zip(arguments, indexed, strict=True) if not is_topic))
        return (topic, *topics), data


def _type(field):
    if not field["type"].startswith("tuple"):
        return field["type"]
    return f"({','.join(map(_type, field['components']))}){field['type'][5:]}"


def _text(address):
    return _TEXTS.get(address) or _TEXTS.setdefault(address, to_checksum_address(address.to_bytes(20, "big")))


_TEXTS: dict[int, str] = {}


def _selector(signature):
    return keccak(text=signature)[:4]


_EXECUTE = _selector("execute(address,bytes)")
