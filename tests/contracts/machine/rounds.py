"""What happens in rounds: gradients, settlements that are signed, withheld, sent again or falsified, and expiry."""

from machine.moves import ANY, DICE, NOBODY, UNKNOWN, WHEN, Dice, Field, action, among, find_campaign, id_of, wait_until
from machine.rules import KEPT, PPM
from machine.signing import COMMITTEE_FLAWS, SIGNATURE_FLAWS, sign
from machine.wire import ZERO, Call, Entry, Outcome, Settlement, settlement_digest
from machine.world import BURNABLE_GAS, World

__all__ = ["expire", "relay", "settle", "settlement_call", "submission", "submit"]

SUBMIT_FLAWS = ("none", "unknown", "round before", "round after", "bond too low", "bond too high", "copy of an entry")


@action(campaign=ANY, mine=ANY, when=Field(WHEN), flaw=Field(SUBMIT_FLAWS), dice=DICE)
def submit(world: World, campaign, mine, when, flaw, dice):
    """A mine posts a gradient."""
    campaign, actor = find_campaign(world, campaign), among(world.actors, mine)
    if campaign is None:
        return None, world.send(actor, Call("submitGradient", (UNKNOWN, 0, ZERO, ZERO, "")), 0)
    wait_until(world, campaign, when)
    call = submission(campaign, flaw, Dice(dice))
    value = campaign.terms.bond + {"bond too low": -min(1, campaign.terms.bond), "bond too high": 1}.get(flaw, 0)
    return campaign.id, world.send(actor, call, value)


def submission(campaign, flaw, dice):
    artifact, gradient = dice.hash(), dice.hash()
    if flaw == "copy of an entry" and campaign.entries:
        _, artifact, gradient = dice.among(campaign.entries)
    number = campaign.round + {"round before": -min(1, campaign.round), "round after": 1}.get(flaw, 0)
    return Call("submitGradient", (id_of(campaign, flaw), number, artifact, gradient, "cid of the gradient"))


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


@action(
    campaign=ANY, relay=ANY, when=Field(("closed", *WHEN)), flaw=Field(SETTLE_FLAWS), withheld=Field(bound=8), dice=DICE
)
def settle(world: World, campaign, relay, when, flaw, withheld, dice):
    """The oracle signs a settlement; somebody relays it at once, or keeps it for later."""
    campaign = find_campaign(world, campaign, pending=True)
    if campaign is None:
        return None, False
    wait_until(world, campaign, when)
    call = settlement_call(world, campaign, flaw, Dice(dice))
    if withheld == 7:
        world.last_refusal = "nothing sent"
        return campaign.id, False
    gas = BURNABLE_GAS if campaign.oracle == world.oracles[2] and world.ledger.unwell else None
    return campaign.id, world.send(among(world.actors, relay), call, at_gas=gas)


def settlement_call(world, campaign, flaw, dice):
    """A signed settlement of a campaign's present round, which goes to the archive."""
    settlement = _flawed_settlement(campaign, _verdict(campaign, dice), flaw)
    entries = _flawed_entries(world, campaign, flaw)
    signature = sign(world, campaign.oracle, flaw, lambda domain: settlement_digest(domain, settlement))
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


def _flawed_entries(world, campaign, flaw):
    entries = [Entry(*entry) for entry in campaign.entries]
    if flaw == "entry missing":
        entries = entries[:-1]
    elif flaw == "entry added":
        entries.append(Entry(NOBODY, ZERO, ZERO))
    elif flaw == "entries reversed":
        entries.reverse()
    elif flaw == "entry's mine changed" and entries:
        entries[0] = entries[0]._replace(mine=world.everybody[6])
    return entries


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


@action(which=ANY, relay=ANY, present=Field(bound=2))
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
    return settlement.campaign, world.send(among(world.actors, relay), call, at_gas=gas)


@action(
    campaign=ANY,
    who=ANY,
    when=Field(("at expiry", "before expiry", "at closing", "now")),
    flaw=Field(("none", "unknown", "round before", "round after", "entry missing", "entry added", "entries reversed")),
)
def expire(world: World, campaign, who, when, flaw):
    """Somebody gives up on a silent oracle."""
    campaign, actor = find_campaign(world, campaign, pending=True), among(world.actors, who)
    if campaign is None:
        return None, world.send(actor, Call("expireRound", (UNKNOWN, 0, [])))
    wait_until(world, campaign, when)
    entries = _flawed_entries(world, campaign, flaw)
    number = campaign.round + {"round before": -min(1, campaign.round), "round after": 1}.get(flaw, 0)
    return campaign.id, world.send(actor, Call("expireRound", (id_of(campaign, flaw), number, entries)))
