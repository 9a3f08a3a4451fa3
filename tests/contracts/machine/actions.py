"""What can happen in the world: calls as they should be, each also with all the flaws that somebody could give it.

An action is a function of the world and of small numbers, so that a fuzzer can draw, repeat and shrink it. Who and what
a number means depends on what is there; it always means something.
"""

from dataclasses import dataclass

from eth_utils import keccak

from machine.ledger import CLOSED, GAIN, KEPT, NATIVE, PPM, RUNNING, TARGET
from machine.wire import (
    ZERO,
    Admission,
    Blob,
    Call,
    Entry,
    Outcome,
    Settlement,
    Terms,
    admission_digest,
    domain_separator,
    settlement_digest,
)
from machine.world import BURNABLE_GAS, MOODS, ORACLE_MOODS, World

__all__ = ["ACTIONS", "Dice", "Field", "alive", "perform", "settlement_call"]

UNKNOWN = keccak(text="no such campaign")
NOBODY = 0x6666666666666666666666666666666666666666
YEAR = 365 * 86_400
LONG = 3_600

SIGNATURE_FLAWS = ("empty", "short", "malleated", "stranger's", "other contract", "other chain", "other digest")
COMMITTEE_FLAWS = ("one member", "descending", "one member twice", "with a stranger")
WHEN = ("now", "before closing", "at closing", "before expiry", "at expiry", "before the deadline", "at the deadline")


class Dice:
    """Reads choices out of one number, so that zero always chooses what comes first."""

    def __init__(self, number):
        self._number = number

    def below(self, bound):
        self._number, choice = divmod(self._number, bound)
        return choice

    def among(self, options):
        return options[self.below(len(options))]

    def hash(self):
        return keccak(self.below(2**32).to_bytes(32, "big"))


@dataclass(frozen=True)
class Field:
    """What an action's argument can be: one of these, or a number below `bound`. The first is the usual one."""

    options: tuple[str, ...] = ()
    bound: int = 0


ANY = Field(bound=256)
DICE = Field(bound=2**128)


ACTIONS: dict[str, dict[str, Field]] = {}
_FUNCTIONS = {}


def _action(**fields):
    def register(function):
        ACTIONS[function.__name__] = fields
        _FUNCTIONS[function.__name__] = function
        return function

    return register


def perform(world, name, **arguments):
    """Does an action; answers the id of the campaign that it was about, and whether the contract took it."""
    return _FUNCTIONS[name](world, **arguments)


# ----------------------------------------------------------------------------------------------------------- campaigns

CREATE_FLAWS = (
    "none",
    *SIGNATURE_FLAWS,
    *COMMITTEE_FLAWS,
    "not the owner",
    "admission expired",
    "no oracle",
    "admission used before",
    "no bounty",
    "slash above one",
    "target at start",
    "target above one",
    "round size zero",
    "round size 65",
    "min mines zero",
    "min mines above round size",
    "min gain zero",
    "max rounds zero",
    "round seconds zero",
    "round seconds too long",
    "settlement seconds too short",
    "settlement seconds too long",
    "deadline now",
    "deadline too late",
    "value too low",
    "value too high",
    "token without code",
)


@_action(owner=ANY, oracle=ANY, token=ANY, flaw=Field(CREATE_FLAWS), dice=DICE)
def create(world: World, owner, oracle, token, flaw, dice):
    """A data scientist escrows a bounty."""
    dice = Dice(dice)
    actor = _among(world.actors, owner)
    oracle = _among(world.oracles, oracle)
    admission, terms = _offer(world, actor, oracle, _among(world.tokens, token), dice)
    terms = _flawed_terms(terms, admission, flaw, world.next_time)
    changes = {
        "admission expired": {"valid_until": world.next_time - 1},
        "no oracle": {"oracle": 0},
        "not the owner": {"owner": _among(world.actors, owner + 1).address},
    }
    admission = admission._replace(**changes.get(flaw, {}))
    if flaw == "admission used before" and world.admissions:
        admission = dice.among(world.admissions)
        actor = world.actor(admission.owner)
    signature = Blob()
    if admission.oracle:
        signature = _sign(world, admission.oracle, flaw, lambda domain: admission_digest(domain, admission))
    value = terms.bounty if terms.token == NATIVE else 0
    value += {"value too low": -min(value, 1), "value too high": 1}.get(flaw, 0)
    call = Call("createCampaign", (terms, admission, signature, "cid of the spec", "cid of the model"))
    done = world.send(actor, call, value)
    if done:
        world.admissions.append(admission)
    return admission_digest(world.ledger.domain, admission), done


