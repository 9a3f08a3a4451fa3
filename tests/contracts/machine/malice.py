"""What happens around rounds: withdrawals, gifts, moods, calls in the middle of calls, nonsense, and time."""

from machine.moves import ANY, DICE, WHEN, Dice, Field, action, among, find_campaign, wait_until
from machine.rounds import settlement_call, submission
from machine.rules import NATIVE
from machine.wire import (
    Call,
    Entry,
)
from machine.world import BURNABLE_GAS, MOODS, ORACLE_MOODS, World

__all__ = ["arm", "change_oracle", "change_token", "donate", "poke", "wait", "withdraw"]


@action(creditor=ANY, to=ANY, flaw=Field(("none", "to zero", "as anybody", "to the contract", "to the committee")))
def withdraw(world: World, creditor, to, flaw):
    """Somebody wants what is owed, or more."""
    owed = sorted(key for key, amount in world.ledger.credits.items() if amount)
    token, account = among(owed, creditor) if owed else (NATIVE, world.everybody[0])
    actor = among(world.actors, creditor + 1) if flaw == "as anybody" else world.actor(account)
    special = {"to zero": 0, "to the contract": world.ledger.sonar, "to the committee": world.oracles[1]}
    to = special.get(flaw, among(world.everybody, to))
    gas = BURNABLE_GAS if to == world.burning.address and token == NATIVE else None
    return None, world.send(actor, Call("withdraw", (token, to)), at_gas=gas)


@action(token=ANY, who=ANY, dice=DICE)
def donate(world: World, token, who, dice):
    """Coin or tokens come uninvited."""
    world.donate(among(world.tokens, token), among(world.actors, who), Dice(dice).among([1, 0, 10**15, 10**20]))
    return None, True


@action(token=ANY, mood=Field(MOODS))
def change_token(world: World, token, mood):
    """A token changes its mind."""
    world.set_token_mood(among(world.moody, token).address, mood)
    return None, True


@action(mood=Field(ORACLE_MOODS))
def change_oracle(world: World, mood):
    """The oracle that is a contract falls ill, or recovers."""
    world.set_oracle_mood(mood)
    return None, True


INNER = ("withdraw", "submit", "settle", "expire", "close", "accept", "transfer", "top up")


@action(who=ANY, inner=Field(INNER), campaign=ANY, dice=DICE)
def arm(world: World, who, inner, campaign, dice):
    """Somebody prepares to call the contract in the middle of one of its own calls."""
    actor = among([world.reentering, *world.moody], who)
    dice, campaign = Dice(dice), find_campaign(world, campaign)
    if campaign is None or inner == "withdraw":
        call = Call("withdraw", (dice.among(world.tokens), dice.among(world.everybody)))
    elif inner == "submit":
        call = submission(campaign, "none", dice)
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


@action(who=ANY, poke=Field(POKES), method=ANY)
def poke(world: World, who, poke, method):
    """Somebody sends what the contract does not understand."""
    actor = among(world.actors, who)
    data = world.selector(among(["close", "settleRound", "expireRound", "withdraw", "acceptCampaign"], method))
    if poke == "plain coin":
        world.send_bare(actor, b"", 1, poke)
    elif poke == "unknown function":
        world.send_bare(actor, b"\xde\xad\xbe\xef", 0, poke)
    elif poke == "half a word":
        world.send_bare(actor, data + bytes(16), 0, poke)
    else:
        world.send_bare(actor, data + bytes(32 * 8), 1, poke)
    return None, False


@action(campaign=ANY, when=Field(WHEN), seconds=Field(bound=100))
def wait(world: World, campaign, when, seconds):
    """Time passes."""
    campaign = find_campaign(world, campaign)
    if campaign:
        wait_until(world, campaign, when)
    world.next_time += seconds
    return None, True
