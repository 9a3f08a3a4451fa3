"""A campaign's life as its owner sees it: history, watching, result, money."""

import io
import re
import threading
from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest
import torch
from eth_account import Account
from rich.console import Console

from capsule.errors import CapsuleReplyError
from pysonar.errors import NotOverError, NotOwnerError
from pysonar.history import RoundState
from pysonar.results import TrainedClassifier
from pysonar.watch import watch
from sonar.chain.errors import ContractRevertError, RpcUnavailableError
from sonar.chain.records import Status, Verdict
from sonar.errors import SonarError
from sonar.protocol.errors import ProtocolError, SealedBoxError
from sonar.protocol.sealing import Purpose
from sonar.units import ether


def play_one_round(stage, campaign, score, shares):
    """Mines post, the Capsule settles; returns the mines' addresses."""
    mines = [stage.new_account() for _ in shares]
    for mine in mines:
        stage.submit(campaign, mine)
    stage.settle(campaign, score, shares)
    return [mine.address for mine in mines]


def test_history_tells_rounds_gradients_and_payouts_to_the_wei(stage):
    campaign = stage.campaign()
    assert campaign.rounds() == campaign.gradients() == campaign.earnings() == ()
    first = play_one_round(stage, campaign, 700_000, [600_000, 400_000, 0])
    stayed = play_one_round(stage, campaign, None, [0, 0, 0])
    mine = stage.new_account()
    stage.submit(campaign, mine)

    one, two, three = campaign.rounds()
    assert [held.state for held in (one, two, three)] == [RoundState.ADVANCED, RoundState.STAYED, RoundState.PENDING]
    assert [held.score for held in (one, two, three)] == [700_000, 700_000, None]
    record = campaign.record
    assert one.payout == record.paid == ether(1) * (700_000 - 333_333) // 900_000
    gradients = campaign.gradients()
    assert [gradient.index for gradient in gradients] == list(range(7))
    assert [gradient.mine for gradient in gradients] == [*first, *stayed, mine.address]
    assert [gradient.verdict for gradient in gradients[:3]] == [Verdict.KEPT, Verdict.KEPT, Verdict.LEFT_OUT]
    assert gradients[-1].verdict is None
    assert sum(gradient.payout for gradient in gradients) == record.paid
    assert gradients[0].share == 600_000
    assert gradients[2].bond_returned == record.terms.bond * 9 // 10
    payouts = campaign.earnings()
    assert [payout.mine for payout in payouts[:2]] == first[:2]
    assert sum(payout.amount for payout in payouts) == record.paid
    assert (payouts[0].gradients, payouts[0].kept) == (1, 1)


def test_reading_again_adds_only_what_is_new(stage):
    campaign = stage.campaign()
    play_one_round(stage, campaign, 500_000, [500_000, 500_000, 0])
    assert len(campaign.gradients()) == 3
    assert len(campaign.gradients()) == 3
    play_one_round(stage, campaign, 600_000, [500_000, 500_000, 0])
    assert len(campaign.gradients()) == 6
    assert stage.session().campaign(campaign.id).gradients() == campaign.gradients()


def finished(stage, **changes):
    """A campaign that reached its target, with random weights to deliver."""
    campaign = stage.campaign(**changes)
    play_one_round(stage, campaign, 900_000, [500_000, 500_000, 0])
    stage.capsule.delivered = np.random.default_rng(5).integers(-(1 << 20), 1 << 20, size=(5, 3))
    return campaign


def test_result_is_a_torch_module_with_the_delivered_weights(stage):
    campaign = finished(stage)
    model = campaign.result()
    assert isinstance(model, torch.nn.Module)
    assert isinstance(model, TrainedClassifier)
    np.testing.assert_array_equal(model.weights * 2**24, stage.capsule.delivered)
    assert 0 <= model.score(*stage.validation) <= 1


def test_result_works_in_a_new_session_that_knows_only_the_id(stage):
    campaign = finished(stage)
    np.testing.assert_array_equal(stage.session().campaign(campaign.id).result().weights, campaign.result().weights)


@pytest.mark.parametrize("lie", ["busy", "early"])
def test_result_waits_for_a_capsule_that_sees_the_end_a_moment_later(stage, lie):
    campaign = finished(stage)
    stage.capsule.lies = {lie: 1}
    assert isinstance(campaign.result(), TrainedClassifier)
    stage.capsule.lies = {lie: 100}
    with pytest.raises(SonarError, match=r"try again|not over") as caught:
        campaign.result(timeout=0)
    assert caught.value.exit_code == 8
    assert stage.capsule.lies[lie] == 99