def _offer(world, owner, oracle, token, dice):
    start, target = dice.among(
        [(100_000, 800_000), (0, PPM), (333_333, 777_777), (1, 999_999), (0, 1), (799_999, 800_000)]
    )
    size = dice.among([2, 1, 3, 4, 8])
    coin = [10**18, 1, 7, 99, 10**24, 123_456_789_012_345_678]
    bounty = dice.among(coin if token == NATIVE else [*coin, 2**128 - 1, 2**127])
    round_seconds = dice.among([300, 1, 3_600, 60, 120, 240, 30 * 86_400])
    settlement_seconds = dice.among([600, 601, 3_600, 900, 901, 902, 903, YEAR])
    time = world.next_time
    terms = Terms(
        token=token,
        bounty=bounty,
        bond=dice.among([10**15, 0, 1, 9, 10**18 + 1]),
        slash=dice.among([100_000, 0, 1, 333_333, PPM]),
        target=target,
        payout_base=dice.among([TARGET, GAIN]),
        min_gain=dice.among([1_000, 1, 100_000, 1, 10, 100, 2**32 - 1]),
        min_mines=1 + dice.below(size),
        round_size=size,
        max_rounds=dice.among([10, 3, 2**16 - 1, 2, 1]),
        round_seconds=round_seconds,
        settlement_seconds=settlement_seconds,
        deadline=time + dice.among([86_400, 3_600, 7 * 86_400, 2 * YEAR, 20, 2, 5 * YEAR]),
    )
    world.serial += 1
    serial = keccak(text=f"artifact {world.serial}")
    valid_until = time + dice.among([3_600, 1])
    admission = Admission(serial, keccak(serial), dice.hash(), dice.hash(), start, oracle, owner.address, valid_until)
    return admission, terms


def _flawed_terms(terms, admission, flaw, time):
    changes = {
        "no bounty": {"bounty": 0},
        "slash above one": {"slash": PPM + 1},
        "target at start": {"target": admission.start_score},
        "target above one": {"target": PPM + 1},
        "round size zero": {"round_size": 0},
        "round size 65": {"round_size": 65},
        "min mines zero": {"min_mines": 0},
        "min mines above round size": {"min_mines": terms.round_size + 1},
        "min gain zero": {"min_gain": 0},
        "max rounds zero": {"max_rounds": 0},
        "round seconds zero": {"round_seconds": 0},
        "round seconds too long": {"round_seconds": 30 * 86_400 + 1},
        "settlement seconds too short": {"settlement_seconds": 599},
        "settlement seconds too long": {"settlement_seconds": YEAR + 1},
        "deadline now": {"deadline": time},
        "deadline too late": {"deadline": time + 5 * YEAR + 2},
        "token without code": {"token": NOBODY},
    }
    return terms._replace(**changes.get(flaw, {}))


