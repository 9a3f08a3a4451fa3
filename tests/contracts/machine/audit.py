"""What must hold after every step, and that there is a way out of every state."""

from eth_abi import decode
from eth_utils import keccak

from machine.rules import CLOSED, FINISHED, NATIVE, NONE, PPM, RUNNING
from machine.wire import Blob, Call, encode
from machine.world import Disagreement

__all__ = ["Audit", "drain"]

STATUS_CHANGES = {NONE: {RUNNING}, RUNNING: {FINISHED, CLOSED}, FINISHED: {CLOSED}, CLOSED: set()}
SAMPLE, THOROUGH_SAMPLE = 3, 8
"""So much of what should not have changed has its turn each time. All that should have is asked in any case, and
everything at all on each way out. What is wrong once stays wrong, so none of it is missed."""
PACE = 10
"""After so many steps a slow chain is asked; what it answers to each step itself is compared at once."""


class Audit:
    """Compares the contract with the ledger. A thorough one asks more and more often, which slow chains cannot bear."""

    def __init__(self, world, *, thorough):
        self._world = world
        self._sample, self._pace = (THOROUGH_SAMPLE, 1) if thorough else (SAMPLE, PACE)
        self._steps = 0
        self._touched = set()
        self._status = {}
        self._turn = 0
        self._seen = {}
        self._accounts = [
            question
            for token in world.tokens
            for account in world.everybody
            for question in (("credit", token, account), ("wallet", token, account))
        ]
        self._own = [("wallet", token, world.ledger.sonar) for token in world.tokens]
        self._asked = {}

    def check(self, touched=None, *, everything=False):
        """Compares, if it is time; with all that can be known of the campaigns that were touched since it last was."""
        ledger = self._world.ledger
        ledger.check()
        self._check_status_changes()
        self._steps += 1
        self._touched.add(touched)
        if self._steps % self._pace and not everything:
            return
        questions = [*self._own, *self._callbacks(), *self._changed_accounts()]
        if everything:
            questions += self._accounts
            campaigns = list(ledger.campaigns)
        else:
            questions += self._some(self._accounts)
            campaigns = self._some(list(ledger.campaigns))[:2]
        for campaign in [id_ for id_ in ledger.campaigns if id_ in self._touched]:
            campaigns.append(campaign)
            questions += [("lastSubmission", campaign, account) for account in self._some(self._world.everybody)]
            questions += [("quote", campaign, score) for score in self._some(ledger.campaigns[campaign].some_scores())]
        self._touched.clear()
        questions += [(kind, id_) for id_ in campaigns for kind in ("campaign", "round", "pendingOwner")]
        self._compare(questions)
        self._turn += 1

    def _changed_accounts(self):
        """Questions about the accounts that the ledger knows something new of."""
        changed = []
        for question in self._accounts:
            kind, *key = question
            amount = (self._world.ledger.credits if kind == "credit" else self._world.ledger.wallets)[tuple(key)]
            if self._seen.get(question) != amount:
                self._seen[question] = amount
                changed.append(question)
        return changed

    def _some(self, options):
        """Those whose turn it is."""
        size = min(self._sample, len(options))
        start = self._turn * size
        return [options[(start + i) % len(options)] for i in range(size)]

    def _callbacks(self):
        return [(kind, account) for account in self._world.ledger.callbacks for kind in ("succeeded", "answer")]

    def _check_status_changes(self):
        for id_, campaign in self._world.ledger.campaigns.items():
            before = self._status.get(id_, NONE)
            if campaign.status != before:
                path = campaign.status in STATUS_CHANGES[before]
                # A campaign may be created and closed in one step, by a token that re-enters.
                assert path or (before == NONE and id_ not in self._status), f"status {before} became {campaign.status}"
                self._status[id_] = campaign.status

    def _compare(self, questions):
        found = self._ask(questions)
        expected = [self._expected(*question) for question in questions]
        if found == expected:
            return
        wrong = [
            f"{question}: contract {_readable(answer)}, ledger {_readable(right)}"
            for question, answer, right in zip(questions, found, expected, strict=True)
            if answer != right
        ]
        raise Disagreement("\n".join(wrong))

    def _ask(self, questions):
        """The bytes of the answers."""
        data = _ASK + _question_list([self._question(question) for question in questions])
        world = self._world
        return _answer_list(world.chain.call(world.auditor.address, data))

    def _question(self, question):
        if question not in self._asked:
            self._asked[question] = _struct(*self._target(*question))
        return self._asked[question]

    def _target(self, kind, *arguments):
        """Whom to ask what."""
        if kind == "wallet":
            token, account = arguments
            return (account, b"") if token == NATIVE else (token, _WALLET + encode(account))
        if kind in _CALLBACKS:
            return arguments[0], _CALLBACKS[kind]
        return self._world.ledger.sonar, _VIEWS[kind] + encode(*arguments)

    def _expected(self, kind, *arguments):
        ledger = self._world.ledger
        if kind == "wallet":
            return ledger.wallets[arguments].to_bytes(32, "big")
        if kind == "credit":
            return ledger.credits[arguments].to_bytes(32, "big")
        if kind in _CALLBACKS:
            succeeded, answer = ledger.callbacks[arguments[0]]
            return encode(succeeded) if kind == "succeeded" else encode(Blob(answer))
        campaign = ledger.campaigns[arguments[0]]
        if kind == "campaign":
            return encode(*campaign.view())
        if kind == "round":
            return encode(*campaign.view_round(self._world.now))
        if kind == "pendingOwner":
            return encode(campaign.pending_owner)
        if kind == "lastSubmission":
            return encode(campaign.last_submission.get(arguments[1], 0))
        return encode(campaign.quote(arguments[1]))


