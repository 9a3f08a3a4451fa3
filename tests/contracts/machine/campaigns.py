"""What happens to campaigns as a whole: the calls as they should be, each also with all the flaws one could give it."""

from eth_utils import keccak

from machine.moves import (
    ANY,
    DICE,
    NOBODY,
    UNKNOWN,
    WHEN,
    Dice,
    Field,
    action,
    among,
    find_campaign,
    id_of,
    wait_until,
)
from machine.rules import GAIN, NATIVE, PPM, TARGET
from machine.signing import COMMITTEE_FLAWS, SIGNATURE_FLAWS, sign
from machine.wire import (
    Admission,
    Blob,
    Call,
    Terms,
    admission_digest,
)
from machine.world import World

__all__ = ["accept", "close", "create", "top_up", "transfer"]

YEAR = 365 * 86_400

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
    "min gain out of reach",
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


@action(owner=ANY, oracle=ANY, token=ANY, flaw=Field(CREATE_FLAWS), dice=DICE)
def create(world: World, owner, oracle, token, flaw, dice):
    """A data scientist escrows a bounty."""
    dice = Dice(dice)
    actor = among(world.actors, owner)
    oracle = among(world.oracles, oracle)
    admission, terms = _offer(world, actor, oracle, among(world.tokens, token), dice)
    terms = _flawed_terms(terms, admission, flaw, world.next_time)
    changes = {
        "admission expired": {"valid_until": world.next_time - 1},
        "no oracle": {"oracle": 0},
        "not the owner": {"owner": among(world.actors, owner + 1).address},
    }
    admission = admission._replace(**changes.get(flaw, {}))
    if flaw == "admission used before" and world.admissions:
        admission = dice.among(world.admissions)
        actor = world.actor(admission.owner)
    signature = Blob()
    if admission.oracle:
        signature = sign(world, admission.oracle, flaw, lambda domain: admission_digest(domain, admission))
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
        min_gain=min(dice.among([1_000, 1, 100_000, 1, 10, 100, PPM]), PPM - start),
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
        "min gain out of reach": {"min_gain": PPM - admission.start_score + 1},
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


@action(
    campaign=ANY,
    payer=ANY,
    when=Field(WHEN),
    flaw=Field(("none", "unknown", "nothing", "value too high", "too much")),
    dice=DICE,
)
def top_up(world: World, campaign, payer, when, flaw, dice):
    """Somebody adds to a bounty."""
    campaign, dice = find_campaign(world, campaign), Dice(dice)
    if campaign is None:
        return None, world.send(among(world.actors, payer), Call("topUp", (UNKNOWN, 1)), 0)
    wait_until(world, campaign, when)
    terms = campaign.terms
    left = 2**128 - 1 - terms.bounty
    amount = min(
        dice.among([10**18, 1, 3, 10**6 + 7, 2**100 if terms.token else 10**24, left if terms.token else 5]), left
    )
    amount = {"nothing": 0, "too much": left + 1}.get(flaw, amount)
    value = amount if terms.token == NATIVE and flaw != "too much" else 0
    value += flaw == "value too high"
    actor = among(world.actors, payer)
    return campaign.id, world.send(actor, Call("topUp", (id_of(campaign, flaw), amount)), value)


@action(campaign=ANY, who=ANY, to=ANY, flaw=Field(("none", "unknown", "by anybody", "taken back")))
def transfer(world: World, campaign, who, to, flaw):
    """An owner offers a campaign to somebody."""
    campaign = find_campaign(world, campaign)
    actor = among(world.actors, who) if flaw == "by anybody" or campaign is None else world.actor(campaign.owner)
    to = 0 if flaw == "taken back" else among(world.everybody, to)
    return campaign and campaign.id, world.send(actor, Call("transferCampaign", (id_of(campaign, flaw), to)))


@action(campaign=ANY, who=ANY, flaw=Field(("none", "unknown", "by anybody")))
def accept(world: World, campaign, who, flaw):
    """Somebody takes over what was offered."""
    campaign = find_campaign(world, campaign)
    actor = among(world.actors, who)
    if campaign and campaign.pending_owner and flaw != "by anybody":
        actor = world.actor(campaign.pending_owner)
    return campaign and campaign.id, world.send(actor, Call("acceptCampaign", (id_of(campaign, flaw),)))


@action(campaign=ANY, who=ANY, when=Field(WHEN), flaw=Field(("none", "unknown", "by anybody")))
def close(world: World, campaign, who, when, flaw):
    """An owner wants the rest of the bounty."""
    campaign = find_campaign(world, campaign)
    actor = among(world.actors, who)
    if campaign:
        wait_until(world, campaign, when)
        actor = actor if flaw == "by anybody" else world.actor(campaign.owner)
    return campaign and campaign.id, world.send(actor, Call("close", (id_of(campaign, flaw),)))