@_action(
    campaign=ANY,
    payer=ANY,
    when=Field(WHEN),
    flaw=Field(("none", "unknown", "nothing", "value too high", "too much")),
    dice=DICE,
)
def top_up(world: World, campaign, payer, when, flaw, dice):
    """Somebody adds to a bounty."""
    campaign, dice = _campaign(world, campaign), Dice(dice)
    if campaign is None:
        return None, world.send(_among(world.actors, payer), Call("topUp", (UNKNOWN, 1)), 0)
    _wait(world, campaign, when)
    terms = campaign.terms
    left = 2**128 - 1 - terms.bounty
    amount = min(
        dice.among([10**18, 1, 3, 10**6 + 7, 2**100 if terms.token else 10**24, left if terms.token else 5]), left
    )
    amount = {"nothing": 0, "too much": left + 1}.get(flaw, amount)
    value = amount if terms.token == NATIVE and flaw != "too much" else 0
    value += flaw == "value too high"
    actor = _among(world.actors, payer)
    return campaign.id, world.send(actor, Call("topUp", (_id(campaign, flaw), amount)), value)


@_action(campaign=ANY, who=ANY, to=ANY, flaw=Field(("none", "unknown", "by anybody", "taken back")))
def transfer(world: World, campaign, who, to, flaw):
    """An owner offers a campaign to somebody."""
    campaign = _campaign(world, campaign)
    actor = _among(world.actors, who) if flaw == "by anybody" or campaign is None else world.actor(campaign.owner)
    to = 0 if flaw == "taken back" else _among(world.everybody, to)
    return campaign and campaign.id, world.send(actor, Call("transferCampaign", (_id(campaign, flaw), to)))


@_action(campaign=ANY, who=ANY, flaw=Field(("none", "unknown", "by anybody")))
def accept(world: World, campaign, who, flaw):
    """Somebody takes over what was offered."""
    campaign = _campaign(world, campaign)
    actor = _among(world.actors, who)
    if campaign and campaign.pending_owner and flaw != "by anybody":
        actor = world.actor(campaign.pending_owner)
    return campaign and campaign.id, world.send(actor, Call("acceptCampaign", (_id(campaign, flaw),)))


@_action(campaign=ANY, who=ANY, when=Field(WHEN), flaw=Field(("none", "unknown", "by anybody")))
def close(world: World, campaign, who, when, flaw):
    """An owner wants the rest of the bounty."""
    campaign = _campaign(world, campaign)
    actor = _among(world.actors, who)
    if campaign:
        _wait(world, campaign, when)
        actor = actor if flaw == "by anybody" else world.actor(campaign.owner)
    return campaign and campaign.id, world.send(actor, Call("close", (_id(campaign, flaw),)))


# -------------------------------------------------------------------------------------------------------------- rounds

SUBMIT_FLAWS = ("none", "unknown", "round before", "round after", "bond too low", "bond too high", "copy of an entry")


@_action(campaign=ANY, mine=ANY, when=Field(WHEN), flaw=Field(SUBMIT_FLAWS), dice=DICE)
def submit(world: World, campaign, mine, when, flaw, dice):
    """A mine posts a gradient."""
    campaign, actor = _campaign(world, campaign), _among(world.actors, mine)
    if campaign is None:
        return None, world.send(actor, Call("submitGradient", (UNKNOWN, 0, ZERO, ZERO, "")), 0)
    _wait(world, campaign, when)
    call = _submission(campaign, flaw, Dice(dice))
    value = campaign.terms.bond + {"bond too low": -min(1, campaign.terms.bond), "bond too high": 1}.get(flaw, 0)
    return campaign.id, world.send(actor, call, value)


def _submission(campaign, flaw, dice):
    artifact, gradient = dice.hash(), dice.hash()
    if flaw == "copy of an entry" and campaign.entries:
        _, artifact, gradient = dice.among(campaign.entries)
    number = campaign.round + {"round before": -min(1, campaign.round), "round after": 1}.get(flaw, 0)
    return Call("submitGradient", (_id(campaign, flaw), number, artifact, gradient, "cid of the gradient"))


