"""What the oracle signed counts once, and for nothing else. Each function's own tests have the plain replays of it."""

import pytest
from market import Verdict, judged, kept, refused

HALVES = [kept(2, 500_000), kept(3, 500_000), judged(Verdict.LEFT_OUT)]
CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@pytest.fixture
def campaign(market, owner):
    return market.running(owner)


@pytest.fixture
def full(market, campaign, mines):
    """A campaign whose first round is full: gradients of the first three mines."""
    market.fill(campaign, mines[:3])
    return campaign


@pytest.fixture
def signed(market, full):
    """A settlement of the full round, its entries and its signature."""
    settlement = market.settlement(full, 180_000, HALVES)
    return settlement, list(full.entries), market.sign("Settlement", settlement)


def twin(signature):
    """The malleable twin of a signature: s in the upper half of the curve's order, v flipped."""
    s = int.from_bytes(signature[32:64], "big")
    return signature[:32] + (CURVE_ORDER - s).to_bytes(32, "big") + bytes([55 - signature[64]])


# R103
def test_an_admission_cannot_be_replayed_under_another_oracle(market, owner, attacker):
    admission = market.admission(owner)
    signature = market.sign("Admission", admission)
    renamed = admission | {"oracle": attacker}
    with refused("Sonar_BadSignature", attacker, market.digest("Admission", renamed)):
        market.create(owner, admission=renamed, signature=signature)


# R104, R402
def test_a_settlement_cannot_be_replayed_in_the_next_round_of_the_same_mines(market, sonar, signed, full, mines):
    market.settle(full, 180_000, HALVES, sender=mines[0])
    market.fill(full, mines[:3])
    with refused("Sonar_WrongRound", full.id, 0, 1):
        sonar.settleRound(*signed, sender=mines[0])
    renumbered = signed[0] | {"round": 1, "head": full.head()}
    with refused("Sonar_BadSignature", market.oracle.address, market.digest("Settlement", renumbered)):
        sonar.settleRound(renumbered, full.entries, signed[2], sender=mines[0])


# R104
def test_a_settlement_cannot_be_replayed_in_another_campaign_of_the_same_oracle(market, sonar, signed, owner, mines):
    other = market.running(owner)
    market.fill(other, mines[:3])
    moved = signed[0] | {"campaign": other.id}
    with refused("Sonar_WrongHead", other.id, moved["head"], other.head()):
        sonar.settleRound(moved, other.entries, signed[2], sender=mines[0])
    moved["head"] = other.head()
    with refused("Sonar_BadSignature", market.oracle.address, market.digest("Settlement", moved)):
        sonar.settleRound(moved, other.entries, signed[2], sender=mines[0])


# R105
def test_a_settlements_malleable_twin_is_refused(market, sonar, signed, full, attacker):
    settlement, entries, signature = signed
    with refused("Sonar_BadSignature", market.oracle.address, market.digest("Settlement", settlement)):
        sonar.settleRound(settlement, entries, twin(signature), sender=attacker)
    sonar.settleRound(settlement, entries, signature, sender=attacker)


# R402, R105
def test_two_settlements_that_the_oracle_signed_for_one_round_count_once(market, sonar, signed, full, attacker):
    other = market.settlement(full, 260_000, HALVES)
    sonar.settleRound(other, full.entries, market.sign("Settlement", other), sender=attacker)
    with refused("Sonar_WrongRound", full.id, 0, 1):
        sonar.settleRound(*signed, sender=attacker)
    assert sonar.getCampaign(full.id)["score"] == 260_000


# R403, R104
@pytest.mark.parametrize("order", [(1, 0, 2), (0, 1), (0, 1, 2, 0)], ids=["reordered", "left out", "added"])
def test_a_settlement_over_other_gradients_is_refused_even_if_the_oracle_signed_it(market, full, mines, order):
    head, entries = full.head(), full.entries
    full.entries = [entries[i] for i in order]
    outcomes = [HALVES[i] for i in order]
    with refused("Sonar_WrongHead", full.id, full.head(), head):
        market.settle(full, 180_000, outcomes, sender=mines[0])