def test_a_refused_delivery_is_not_asked_for_again(stage):
    campaign = finished(stage)
    stage.capsule.lies = {"refuse": "not for you"}
    before = len(stage.capsule.requests)
    with pytest.raises(SonarError, match="not for you"):
        campaign.result()
    assert len(stage.capsule.requests) == before + 1


@pytest.mark.parametrize(
    "lie",
    [
        {"purpose": Purpose.GRADIENT},
        {"chain_id": 5},
        {"account": "0x" + "11" * 20},
        {"subject": "ab" * 32},
        {"round": 0},
    ],
)
def test_a_delivery_that_was_made_for_something_else_is_refused(stage, lie):
    campaign = finished(stage)
    stage.capsule.lies = {"delivery": lie}
    with pytest.raises(SealedBoxError, match="a copied box is worth nothing"):
        campaign.result()


def test_a_model_from_somebody_on_the_way_is_refused(stage):
    campaign = finished(stage)
    stage.capsule.lies = {"answers_as": {"/v1/deliveries": Account.create()}}
    with pytest.raises(CapsuleReplyError, match="is not signed by"):
        campaign.result()


def test_a_delivery_of_another_shape_is_refused(stage):
    campaign = finished(stage)
    stage.capsule.delivered = np.zeros((2, 2), dtype=np.int64)
    with pytest.raises(ProtocolError, match=r"shape \(2, 2\)"):
        campaign.result()


def test_result_of_a_running_campaign_says_when_to_come_back(stage):
    campaign = stage.campaign()
    with pytest.raises(NotOverError, match=r"its deadline is 20.*Z.* holds 0 gradients; campaign\.watch\(\) waits"):
        campaign.result()
    assert "/v1/deliveries" not in stage.capsule.requests


def test_result_and_close_are_the_owners(stage):
    campaign = finished(stage)
    stranger = stage.session(stage.new_account()).campaign(campaign.id)
    for call in (stranger.result, stranger.close):
        with pytest.raises(NotOwnerError, match=stage.owner.address):
            call()


def test_close_and_withdraw_bring_back_every_wei_that_was_not_paid(stage):
    campaign = finished(stage)
    paid, terms = campaign.record.paid, campaign.record.terms
    refund = campaign.close()
    assert refund + paid == ether(1)
    assert campaign.status is Status.CLOSED
    slashed = terms.bond // 10
    assert campaign.withdraw() == refund + slashed
    assert campaign.withdraw() == 0
    with pytest.raises(ContractRevertError, match="is closed"):
        campaign.close()


def test_close_before_anything_was_paid_cancels(stage):
    campaign = stage.campaign()
    assert campaign.close() == ether(1)
    assert campaign.is_over()
    assert campaign.watch(poll=0.01).status is Status.CLOSED


def test_close_with_a_round_pending_says_so(stage):
    campaign = stage.campaign()
    stage.submit(campaign, stage.new_account())
    with pytest.raises(ContractRevertError, match="holds 1 gradients"):
        campaign.close()


def test_a_campaign_past_its_deadline_is_over_and_closes(stage, advance_time):
    campaign = stage.campaign(deadline=1000)
    play_one_round(stage, campaign, 500_000, [500_000, 500_000, 0])
    assert not campaign.is_over()
    advance_time(1001)
    assert campaign.is_over()
    stage.capsule.delivered = np.zeros((5, 3), dtype=np.int64)
    campaign.watch(poll=0.01)
    assert isinstance(campaign.result(), TrainedClassifier)
    assert campaign.close() + campaign.record.paid == ether(1)


def test_an_unsettled_round_is_named_by_watch_and_given_up_by_expire(stage, advance_time):
    campaign = stage.campaign(deadline=100, rounds={"round_size": 3, "round_seconds": 50, "settlement_seconds": 600})
    for _ in range(2):
        stage.submit(campaign, stage.new_account())
    with pytest.raises(ContractRevertError, match="expire it after that"):
        campaign.expire()
    advance_time(60 + 601)
    with pytest.raises(NotOverError, match=r"campaign\.expire\(\)"):
        campaign.watch(poll=0.01, timeout=5)
    campaign.expire()
    assert [held.state for held in campaign.rounds()] == [RoundState.EXPIRED]
    assert campaign.rounds()[0].score == 333_333
    campaign.watch(poll=0.01)
    assert campaign.close() == ether(1)


