"""Which campaigns are worth the work, whose turn it is, and which ones rest."""

from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mine.strategy import (
    SUBMISSION_GAS,
    OwnRound,
    Rest,
    alone_until,
    at_risk_alone,
    estimate,
    in_turn,
    payable,
    promised,
    rest_of,
    sharers,
    short_rounds,
    unpaid_rounds,
)
from sonar.chain.records import NATIVE, CampaignRecord, PayoutBase, Status, Terms, Verdict
from sonar.units import Address, CampaignId, Ppm, Wei

OWNER = Address("0x" + "11" * 20)
ETHER = 10**18
TERMS = Terms(
    token=NATIVE, bounty=Wei(ETHER), bond=Wei(ETHER // 1000), slash=Ppm(100_000), target=Ppm(900_000),
    payout_base=PayoutBase.TARGET, min_gain=Ppm(1000), min_mines=2, round_size=8, max_rounds=20, round_seconds=300,
    settlement_seconds=86400, deadline=2_000_000_000,
)  # fmt: skip
RECORD = CampaignRecord(
    CampaignId(bytes(32)), OWNER, OWNER, Status.RUNNING, TERMS, Ppm(100_000), Ppm(100_000), Ppm(900_000), 0, Wei(0)
)


def own(*payouts, verdict=Verdict.KEPT, ended=0.0):
    """Rounds in which this mine took part, the first first; returned the latest first."""
    rounds = [OwnRound(number, verdict, Wei(payout), ended) for number, payout in enumerate(payouts)]
    return tuple(reversed(rounds))


def test_what_is_left_to_pay_is_what_the_contract_would_pay_at_the_target():
    assert promised(RECORD) == payable(RECORD) == ETHER * 8 // 9
    halfway = replace(RECORD, score=Ppm(500_000), paid=Wei(ETHER * 4 // 9))
    assert payable(halfway) == ETHER * 8 // 9 - ETHER * 4 // 9
    assert payable(replace(RECORD, score=Ppm(950_000))) == 0


@given(st.integers(1, 10**30), st.integers(0, 999_999), st.integers(1, 10**6), st.integers(0, 10**6))
def test_what_was_paid_and_what_is_left_add_up_to_what_was_promised(bounty, start, rise, gone):
    target = min(start + rise, 10**6)
    score = min(start + gone, 10**6)
    terms = replace(TERMS, bounty=Wei(bounty), target=Ppm(target))
    record = replace(RECORD, terms=terms, start_score=Ppm(start), score=Ppm(start), base=Ppm(target))
    paid = bounty * (min(score, target) - start) // target
    assert paid + payable(replace(record, score=Ppm(score))) == promised(record)


def test_a_round_is_shared_by_those_that_came_that_it_needs_or_that_came_before():
    terms = replace(TERMS, round_size=8, min_mines=2)
    assert sharers(terms, 0, 0) == 2, "it needs two"
    assert sharers(terms, 3, 0) == 4, "this one is the fourth"
    assert sharers(terms, 1, 5) == 5
    assert sharers(terms, 1, 64) == sharers(terms, 8, 0) == 8, "more have no room"


def test_a_new_campaign_is_expected_to_pay_an_eighth_of_what_is_left_a_round():
    found = estimate(RECORD, 0, (), Wei(10**9), shared_by=4)
    assert found.payout == pytest.approx(payable(RECORD) / 8 / 4)
    assert found.gas == SUBMISSION_GAS * 10**9
    assert found.bond_loss == TERMS.bond // 50  # one loss of a tenth in five rounds
    assert found.gain == found.payout - found.gas - found.bond_loss


def test_a_round_is_expected_to_pay_the_part_of_what_is_left_that_rounds_have_paid_before():
    """Nine tenths of the way are done in two rounds, or in twenty."""
    record = replace(RECORD, score=Ppm(820_000))
    left = payable(record)
    assert left == promised(record) // 10
    quick, slow = (estimate(record, settled, (), Wei(0), shared_by=8).payout for settled in (2, 20))
    assert quick == pytest.approx(left * (1 - (0.1 * 7 / 8) ** (1 / 3)) / 8)
    assert slow == pytest.approx(left * (1 - (0.1 / 2) ** (1 / 21)) / 8)  # it is its last round
    assert quick < left / 8


def test_own_pay_counts_more_with_every_round():
    expected = [estimate(RECORD, 0, own(*[0] * rounds), Wei(0), shared_by=8).payout for rounds in range(5)]
    assert all(later == pytest.approx(earlier / 2, abs=1) for earlier, later in pairwise(expected))
    assert estimate(RECORD, 0, own(0, 0, ETHER // 10), Wei(0), shared_by=8).payout > ETHER // 20


def test_no_more_is_expected_than_is_left():
    nearly = replace(RECORD, score=Ppm(899_999))
    assert estimate(nearly, 5, own(ETHER), Wei(0), shared_by=8).payout == payable(nearly)


@pytest.mark.parametrize(
    ("verdict", "part"),
    [(Verdict.KEPT, 0.1 / 6), (Verdict.LEFT_OUT, 0.2 / 6), (Verdict.UNAVAILABLE, 0.2 / 6), (Verdict.COPY, 1.1 / 6),
     (None, 0.1 / 5)],
)  # fmt: skip
def test_the_bonds_expected_loss_follows_the_verdicts(verdict, part):
    found = estimate(RECORD, 1, own(0, verdict=verdict), Wei(0), shared_by=8)
    assert found.bond_loss == pytest.approx(part * TERMS.bond, rel=1e-6)


def test_rounds_that_brought_nothing_are_counted_back_to_the_last_that_did():
    assert unpaid_rounds(own()) == 0
    assert unpaid_rounds(own(0, 5, 0, 0)) == 2
    assert unpaid_rounds(own(0, 0, 5)) == 0


def test_a_round_with_fewer_gradients_than_it_must_keep_costs_each_the_slashed_part_of_the_bond():
    assert at_risk_alone(TERMS, 0) == TERMS.bond // 10
    assert at_risk_alone(TERMS, 1) == 0
    assert at_risk_alone(replace(TERMS, min_mines=3), 1) == TERMS.bond // 10
    assert at_risk_alone(replace(TERMS, min_mines=1), 0) == 0


def test_rounds_to_which_too_few_came_say_nothing_of_the_work():
    alone = [OwnRound(number, Verdict.LEFT_OUT, Wei(0), 100.0, short=True) for number in (5, 4)]
    judged = own(7, 0, 0)
    assert (short_rounds(alone), short_rounds([*alone, *judged]), short_rounds([*judged, *alone])) == (2, 2, 0)
    assert unpaid_rounds([*alone, *judged]) == unpaid_rounds(judged) == 2
    assert rest_of([*alone, *judged], 300) == rest_of(judged, 300)
    with_them, without = (
        estimate(RECORD, 3, all_of_it, Wei(1), shared_by=8) for all_of_it in ((*alone, *judged), judged)
    )
    assert with_them.payout == without.payout


def test_a_mine_that_was_alone_lets_others_go_first_for_twice_as_long_each_time():
    alone = [OwnRound(9, Verdict.LEFT_OUT, Wei(0), 1000.0, short=True)]
    assert alone_until(alone, 300) == 1000 + 2 * 300
    assert alone_until(alone * 3, 300) == 1000 + 8 * 300
    assert alone_until(alone * 10**4, 300) < 1e9


@pytest.mark.parametrize(("unpaid", "skipped"), [(0, 0), (1, 0), (2, 1), (3, 2), (4, 4), (10, 256)])
def test_a_campaign_that_pays_nothing_rests_for_twice_as_many_rounds_each_time(unpaid, skipped):
    rest = rest_of(own(7, *[0] * unpaid, ended=1000.0), 300)
    assert rest == (Rest(1 + unpaid + skipped, 1000.0 + 300 * skipped) if skipped else None)


def test_a_rest_ends_with_its_rounds_or_with_their_time():
    rest = rest_of(own(0, 0, 0, ended=1000.0), 300)
    assert rest.holds(3, 1599.0)
    assert not rest.holds(3, 1600.0)
    assert rest.holds(4, 1001.0)
    assert not rest.holds(5, 1001.0)


def test_a_rest_of_very_many_rounds_is_still_a_number():
    assert rest_of(own(*[0] * 300), 300).until_round == 300 + (1 << 16)


@given(st.integers(2, 12), st.booleans())
def test_a_campaign_that_rests_is_worked_on_again_also_where_no_round_ends_since_every_mine_rests(unpaid, moves):
    rest = rest_of(own(*[0] * unpaid), 300)
    moments = range(0, 300 << unpaid, 300)
    assert not all(rest.holds(unpaid + (now // 300 if moves else 0), float(now)) for now in moments)


@dataclass(frozen=True)
class Known:
    """As much of a campaign as its turn takes."""

    id: int


def test_the_campaign_served_longest_ago_comes_first_and_a_new_one_before_all():
    order = in_turn([Known(1), Known(2), Known(3), Known(4)], {1: 9, 2: 3, 4: 5})
    assert [one.id for one in order] == [3, 2, 4, 1]


@given(st.data(), st.integers(1, 8), st.integers(1, 4))
def test_nobody_starves_however_few_are_served_at_a_time(data, campaigns, capacity):
    """Each step serves the first few that want it; whoever always wants it waits no longer than all others take."""
    served, turn, waited = {}, 0, 0
    always = data.draw(st.integers(0, campaigns - 1))
    for _ in range(40):
        wanting = [Known(number) for number in range(campaigns) if number == always or data.draw(st.booleans())]
        chosen = in_turn(wanting, served)[:capacity]
        for one in chosen:
            turn += 1
            served[one.id] = turn
        waited = 0 if Known(always) in chosen else waited + 1
        assert waited < -(-campaigns // capacity)
