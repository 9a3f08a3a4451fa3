"""settleRound: who is paid what, and which settlements even the oracle cannot make."""

import pytest
from chains.base import Reverted
from eth_account import Account
from market import BOND, BOUNTY, HOUR, NATIVE, OTHER, PPM, ZERO, Market, Status, Verdict, digest, judged, kept, refused

HALVES = [kept(2, 500_000), kept(3, 500_000), judged(Verdict.LEFT_OUT)]
NOTHING = [judged(Verdict.LEFT_OUT)] * 3


@pytest.fixture
def campaign(market, owner):
    return market.running(owner)


@pytest.fixture
def full(market, campaign, mines):
    """A campaign whose first round is full: gradients of the first three mines."""
    market.fill(campaign, mines[:3])
    return campaign


# What it does


# R501, R401
def test_an_advancing_round_raises_the_score(market, sonar, full, stranger):
    market.settle(full, 180_000, HALVES, sender=stranger)
    record = sonar.getCampaign(full.id)
    assert (record["score"], record["startScore"], record["version"]) == (180_000, 100_000, 1)
    assert (record["paid"], record["status"]) == (BOUNTY // 10, Status.RUNNING)


# R406, R412
def test_each_round_counts_as_settled_and_makes_a_version_only_if_it_advances(market, sonar, full, mines):
    counts = []
    for score, outcomes in ((180_000, HALVES), (180_000, NOTHING), (190_000, HALVES)):
        market.settle(full, score, outcomes, sender=mines[0])
        counts.append((sonar.getRound(full.id)["settled"], sonar.getCampaign(full.id)["version"]))
        market.fill(full, mines[:3])
    assert counts == [(1, 1), (2, 1), (3, 2)]


# R504, R505
def test_an_advancing_round_pays_by_the_shares_and_gives_the_bonds_back(
    chain, market, sonar, full, owner, mines, stranger
):
    outcomes = [kept(2, 700_000), kept(3, 300_000), judged(Verdict.LEFT_OUT)]
    before = chain.balance(sonar)
    market.settle(full, 180_000, outcomes, sender=stranger)
    assert market.credits(*mines[:3], owner, stranger) == [
        BOUNTY * 7 // 100 + BOND,
        BOUNTY * 3 // 100 + BOND,
        BOND * 9 // 10,
        BOND // 10,
        0,
    ]
    assert chain.balance(sonar) == before


# R508
def test_a_token_bounty_is_paid_in_its_token_and_the_bonds_in_coin(chain, market, sonar, owner, mines, token):
    campaign = market.running(owner, token=token.address)
    market.fill(campaign, mines[:3])
    market.settle(campaign, 180_000, HALVES, sender=mines[0])
    assert market.credits(*mines[:3], owner, token=token) == [BOUNTY // 20, BOUNTY // 20, 0, 0]
    assert market.credits(*mines[:3], owner) == [BOND, BOND, BOND * 9 // 10, BOND // 10]
    assert (token.balanceOf(sonar), chain.balance(sonar)) == (BOUNTY, 3 * BOND)


# R407, R501
def test_a_round_that_does_not_advance_pays_nobody(market, sonar, full, owner, mines):
    market.settle(full, 100_000, NOTHING, sender=mines[0])
    assert market.credits(*mines[:3], owner) == [BOND * 9 // 10] * 3 + [3 * (BOND // 10)]
    record = sonar.getCampaign(full.id)
    assert (record["score"], record["version"], record["paid"]) == (100_000, 0, 0)


# R505, R506, R507
@pytest.mark.parametrize(
    ("verdict", "returned"),
    [
        (Verdict.LEFT_OUT, BOND * 3 // 4),
        (Verdict.UNAVAILABLE, BOND * 3 // 4),
        (Verdict.INVALID, 0),
        (Verdict.COPY, 0),
    ],
)
def test_each_verdict_takes_its_part_of_the_bond(market, owner, mines, verdict, returned):
    campaign = market.running(owner, slash=250_000, roundSize=3)
    market.fill(campaign, mines[:3])
    market.settle(campaign, 180_000, [kept(1, PPM), judged(verdict), kept(1, 0)], sender=mines[0])
    assert market.credits(*mines[:3], owner) == [BOUNTY // 10 + BOND, returned, BOND, BOND - returned]


# R506
def test_the_bonds_lost_part_is_rounded_in_the_mines_favour(market, owner, mines):
    campaign = market.running(owner, bond=9, slash=999_999)
    market.fill(campaign, mines[:3])
    market.settle(campaign, 100_000, NOTHING, sender=mines[0])
    assert market.credits(*mines[:3], owner) == [1, 1, 1, 24]


# R408, R504
def test_a_kept_gradient_may_have_no_share(market, full, mines):
    market.settle(full, 180_000, [kept(5, 0), kept(5, PPM), kept(5, 0)], sender=mines[0])
    assert market.credits(*mines[:3]) == [BOND, BOND + BOUNTY // 10, BOND]


# R411
def test_the_next_round_is_empty_and_open(market, sonar, full, mines):
    market.settle(full, 180_000, HALVES, sender=mines[0])
    present = sonar.getRound(full.id)
    assert (present["number"], present["settled"], present["count"]) == (1, 1, 0)
    assert (present["openedAt"], present["closesAt"], present["expiresAt"], present["open"]) == (0, 0, 0, True)
    assert present["head"] == full.head()


# R413, R909
def test_it_announces_every_gradient_and_the_round(market, full, mines, stranger):
    outcomes = [kept(2, 700_000), judged(Verdict.COPY), kept(3, 300_000)]
    settlement = market.settlement(full, 180_000, outcomes)
    tx = market.settle(full, 180_000, outcomes, sender=stranger)
    for index, event in enumerate(tx.events["GradientJudged"]):
        assert event["id"] == full.id
        assert (event["round"], event["mine"], event["index"]) == (0, mines[index], index)
        assert (event["verdict"], event["weight"], event["share"]) == outcomes[index]
    assert [event["payout"] for event in tx.events["GradientJudged"]] == [BOUNTY * 7 // 100, 0, BOUNTY * 3 // 100]
    assert [event["bondReturned"] for event in tx.events["GradientJudged"]] == [BOND, 0, BOND]
    (event,) = tx.events["RoundSettled"]
    assert event["id"] == full.id
    assert (event["round"], event["payout"]) == (0, BOUNTY // 10)
    for name in ("score", "exponent", "model", "key", "product", "modelCid", "productCid"):
        assert event[name] == settlement[name]
    assert "CampaignFinished" not in tx.events


# R412
def test_reaching_the_target_finishes_the_campaign(market, sonar, full, mines):
    tx = market.settle(full, 800_000, HALVES, sender=mines[0])
    assert market.status(full) == Status.FINISHED
    (event,) = tx.events["CampaignFinished"]
    assert (event["id"], event["score"]) == (full.id, 800_000)
    assert not sonar.getRound(full.id)["open"]


# R412
def test_one_step_below_the_target_does_not_finish_the_campaign(market, full, mines):
    market.settle(full, 799_999, HALVES, sender=mines[0])
    assert market.status(full) == Status.RUNNING


# R501
def test_overshoot_pays_only_up_to_the_target(market, sonar, full, owner, mines):
    market.settle(full, PPM, HALVES, sender=mines[0])
    record = sonar.getCampaign(full.id)
    assert (record["score"], record["paid"]) == (PPM, BOUNTY * 7 // 8)
    assert sum(market.credits(*mines[:3], owner)) == BOUNTY * 7 // 8 + 3 * BOND


# R412
def test_the_last_permitted_round_finishes_the_campaign_even_if_it_does_not_advance(market, owner, mines):
    campaign = market.running(owner, maxRounds=2)
    for status in (Status.RUNNING, Status.FINISHED):
        market.fill(campaign, mines[:3])
        tx = market.settle(campaign, 100_000, NOTHING, sender=mines[0])
        assert market.status(campaign) == status
    assert tx.events["CampaignFinished"][0]["score"] == 100_000


# R402, R304
def test_a_round_that_is_not_full_settles_once_its_time_is_over(chain, market, sonar, campaign, mines):
    market.submit(campaign, mines[0])
    market.submit(campaign, mines[1])
    closes = sonar.getRound(campaign.id)["closesAt"]
    chain.at(closes - 1)
    with refused("Sonar_RoundOpen", campaign.id, 0, closes):
        market.settle(campaign, 180_000, HALVES[:2], sender=mines[0])
    market.settle(campaign, 180_000, HALVES[:2], sender=mines[0])
    assert sonar.getCampaign(campaign.id)["score"] == 180_000


# R402
def test_a_full_round_settles_at_once(market, sonar, full, mines):
    assert sonar.getRound(full.id)["closesAt"] > 0
    market.settle(full, 180_000, HALVES, sender=mines[0])
    assert sonar.getCampaign(full.id)["version"] == 1


# R402
def test_a_round_settles_after_the_deadline(chain, market, sonar, campaign, mines):
    chain.at(campaign.terms["deadline"] - 2)
    market.submit(campaign, mines[0])
    market.submit(campaign, mines[1])
    market.settle(campaign, 180_000, HALVES[:2], sender=mines[0])
    assert sonar.getCampaign(campaign.id)["score"] == 180_000


# R405
def test_a_late_settlement_is_valid_until_somebody_expires_the_round(chain, market, sonar, full, mines):
    chain.at(sonar.getRound(full.id)["expiresAt"] + HOUR)
    market.settle(full, 180_000, HALVES, sender=mines[0])
    assert sonar.getCampaign(full.id)["score"] == 180_000


# R209, R501
def test_a_round_of_one_pays_each_gradient_its_own_gain(market, owner, mines):
    campaign = market.running(owner, roundSize=1, minMines=1)
    for mine, score in zip(mines[:2], (180_000, 260_000), strict=True):
        market.submit(campaign, mine)
        market.settle(campaign, score, [kept(1, PPM)], sender=mine)
    assert market.credits(*mines[:2]) == [BOUNTY // 10 + BOND] * 2


# R208, R905
def test_a_round_of_sixty_four_settles_in_one_transaction(chain, market, sonar, owner):
    campaign = market.running(owner, roundSize=64, bond=0)
    crowd = [chain.new_account() for _ in range(64)]
    for mine in crowd:
        market.submit(campaign, mine)
    tx = market.settle(campaign, 180_000, [kept(1, PPM // 64)] * 64, sender=owner)
    assert sum(market.credits(*crowd)) == BOUNTY // 10
    assert len(tx.events["GradientJudged"]) == 64


# R905
def test_settling_eight_gradients_costs_at_most_177_000_gas(metered_market, owner):
    market = metered_market
    campaign = market.running(owner, roundSize=8, bond=0)
    crowd = [market.chain.new_account() for _ in range(8)]
    for score in (180_000, 260_000):  # the first round also makes the mines' credits
        for mine in crowd:
            market.submit(campaign, mine)
        tx = market.settle(campaign, score, [kept(1, PPM // 8)] * 8, sender=owner)
    assert tx.gas_used <= 177_000


# R106
def test_the_oracle_may_be_a_contract(chain, market, sonar, owner, mines):
    oracle = chain.deploy("ContractOracle", sender=owner)
    admission = market.admission(owner, oracle=oracle.address)
    oracle.approve(market.digest("Admission", admission), sender=owner)
    campaign, _ = market.create(owner, admission=admission, signature=b"")
    market.fill(campaign, mines[:3])
    settlement = market.settlement(campaign, 180_000, HALVES)
    with refused("Sonar_BadSignature", oracle, market.digest("Settlement", settlement)):
        market.settle(campaign, 180_000, HALVES, sender=owner)
    oracle.approve(market.digest("Settlement", settlement), sender=owner)
    market.settle(campaign, 180_000, HALVES, sender=owner, signature=b"")
    assert sonar.getCampaign(campaign.id)["score"] == 180_000


# Which round


# R402
def test_an_unknown_campaign_cannot_be_settled(market, full, mines):
    with refused("Sonar_CampaignUnknown", digest("nothing")):
        market.settle(full, 180_000, HALVES, sender=mines[0], campaign=digest("nothing"))


# R402
def test_a_closed_campaign_cannot_be_settled(market, campaign, mines):
    market.close(campaign)
    with refused("Sonar_WrongStatus", campaign.id, Status.CLOSED):
        market.settle(campaign, 180_000, [], sender=mines[0])


# R402
def test_a_finished_campaign_cannot_be_settled(market, full, mines):
    market.settle(full, 800_000, HALVES, sender=mines[0])
    with refused("Sonar_WrongStatus", full.id, Status.FINISHED):
        market.settle(full, 900_000, [], sender=mines[0])


# R402
def test_a_settlement_serves_once(market, sonar, full, mines):
    entries, settlement = list(full.entries), market.settlement(full, 180_000, HALVES)
    signature = market.sign("Settlement", settlement)
    market.settle(full, 180_000, HALVES, sender=mines[0])
    with refused("Sonar_WrongRound", full.id, 0, 1):
        sonar.settleRound(settlement, entries, signature, sender=mines[0])


# R402
def test_another_round_cannot_be_settled(market, full, mines):
    with refused("Sonar_WrongRound", full.id, 1, 0):
        market.settle(full, 180_000, HALVES, sender=mines[0], round=1)


# R402
def test_an_empty_round_cannot_be_settled(market, campaign, mines):
    with refused("Sonar_RoundEmpty", campaign.id, 0):
        market.settle(campaign, 100_000, [], sender=mines[0])


# Which gradients


# R403
@pytest.mark.parametrize(
    "tamper",
    [
        lambda entries: entries[::-1],
        lambda entries: entries[:-1],
        lambda entries: [*entries, entries[0]],
        lambda entries: [entries[0], entries[0], entries[2]],
        lambda entries: [(OTHER, *entries[0][1:]), *entries[1:]],
        lambda entries: [(entries[0][0], digest("other"), entries[0][2]), *entries[1:]],
        lambda entries: [(*entries[0][:2], digest("other")), *entries[1:]],
        lambda entries: [],
    ],
    ids=["reordered", "left out", "added", "doubled", "other mine", "other artifact", "other gradient", "none"],
)
def test_entries_that_are_not_the_rounds_are_refused(market, sonar, full, mines, tamper):
    head, entries = full.head(), full.entries
    full.entries = tamper(entries)
    with refused("Sonar_WrongHead", full.id, full.head(), head):
        market.settle(full, 180_000, HALVES, sender=mines[0], head=head)


# R403
def test_a_settlement_of_another_head_is_refused(market, full, mines):
    with refused("Sonar_WrongHead", full.id, digest("other"), full.head()):
        market.settle(full, 180_000, HALVES, sender=mines[0], head=digest("other"))


# R404
@pytest.mark.parametrize("outcomes", [HALVES[:2], [*HALVES, judged(Verdict.COPY)]], ids=["fewer", "more"])
def test_there_is_one_outcome_for_every_gradient(market, full, mines, outcomes):
    with refused("Sonar_WrongOutcomeCount", len(outcomes), 3):
        market.settle(full, 180_000, outcomes, sender=mines[0])


# R413
def test_a_verdict_that_does_not_exist_is_refused(market, full, mines):
    with pytest.raises(Reverted):
        market.settle(full, 100_000, [(5, 0, 0), *NOTHING[1:]], sender=mines[0])


# Whose word


# R401
def test_a_settlement_signed_by_another_is_refused(market, full, attacker):
    settlement = market.settlement(full, 180_000, HALVES)
    forged = market.sign("Settlement", settlement, signer=Account.create())
    with refused("Sonar_BadSignature", market.oracle.address, market.digest("Settlement", settlement)):
        market.settle(full, 180_000, HALVES, sender=attacker, signature=forged)


# R102
def test_a_settlement_for_another_contract_is_refused(chain, market, full, owner, attacker):
    settlement = market.settlement(full, 180_000, HALVES)
    other = Market(chain.deploy("Sonar", sender=owner), market.oracle.key).sign("Settlement", settlement)
    with refused("Sonar_BadSignature", market.oracle.address, market.digest("Settlement", settlement)):
        market.settle(full, 180_000, HALVES, sender=attacker, signature=other)


# R102
def test_a_settlement_for_another_chain_is_refused(market, full, attacker):
    settlement = market.settlement(full, 180_000, HALVES)
    other = market.sign("Settlement", settlement, chain_id=4242)
    with refused("Sonar_BadSignature", market.oracle.address, market.digest("Settlement", settlement)):
        market.settle(full, 180_000, HALVES, sender=attacker, signature=other)


# R102, R104
@pytest.mark.parametrize(
    "change",
    [
        {"score": 190_000},
        {"exponent": 11},
        {"model": digest("other")},
        {"key": digest("other")},
        {"product": digest("other")},
        {"modelCid": "other"},
        {"productCid": "other"},
        {"outcomes": [(1, 2, 500_001), (1, 3, 499_999), (0, 0, 0)]},
        {"outcomes": [(1, 3, 500_000), (1, 3, 500_000), (0, 0, 0)]},
        {"outcomes": [(1, 2, 500_000), (1, 3, 500_000), (4, 0, 0)]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_settlement_with_one_field_changed_is_not_signed(market, full, attacker, change):
    signature = market.sign("Settlement", market.settlement(full, 180_000, HALVES))
    changed = market.settlement(full, 180_000, HALVES) | change
    with refused("Sonar_BadSignature", market.oracle.address, market.digest("Settlement", changed)):
        market.sonar.settleRound(changed, full.entries, signature, sender=attacker)


# What the terms allow


# R406
@pytest.mark.parametrize("missing", ["key", "product"])
def test_a_round_that_advances_names_the_next_key_and_the_product(market, full, mines, missing):
    with refused("Sonar_InconsistentSettlement", full.id, 0):
        market.settle(full, 180_000, HALVES, sender=mines[0], **{missing: ZERO})


# R406
@pytest.mark.parametrize(
    "named",
    [{"key": digest("k")}, {"product": digest("p")}, {"exponent": 1}, {"modelCid": "c"}, {"productCid": "c"}],
    ids=lambda named: next(iter(named)),
)
def test_a_round_that_does_not_advance_names_nothing(market, full, mines, named):
    with refused("Sonar_InconsistentSettlement", full.id, 0):
        market.settle(full, 100_000, NOTHING, sender=mines[0], **named)


# R407
@pytest.mark.parametrize("score", [0, 99_999, 100_000, 100_999, PPM + 1, 2**32 - 1])
def test_a_round_that_advances_gains_at_least_the_minimum(market, full, mines, score):
    with refused("Sonar_ScoreOutOfRange", score, 100_000, 1_000):
        market.settle(full, score, HALVES, sender=mines[0])


# R407
def test_the_minimal_gain_is_enough(market, sonar, full, mines):
    market.settle(full, 101_000, HALVES, sender=mines[0])
    assert sonar.getCampaign(full.id)["score"] == 101_000


# R407
@pytest.mark.parametrize("score", [99_999, 100_001, 180_000])
def test_a_round_that_does_not_advance_leaves_the_score(market, full, mines, score):
    with refused("Sonar_ScoreOutOfRange", score, 100_000, 1_000):
        market.settle(full, score, NOTHING, sender=mines[0])


# R210, R407
def test_the_largest_minimal_gain_is_reached_only_by_a_perfect_score(market, owner, mines):
    campaign = market.running(owner, minGain=900_000)
    market.fill(campaign, mines[:3])
    with refused("Sonar_ScoreOutOfRange", PPM - 1, 100_000, 900_000):
        market.settle(campaign, PPM - 1, HALVES, sender=mines[0])
    market.settle(campaign, PPM, HALVES, sender=mines[0])
    assert market.status(campaign) == Status.FINISHED


# R408
@pytest.mark.parametrize("verdict", [Verdict.LEFT_OUT, Verdict.UNAVAILABLE, Verdict.INVALID, Verdict.COPY])
@pytest.mark.parametrize(("weight", "share"), [(1, 0), (0, 1)], ids=["weight", "share"])
def test_a_gradient_that_was_not_kept_has_neither_weight_nor_share(market, full, mines, verdict, weight, share):
    with refused("Sonar_InconsistentOutcome", 1):
        market.settle(full, 180_000, [kept(1, PPM), (verdict, weight, share), kept(1, 0)], sender=mines[0])


# R408
def test_a_kept_gradient_has_a_weight(market, full, mines):
    with refused("Sonar_InconsistentOutcome", 2):
        market.settle(full, 180_000, [kept(1, PPM), kept(1, 0), kept(0, 0)], sender=mines[0])


# R408
def test_nothing_is_kept_in_a_round_that_does_not_advance(market, full, mines):
    with refused("Sonar_InconsistentOutcome", 0):
        bare = {"exponent": 0, "model": ZERO, "key": ZERO, "product": ZERO, "modelCid": "", "productCid": ""}
        market.settle(full, 100_000, HALVES, sender=mines[0], **bare)


# R409
def test_a_round_that_advances_keeps_enough_mines(market, full, mines):
    with refused("Sonar_TooFewKept", 1, 2):
        market.settle(full, 180_000, [kept(1, PPM), *NOTHING[1:]], sender=mines[0])


# R410
@pytest.mark.parametrize("last", [499_999, 500_001, 0, 2**32 - 1])
def test_shares_sum_to_exactly_one(market, full, mines, last):
    with refused("Sonar_WrongShareSum", 500_000 + last, PPM):
        market.settle(full, 180_000, [kept(1, 500_000), kept(1, last), NOTHING[2]], sender=mines[0])


# R902
def test_a_campaigns_settlement_moves_no_other_campaigns_money(market, sonar, full, owner, mines):
    other = market.running(owner)
    market.settle(full, 800_000, HALVES, sender=mines[0])
    assert sonar.getCampaign(other.id)["paid"] == 0
    market.close(other)
    assert sonar.credit(NATIVE, owner) == BOUNTY + BOND // 10