def drain(world, *, settle=None):
    """Leads every campaign to its end and pays everybody out, then goes back: no state is without an exit.

    Pending rounds are settled by `settle` if it is given, else nobody signs anything and they expire.
    """
    ledger, snapshot = world.ledger, world.chain.snapshot()
    kept = (ledger.copy(), world.now, world.next_time, list(world.archive), world.serial)
    stranger = world.actors[7]
    for token in world.moody:
        world.set_token_mood(token.address, "honest")
    for campaign in list(ledger.campaigns.values()):
        if campaign.status == CLOSED:
            continue
        if campaign.entries:
            world.next_time = campaign.closes_at if settle else campaign.expires_at
            if settle:
                settle(campaign)
            else:
                _must(world, stranger, Call("expireRound", (campaign.id, campaign.round, list(campaign.entries))))
        if campaign.status == RUNNING and campaign.version > 0:
            world.next_time = max(world.next_time, campaign.terms.deadline)
        _must(world, world.actor(campaign.owner), Call("close", (campaign.id,)))
    for (token, account), amount in sorted(ledger.credits.items()):
        if amount:
            _must(world, world.actor(account), Call("withdraw", (token, stranger.address)))
    Audit(world, thorough=True).check(everything=True)
    for token in world.tokens:
        assert ledger.wallets[token, ledger.sonar] == ledger.donations[token], f"{token:#x} is left in the contract"
    world.chain.restore(snapshot)
    world.ledger, world.now, world.next_time, world.archive, world.serial = kept


def _must(world, actor, call):
    if not world.send(actor, call):
        raise Disagreement(f"there is no way out: {actor.name} is refused {call}")


def _selector(signature):
    return keccak(text=signature)[:4]


_ASK = _selector("ask((address,bytes)[])")
_WALLET = _selector("balanceOf(address)")
_CALLBACKS = {name: _selector(f"{name}()") for name in ("succeeded", "answer")}
_VIEWS = {
    "credit": _selector("credit(address,address)"),
    "campaign": _selector("getCampaign(bytes32)"),
    "round": _selector("getRound(bytes32)"),
    "pendingOwner": _selector("pendingOwner(bytes32)"),
    "lastSubmission": _selector("lastSubmission(bytes32,address)"),
    "quote": _selector("quote(bytes32,uint32)"),
}


def _struct(target, data):
    """An encoded question."""
    return encode(target, Blob(data))


def _question_list(structs):
    offset, offsets = 32 * len(structs), []
    for struct in structs:
        offsets.append(offset.to_bytes(32, "big"))
        offset += len(struct)
    return (32).to_bytes(32, "big") + len(structs).to_bytes(32, "big") + b"".join(offsets) + b"".join(structs)


def _answer_list(data):
    count = int.from_bytes(data[32:64], "big")
    answers = []
    for i in range(64, 64 + 32 * count, 32):
        start = 64 + int.from_bytes(data[i : i + 32], "big")
        size = int.from_bytes(data[start : start + 32], "big")
        answers.append(data[start + 32 : start + 32 + size])
    return answers


def _readable(answer):
    if len(answer) % 32:
        return answer.hex()
    words = decode(["uint256"] * (len(answer) // 32), answer)
    return words[0] if len(words) == 1 else [hex(word) if word > PPM**3 else word for word in words]