def follow(campaign, *, terminal, timeout=None):
    """What watch writes, on a terminal or into a pipe."""
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=200)
    watch(campaign, poll=0.01, timeout=timeout, console=console)
    return text.getvalue()


def test_watch_writes_one_plain_line_for_each_event_into_a_pipe(stage):
    campaign = stage.campaign()
    mines = play_one_round(stage, campaign, None, [0, 0, 0])
    play_one_round(stage, campaign, 900_000, [500_000, 500_000, 0])
    lines = follow(campaign, terminal=False).splitlines()
    assert lines[0] == f"campaign 0x{campaign.id.hex()}: start 33.33%, target 90.00%, bounty 1 ether"
    assert lines[1:8] == [
        *(f"round 0: gradient {position} by {mine}" for position, mine in enumerate(mines)),
        "round 0: no improvement, score stays 33.33%",
        *(f"round 0: gradient {at}: left out, 0.0001 ether of the bond lost" for at in range(3)),
    ]
    assert lines[-5:-2] == [
        "round 1: score 90.00%, paid 0.62963 ether to 2 mines",
        *(f"round 1: gradient {at}: kept, 0.314815 ether" for at in range(2)),
    ]
    assert lines[-1] == "finished: score 90.00%, paid 0.62963 ether of 1 ether"
    assert "\x1b" not in "".join(lines)


def test_watch_draws_a_live_table_on_a_terminal(stage):
    campaign = stage.campaign()
    play_one_round(stage, campaign, 900_000, [500_000, 500_000, 0])
    drawn = follow(campaign, terminal=True)
    assert "\x1b" in drawn
    for part in (campaign.id.hex()[:16], "33.33%", "90.00%", "score 90.00%, paid 0.62963", "finished"):
        assert part in drawn


def test_watch_shows_where_a_running_round_stands(stage):
    campaign = stage.campaign()
    stage.submit(campaign, stage.new_account())
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=200)
    with pytest.raises(NotOverError, match=r"not over after 0\.05 s"):
        watch(campaign, poll=0.01, timeout=0.05, console=console)
    assert re.search(r"takes gradients for 0:(10:00|09:)", text.getvalue())
    assert "to the deadline" in text.getvalue()
    for _ in range(2):
        stage.submit(campaign, stage.new_account())
    with pytest.raises(NotOverError):
        watch(campaign, poll=0.01, timeout=0.05, console=console)
    assert "waits for the Capsule" in text.getvalue()


NOISE = "left out: its value is not above the noise of the validation set"


def told_round(stage, campaign, reasons=(NOISE, "copy: of another", NOISE)):
    """A round in which three are left out, with what the Capsule says of it."""
    for _ in range(3):
        stage.submit(campaign, stage.new_account())
    stage.settle(campaign, None, [0, 0, 0], reasons)


def test_gradients_have_the_capsules_reasons(stage):
    campaign = stage.campaign()
    told_round(stage, campaign)
    stage.submit(campaign, stage.new_account())
    wanted = [NOISE, "copy: of another", NOISE, ""]
    assert [gradient.reason for gradient in campaign.gradients()] == wanted
    assert [gradient.reason for held in campaign.rounds() for gradient in held.gradients] == wanted
    asked = [path for path in stage.capsule.requests if path.startswith("/v1/campaigns/")]
    assert len(asked) == 1, "what was told is kept, and of a round that runs nothing is asked"


def test_a_capsule_that_is_down_leaves_verdicts_without_reasons(stage):
    campaign = stage.campaign()
    told_round(stage, campaign)
    stage.capsule.lies = {"busy": 100}
    assert [(gradient.verdict, gradient.reason) for gradient in campaign.gradients()] == [(Verdict.LEFT_OUT, "")] * 3
    assert stage.capsule.lies["busy"] == 99, "it is not asked for every gradient"


@pytest.mark.parametrize("terminal", [False, True])
def test_watch_tells_why_a_round_did_not_advance_and_what_it_cost(stage, terminal):
    campaign = stage.campaign()
    told_round(stage, campaign)
    campaign.close()
    told = follow(campaign, terminal=terminal)
    assert f"gradient 0: {NOISE}, 0.0001 ether of the bond lost" in told
    assert "gradient 1: left out (copy: of another), 0.0001 ether" in told