SETTLE_FLAWS = (
    "none",
    *SIGNATURE_FLAWS,
    *COMMITTEE_FLAWS,
    "unknown",
    "round before",
    "round after",
    "head of nothing",
    "entry missing",
    "entry added",
    "entries reversed",
    "entry's mine changed",
    "outcome missing",
    "outcome added",
    "no key",
    "no product",
    "score too low",
    "score above one",
    "share missing",
    "share too much",
    "kept without weight",
    "left out with weight",
    "left out with share",
    "too few kept",
    "verdict unknown",
    "exponent without advance",
    "CID without advance",
    "score changed without advance",
    "kept without advance",
)


@_action(
    campaign=ANY, relay=ANY, when=Field(("closed", *WHEN)), flaw=Field(SETTLE_FLAWS), withheld=Field(bound=8), dice=DICE
)
def settle(world: World, campaign, relay, when, flaw, withheld, dice):
    """The oracle signs a settlement; somebody relays it at once, or keeps it for later."""
    campaign = _campaign(world, campaign, pending=True)
    if campaign is None:
        return None, False
    _wait(world, campaign, when)
    call = settlement_call(world, campaign, flaw, Dice(dice))
    if withheld == 7:
        world.last_refusal = "withheld"
        return campaign.id, False
    gas = BURNABLE_GAS if campaign.oracle == world.oracles[2] and world.ledger.unwell else None
    return campaign.id, world.send(_among(world.actors, relay), call, at_gas=gas)


def settlement_call(world, campaign, flaw, dice):
    """A signed settlement of a campaign's present round, which goes to the archive."""
    settlement = _flawed_settlement(campaign, _verdict(campaign, dice), flaw)
    entries = [Entry(*entry) for entry in campaign.entries]
    if flaw == "entry missing":
        entries = entries[:-1]
    elif flaw == "entry added":
        entries.append(Entry(NOBODY, ZERO, ZERO))
    elif flaw == "entries reversed":
        entries.reverse()
    elif flaw == "entry's mine changed" and entries:
        entries[0] = entries[0]._replace(mine=world.everybody[6])
    signature = _sign(world, campaign.oracle, flaw, lambda domain: settlement_digest(domain, settlement))
    world.archive.append((settlement, entries, signature))
    return Call("settleRound", (settlement, entries, signature))


