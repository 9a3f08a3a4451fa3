"""A round to which too few mines came: told in its own words, said before a bond is put at stake, and not repeated."""

import json

import pytest
from click.testing import CliRunner

from mine.cli import main
from mine.earnings import earnings, earnings_table
from mine.ledger import Ledger
from mine.overview import sentence
from mine.status import status_report, status_table
from sonar.chain.events import GradientSubmitted
from sonar.chain.records import Verdict
from sonar.units import Address, CampaignId, Cid, Digest

FEW = "left out: too few mines took part, the round had 1 gradient of the 2 it needs"
ROUNDS = {"round_size": 3, "round_seconds": 600}


@pytest.fixture
def clock(opened_mine):
    """The time by which the opened mine's rules go."""
    now = [1_700_000_000.0]
    opened_mine[0].clock = lambda: now[0]
    return now


def alone(stage, ledger, mine, advance_time):
    """A round that closes with this mine's gradient alone, and is judged; the campaign."""
    campaign = stage.campaign(stage.spec(rounds=ROUNDS))
    daemon = mine.daemon(ledger, stage.store)
    daemon.step()
    advance_time(601)
    stage.settle(campaign, [Verdict.LEFT_OUT])
    daemon.step()
    return campaign


def test_what_is_at_risk_alone_is_said_before_it_is_posted(stage, opened_mine):
    mine, ledger = opened_mine
    stage.campaign(stage.spec(rounds=ROUNDS))
    mine.daemon(ledger, stage.store).step()
    assert mine.words().index("at risk") < mine.words().index("posted")
    (facts,) = [facts for what, facts in mine.told if what == "at risk"]
    assert sentence("at risk", facts).endswith(
        "round 0: holds 0 of the 2 gradients that it needs; if no other comes, 0.0001 ether of the bond is lost"
    )


def test_nothing_is_said_to_be_at_risk_where_enough_others_came(stage, opened_mine):
    mine, ledger = opened_mine
    campaign = stage.campaign(stage.spec(rounds=ROUNDS))
    stage.submit_other(campaign)
    mine.daemon(ledger, stage.store).step()
    assert "at risk" not in mine.words()
    assert len(stage.submitted(campaign)) == 2


def test_a_round_with_too_few_mines_is_told_as_such_in_status_and_earnings(stage, opened_mine, clock, advance_time):
    mine, ledger = opened_mine
    campaign = alone(stage, ledger, mine, advance_time)
    (facts,) = [facts for what, facts in mine.told if what == "judged"]
    assert facts["reason"] == ledger.submission(campaign, 0).note == FEW
    assert sentence("judged", facts).endswith(f"round 0: {FEW}, share 0.00%, 0 ether, 0.0001 ether of the bond lost")
    assert f"round 0: {FEW}, 0 ether, 0.0001 ether of the bond lost" in status_table(
        status_report(mine.home.path, mine.network_file)
    )
    (told,) = [json.loads(entry.facts) for entry in ledger.audit_entries() if entry.kind == "judged"]
    assert (told["round_gradients"], told["min_mines"]) == (1, 2)
    rows = earnings(ledger, ledger.last_deployment(f"{stage.client.chain_id}:"))
    assert (sum(row.gradients for row in rows), sum(row.too_few for row in rows)) == (1, 1)
    assert "too few mines" in earnings_table(rows, None).splitlines()[0]


def test_a_mine_that_was_alone_waits_for_another_and_goes_first_again_later(stage, opened_mine, clock, advance_time):
    mine, ledger = opened_mine
    campaign = alone(stage, ledger, mine, advance_time)
    assert len(stage.submitted(campaign)) == 1, "round 1 is left to others first"
    (waits,) = mine.reasons("waiting")
    assert waits.startswith("too few came to its last round with this mine's: another mine may go first, until ")
    clock[0] += 1201
    patient = mine.daemon(ledger, stage.store)
    patient.step()
    assert [event.round for event in stage.submitted(campaign)] == [0, 1]


def test_a_mine_that_was_alone_joins_as_soon_as_somebody_else_has_posted(stage, opened_mine, clock, advance_time):
    mine, ledger = opened_mine
    campaign = alone(stage, ledger, mine, advance_time)
    stage.submit_other(campaign)
    mine.daemon(ledger, stage.store).step()
    assert [event.mine == mine.account.address for event in stage.submitted(campaign)] == [True, False, True]


def test_an_owner_who_never_goes_first_puts_no_bond_at_stake_alone(stage, opened_mine):
    mine, ledger = opened_mine
    mine.agree(money={"post_first": "never"})
    campaign = stage.campaign(stage.spec(rounds=ROUNDS))
    daemon = mine.daemon(ledger, stage.store)
    daemon.step()
    assert stage.submitted(campaign) == []
    assert ledger.submission(campaign, 0) is None, "nothing was trained either"
    done = CliRunner().invoke(main, ["policy", "check", campaign.hex(), "--json", "--home", str(mine.home.path)],
                              env={"SONAR_NETWORK": str(mine.network.save(stage.folder / "n.json"))})  # fmt: skip
    (rule,) = [rule for rule in json.loads(done.stdout)["rules"] if not rule["ok"]]
    assert (rule["rule"], rule["passing"], rule["hint"]) == ("others", True, "another mine must go first")


def test_gradients_of_a_round_are_counted_once_however_often_their_events_come(tmp_path):
    campaign, mine = CampaignId(b"\x01" * 32), Address("0x" + "11" * 20)
    with Ledger(tmp_path / "mine.db") as ledger:
        assert (ledger.quorum(campaign), ledger.gradients_in(campaign, 0)) == (0, 0)

        def event(index):
            digest = Digest(bytes(32))
            return GradientSubmitted(
                1, index, b"t" * 32, campaign, 0, Address("0x" + "22" * 20), index, digest, digest, Cid("c")
            )

        ledger.apply("net", mine, [event(0), event(1), event(0)], before=None, after=2)
        ledger.apply("net", mine, [event(1)], before=2, after=3)
        assert ledger.gradients_in(campaign, 0) == 2