def test_watch_says_when_a_round_closes(stage):
    campaign = stage.campaign()
    text = io.StringIO()
    with pytest.raises(NotOverError):
        watch(campaign, poll=0.01, timeout=0.0, console=Console(file=text, width=200))
    assert "round 0 closes 600 s after its first gradient, or at 3 gradients\n" in text.getvalue()
    stage.submit(campaign, stage.new_account())
    with pytest.raises(NotOverError):
        watch(campaign, poll=0.01, timeout=0.0, console=Console(file=text, width=200))
    at = datetime.fromtimestamp(campaign.present_round.closes_at)
    assert re.search(rf"round 0 closes at (\S+ )?{at:%H:%M} or at 3 gradients; 1 so far\n", text.getvalue())


def test_a_campaigns_id_prints_as_commands_take_it_and_is_its_bytes(stage):
    campaign = stage.campaign()
    assert str(campaign.id) == repr(campaign.id) == f"{campaign.id}" == "0x" + campaign.id.hex()
    assert len(campaign.id) == 32
    assert stage.session().campaign(str(campaign.id)) == stage.session().campaign(bytes(campaign.id)) == campaign


def test_watch_follows_a_campaign_that_goes_on_meanwhile(stage):
    campaign = stage.campaign()
    twin = stage.session().campaign(campaign.id)
    thread = threading.Thread(target=play_one_round, args=(stage, twin, 950_000, [500_000, 500_000, 0]))
    thread.start()
    assert "finished: score 95.00%" in follow(campaign, terminal=False, timeout=60)
    thread.join()


def test_watch_outlives_a_chain_that_goes_away_for_a_moment(stage):
    campaign = finished(stage)
    real, failures = campaign._sonar.client.campaign, [1, 2]

    def flaky(key):
        if failures:
            failures.pop()
            raise RpcUnavailableError("nothing answers")
        return real(key)

    campaign._sonar.client.campaign = flaky
    for terminal in (False, True):
        failures[:] = [1, 2]
        told = follow(campaign, terminal=terminal)
        assert "nothing answers; trying again" in told
        assert "finished" in told


def test_watch_leaves_the_terminal_clean_when_interrupted(stage):
    campaign = stage.campaign()
    text = io.StringIO()

    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch(campaign, poll=1, timeout=None, console=Console(file=text, force_terminal=True), sleep=interrupt)
    assert text.getvalue().endswith(("\x1b[?25h", "\n"))
    assert campaign.status is Status.RUNNING


def test_watch_talks_on_stderr_only(stage, capfd):
    campaign = finished(stage)
    assert campaign.watch(poll=0.01) is campaign
    out, err = capfd.readouterr()
    assert out == ""
    assert "finished" in err


def test_campaigns_are_equal_by_id_and_contract(stage):
    campaign = stage.campaign()
    twin = stage.session().campaign(campaign.id)
    assert campaign == twin
    assert len({campaign, twin}) == 1
    assert campaign != stage.campaign()
    assert campaign != "a campaign"


def test_a_spec_that_the_store_changed_is_refused(stage, tmp_path):
    campaign = stage.campaign()
    fresh = stage.session().campaign(campaign.id)
    cid = fresh._creation().spec_cid
    [path] = [file for file in (tmp_path / "store").rglob("*") if file.name == cid]
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b"Linear", b"Linger"))
    with pytest.raises(Exception, match="digest"):
        _ = fresh.spec


def test_a_start_block_after_the_campaign_is_named_as_the_mistake(stage):
    campaign = stage.campaign()
    late = stage.session()
    late.network = replace_start(late.network, 10**6)
    with pytest.raises(Exception, match="check start_block"):
        _ = late.campaign(campaign.id).spec


def replace_start(network, block):
    """The network, as if its contract were deployed later."""
    return network.model_copy(update={"start_block": block})


def test_a_campaigns_own_spec_is_checked_against_the_chain_too(stage):
    campaign = stage.campaign()
    campaign._created = None
    campaign._spec = campaign._spec.model_copy(update={"payout": campaign._spec.payout.model_copy(update={"bond": 1})})
    with pytest.raises(Exception, match="promises bond"):
        _ = campaign.spec
    assert replace(campaign._creation().terms, bond=1).bond == 1