def _verdict(campaign, dice):
    """An honest settlement, whichever the judge finds: the round advances or not."""
    count, terms = len(campaign.entries), campaign.terms
    least = campaign.score + terms.min_gain
    advances = dice.below(5) > 0 and count >= terms.min_mines and least <= PPM
    name = dice.hash() if advances else ZERO
    score = campaign.score
    if advances:
        target = terms.target
        score = min(
            max(
                dice.among(
                    [(3 * score + target) // 4, least, least + 1, least, (score + target) // 2, target - 1, target, PPM]
                ),
                least,
            ),
            PPM,
        )
    kept = terms.min_mines + dice.below(count - terms.min_mines + 1) if advances else 0
    outcomes = [Outcome(dice.among([0, 2, 3, 4]), 0, 0) for _ in range(count)]
    first, left = dice.below(max(count, 1)), PPM
    for place in range(kept):
        # The last one takes what is left; before it, some are kept for nothing.
        share = left if place == kept - 1 else min(left, dice.among([left // (kept - place), 0, 1, 333_333, left]))
        left -= share
        outcomes[(first + place) % count] = Outcome(KEPT, 1 + dice.below(9), share)
    cids = ("cid of the next model", "cid of the product") if advances else ("", "")
    hashes = (name, name, name)
    exponent = 10 if advances else 0
    return Settlement(campaign.id, campaign.round, campaign.head, score, exponent, *hashes, *cids, outcomes)


def _flawed_settlement(campaign, honest, flaw):
    score, least = campaign.score, campaign.score + campaign.terms.min_gain
    bare = {
        "score": score,
        "exponent": 0,
        "model": ZERO,
        "key": ZERO,
        "product": ZERO,
        "model_cid": "",
        "product_cid": "",
    }
    bare["outcomes"] = [outcome if outcome.verdict != KEPT else Outcome(0, 0, 0) for outcome in honest.outcomes]
    changes = {
        "unknown": {"campaign": UNKNOWN},
        "round before": {"round": max(campaign.round, 1) - 1},
        "round after": {"round": campaign.round + 1},
        "head of nothing": {"head": ZERO},
        "outcome missing": {"outcomes": honest.outcomes[:-1]},
        "outcome added": {"outcomes": [*honest.outcomes, Outcome(0, 0, 0)]},
        "no key": {"key": ZERO},
        "no product": {"product": ZERO},
        "score too low": {"score": min(least, 2**32) - 1},
        "score above one": {"score": PPM + 1},
        "exponent without advance": bare | {"exponent": 1},
        "CID without advance": bare | {"product_cid": "cid"},
        "score changed without advance": bare | {"score": score + 1},
        "kept without advance": bare | {"outcomes": [Outcome(KEPT, 1, 0)] * len(honest.outcomes)},
    }
    outcomes = list(honest.outcomes)
    for index, outcome in enumerate(outcomes):
        changed = _flawed_outcome(outcome, flaw)
        if changed != outcome:
            outcomes[index] = changed
            if flaw != "too few kept":
                break
    return honest._replace(**changes.get(flaw, {"outcomes": outcomes}))


def _flawed_outcome(outcome, flaw):
    if outcome.verdict == KEPT:
        changes = {
            "share missing": {"share": max(outcome.share, 1) - 1},
            "share too much": {"share": outcome.share + 1},
            "kept without weight": {"weight": 0},
            "too few kept": {"verdict": 0, "weight": 0, "share": 0},
        }
    else:
        changes = {"left out with weight": {"weight": 1}, "left out with share": {"share": 1}}
    changes["verdict unknown"] = {"verdict": 5}
    return outcome._replace(**changes.get(flaw, {}))


@_action(which=ANY, relay=ANY, present=Field(bound=2))
def relay(world: World, which, relay, present):
    """A settlement that was signed before is sent (again): withheld, stale, or one of two for a round."""
    if not world.archive:
        return None, False
    settlement, entries, signature = world.archive[-1 - which % len(world.archive)]
    campaign = world.ledger.campaigns.get(settlement.campaign)
    if present and campaign:
        entries = [Entry(*entry) for entry in campaign.entries]
    call = Call("settleRound", (settlement, entries, signature))
    gas = BURNABLE_GAS if campaign and campaign.oracle == world.oracles[2] and world.ledger.unwell else None
    return settlement.campaign, world.send(_among(world.actors, relay), call, at_gas=gas)


@_action(
    campaign=ANY,
    who=ANY,
    when=Field(("at expiry", "before expiry", "at closing", "now")),
    flaw=Field(("none", "unknown", "round before", "round after", "entry missing", "entry added", "entries reversed")),
)
def expire(world: World, campaign, who, when, flaw):
    """Somebody gives up on a silent oracle."""
    campaign, actor = _campaign(world, campaign, pending=True), _among(world.actors, who)
    if campaign is None:
        return None, world.send(actor, Call("expireRound", (UNKNOWN, 0, [])))
    _wait(world, campaign, when)
    entries = [Entry(*entry) for entry in campaign.entries]
    if flaw == "entry missing":
        entries = entries[:-1]
    elif flaw == "entry added":
        entries.append(Entry(NOBODY, ZERO, ZERO))
    elif flaw == "entries reversed":
        entries.reverse()
    number = campaign.round + {"round before": -min(1, campaign.round), "round after": 1}.get(flaw, 0)
    return campaign.id, world.send(actor, Call("expireRound", (_id(campaign, flaw), number, entries)))


# --------------------------------------------------------------------------------------------------------------- money


@_action(creditor=ANY, to=ANY, flaw=Field(("none", "to zero", "as anybody", "to the contract", "to the committee")))
def withdraw(world: World, creditor, to, flaw):
    """Somebody wants what is owed, or more."""
    owed = sorted(key for key, amount in world.ledger.credits.items() if amount)
    token, account = _among(owed, creditor) if owed else (NATIVE, world.everybody[0])
    actor = _among(world.actors, creditor + 1) if flaw == "as anybody" else world.actor(account)
    special = {"to zero": 0, "to the contract": world.ledger.sonar, "to the committee": world.oracles[1]}
    to = special.get(flaw, _among(world.everybody, to))
    gas = BURNABLE_GAS if to == world.burning.address and token == NATIVE else None
    return None, world.send(actor, Call("withdraw", (token, to)), at_gas=gas)


@_action(token=ANY, who=ANY, dice=DICE)
def donate(world: World, token, who, dice):
    """Coin or tokens come uninvited."""
    world.donate(_among(world.tokens, token), _among(world.actors, who), Dice(dice).among([1, 0, 10**15, 10**20]))
    return None, True


# -------------------------------------------------------------------------------------------------------------- malice


@_action(token=ANY, mood=Field(MOODS))
def change_token(world: World, token, mood):
    """A token changes its mind."""
    world.set_token_mood(_among(world.moody, token).address, mood)
    return None, True


@_action(mood=Field(ORACLE_MOODS))
def change_oracle(world: World, mood):
    """The oracle that is a contract falls ill, or recovers."""
    world.set_oracle_mood(mood)
    return None, True


INNER = ("withdraw", "submit", "settle", "expire", "close", "accept", "transfer", "top up")


@_action(who=ANY, inner=Field(INNER), campaign=ANY, dice=DICE)
def arm(world: World, who, inner, campaign, dice):
    """Somebody prepares to call the contract in the middle of one of its own calls."""
    actor = _among([world.reentering, *world.moody], who)
    dice, campaign = Dice(dice), _campaign(world, campaign)
    if campaign is None or inner == "withdraw":
        call = Call("withdraw", (dice.among(world.tokens), dice.among(world.everybody)))
    elif inner == "submit":
        call = _submission(campaign, "none", dice)
    elif inner == "settle":
        call = settlement_call(world, campaign, "none", dice)
    elif inner == "expire":
        call = Call("expireRound", (campaign.id, campaign.round, [Entry(*entry) for entry in campaign.entries]))
    elif inner == "transfer":
        call = Call("transferCampaign", (campaign.id, dice.among(world.everybody)))
    elif inner == "top up":
        call = Call("topUp", (campaign.id, 1 + dice.below(9)))
    else:
        call = Call({"close": "close", "accept": "acceptCampaign"}[inner], (campaign.id,))
    world.arm(actor, call)
    return None, True


POKES = ("plain coin", "unknown function", "coin for a function that takes none", "half a word")


@_action(who=ANY, poke=Field(POKES), method=ANY)
def poke(world: World, who, poke, method):
    """Somebody sends what the contract does not understand."""
    actor = _among(world.actors, who)
    world.last_refusal = "no error"
    data = world.selector(_among(["close", "settleRound", "expireRound", "withdraw", "acceptCampaign"], method))
    if poke == "plain coin":
        world.send_bare(actor, b"", 1, poke)
    elif poke == "unknown function":
        world.send_bare(actor, b"\xde\xad\xbe\xef", 0, poke)
    elif poke == "half a word":
        world.send_bare(actor, data + bytes(16), 0, poke)
    else:
        world.send_bare(actor, data + bytes(32 * 8), 1, poke)
    return None, False


@_action(campaign=ANY, when=Field(WHEN), seconds=Field(bound=100))
def wait(world: World, campaign, when, seconds):
    """Time passes."""
    campaign = _campaign(world, campaign)
    if campaign:
        _wait(world, campaign, when)
    world.next_time += seconds
    return None, True


# ------------------------------------------------------------------------------------------------------------- helpers


def _among(options, number):
    return options[number % len(options)]


def _campaign(world, number, *, pending=False):
    """A campaign: seven times of eight one of the liveliest, else any that is not closed, or the last that was."""
    campaigns = world.ledger.campaigns.values()
    opened = [campaign for campaign in campaigns if campaign.status != CLOSED]
    pool = [campaign for campaign in opened if (campaign.entries if pending else _is_alive(world, campaign))]
    number, lively = divmod(number, 8)
    if not lively or not pool:
        pool = opened + [campaign for campaign in campaigns if campaign.status == CLOSED][-1:]
    return _among(pool, number) if pool else None


def _is_alive(world, campaign):
    return bool(campaign.entries) or (campaign.status == RUNNING and world.next_time < campaign.terms.deadline)


def alive(world):
    """How many campaigns take gradients or wait for the oracle's word."""
    return sum(_is_alive(world, campaign) for campaign in world.ledger.campaigns.values())


def _id(campaign, flaw):
    return UNKNOWN if flaw == "unknown" or campaign is None else campaign.id


def _wait(world, campaign, when):
    """Lets time pass until the next transaction is at an edge of a campaign, if that is still to come."""
    closes_at = campaign.closes_at if campaign.entries else world.next_time
    if when == "closed":
        world.next_time = world.next_time if campaign.is_round_closed(world.next_time) else closes_at
        return
    moments = {
        "before closing": closes_at - 1,
        "at closing": closes_at,
        "before expiry": campaign.expires_at - 1 if campaign.entries else 0,
        "at expiry": campaign.expires_at if campaign.entries else 0,
        "before the deadline": campaign.terms.deadline - 1,
        "at the deadline": campaign.terms.deadline,
    }
    moment = moments.get(when, 0)
    # What lies a long time ahead is waited for when nobody else would be too late by then.
    if moment < world.next_time + LONG or alive(world) <= 2:
        world.next_time = max(world.next_time, moment)


def _sign(world, oracle, flaw, digest_for):
    """The oracle's signature; with a flaw, something like it."""
    ledger = world.ledger
    digest = digest_for(ledger.domain)
    if flaw in SIGNATURE_FLAWS + COMMITTEE_FLAWS and oracle != world.oracles[2]:
        return _bad_signature(world, oracle, flaw, digest, digest_for)
    if flaw in SIGNATURE_FLAWS:
        return Blob(b"the oracle does not look at this")
    return world.signature(oracle, digest)


def _bad_signature(world, oracle, flaw, digest, digest_for):
    is_committee = oracle == world.oracles[1]
    if is_committee:
        first, second = world.committee_members[:2]
    else:
        first = second = next(signer for signer in world.signers if signer.address == oracle)
    stranger = world.stranger_signer

    def by_all(digest, **how):
        signers = [first, second] if is_committee else [first]
        return Blob(b"".join(signer.sign(digest, **how) for signer in signers))

    if flaw in ("other contract", "other chain"):
        chain_id, contract = world.chain.chain_id, world.ledger.sonar
        other = (chain_id + 1, contract) if flaw == "other chain" else (chain_id, contract ^ 1)
        return by_all(digest_for(domain_separator(*other)))
    return {
        "empty": lambda: Blob(),
        "short": lambda: Blob(by_all(digest)[:-1]),
        "malleated": lambda: by_all(digest, malleated=True),
        "stranger's": lambda: stranger.sign(digest),
        "other digest": lambda: by_all(keccak(digest)),
        "one member": lambda: first.sign(digest) if is_committee else stranger.sign(digest),
        "descending": lambda: Blob(second.sign(digest) + first.sign(digest)),
        "one member twice": lambda: Blob(first.sign(digest) * 2),
        "with a stranger": lambda: Blob(
            b"".join(s.sign(digest) for s in sorted([first, stranger], key=lambda s: s.address))
        ),
    }[flaw]()
