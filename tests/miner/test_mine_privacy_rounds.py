"""A network's round and its cost: charged before the first step, once, and told again as it was told first."""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from private_table import Table, records_of, spec_of

from mine.errors import BudgetError, DataError, LedgerError, PolicyError
from mine.ledger import Ledger
from mine.privacy import PrivacyRule, private_statistics
from mine.privacy.accountant import epsilon_of, rho_of
from mine.privacy.budgets import budget_table, budgets
from mine.privacy.charging import Unknown
from mine.privacy.rounds import Place, Round, check_noise, noise_of, private_round, rounds_left
from mine.privacy.steps import Noise
from sonar.network import NetworkTraining
from sonar.protocol.spec import Encoding, NetworkTerms, Payout, Spec
from sonar.units import PPM, CampaignId, digest_of

RULE = PrivacyRule(mode="on", epsilon=1.0, round_epsilon=0.5, budget=1.2, max_noise=5.0)
CAMPAIGN, OTHER = CampaignId(b"\1" * 32), CampaignId(b"\2" * 32)


@dataclass
class Clinic(Table):
    """The records of a mine whose owner declared 500 of them."""

    declared: int = 500
    added: str = "as it was"


def clinic(seed: int = 1, count: int = 500, **more: Any) -> Clinic:
    return Clinic(*records_of(seed, count), network(), **more)


def network(batch_size: int = 64, epochs: int = 4, **more: Any) -> Spec:
    graph = {"takes": (4,), "layers": ({"op": "linear", "of": (0,), "units": 2},)}
    values = {
        "name": "any", "mode": "network", "features": spec_of().features, "classes": ("0", "1"),
        "payout": Payout(target=PPM), "encoding": Encoding.for_network(),
        "network": NetworkTerms.model_validate({
            "graph": graph, "training": NetworkTraining(batch_size=batch_size, epochs=epochs)
        }),
    }  # fmt: skip
    return Spec(**(values | more))


def at(number: int = 0, campaign: CampaignId = CAMPAIGN) -> Place:
    return Place(campaign, number, number)


@dataclass
class Trainer:
    """What makes gradients, and how often it did."""

    noises: list[Noise] = field(default_factory=list)
    asked: int = 0
    during: Callable[[], None] = lambda: None

    def __call__(self) -> Callable[[Noise], bytes]:
        self.asked += 1

        def train(noise: Noise) -> bytes:
            self.noises.append(noise)
            self.during()
            return secrets.token_bytes(100)

        return train


def played(ledger: Ledger, trainer: Trainer, place: Place | None = None, **more: Any) -> Round:
    data = more.pop("data", None) or clinic()
    spec, rule = more.pop("spec", None) or network(), more.pop("rule", RULE)
    return private_round(ledger, data, spec, rule, place or at(), trainer, **more)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "mine.db") as opened:
        yield opened


def one() -> Fraction:
    return noise_of(network(), 500, RULE).rho(4)


def test_each_round_costs_anew_and_the_budget_ends_them(ledger: Ledger) -> None:
    trainer = Trainer()
    first = played(ledger, trainer, at(0))
    assert first.charged == one() <= rho_of(0.5, RULE.delta)
    assert first.epsilon == pytest.approx(0.5, abs=1e-6)
    left = rounds_left(RULE, first.charged)
    for number in range(1, 1 + left):
        later = played(ledger, trainer, at(number))
        assert later.gradient != first.gradient
    assert ledger.spent(1) == (1 + left) * one()
    assert later.epsilon == pytest.approx(epsilon_of((1 + left) * one(), RULE.delta))
    with pytest.raises(BudgetError) as refused:
        played(ledger, trainer, at(9))
    assert "each round of a network costs epsilon 0.5 anew, and this one would bring what was told" in str(
        refused.value
    )
    assert "above the budget of 1.2 in [privacy] of the policy" in str(refused.value)
    assert len(trainer.noises) == trainer.asked == 1 + left, "past the budget nothing is asked for, or trained"
    assert ledger.spent(1) == (1 + left) * one()


def test_a_round_is_noised_for_what_it_costs_by_what_is_public_alone(ledger: Ledger) -> None:
    trainer = Trainer()
    for count in (400, 500, 3):
        played(ledger, trainer, at(count), data=clinic(count=count, origin=f"/{count}", dataset=f"set {count}"))
    assert len(set(trainer.noises)) == 1
    (noise,) = set(trainer.noises)
    assert (noise.clip, noise.records) == (RULE.gradient_clip, 500)
    assert noise.rho(4) == one()


def test_the_charge_is_on_the_disk_before_the_first_step(ledger: Ledger) -> None:
    trainer = Trainer()

    def look() -> None:
        with Ledger(ledger._database.path) as other:
            assert other.spent(1) == one()
            (entry,) = other.audit_entries()
            assert entry.kind == "released"

    trainer.during = look
    played(ledger, trainer)
    assert len(trainer.noises) == 1


def test_a_gradient_that_was_made_is_sent_again_as_it_was(tmp_path: Path) -> None:
    trainer = Trainer()
    with Ledger(tmp_path / "mine.db") as ledger:
        first = played(ledger, trainer)
    with Ledger(tmp_path / "mine.db") as ledger:
        grown = clinic(count=505)
        again = played(ledger, trainer, data=grown)
        assert again.gradient == first.gradient
        assert again.charged == 0
        assert again.epsilon == first.epsilon
        assert len(trainer.noises) == 1
        assert ledger.spent(1) == one()


TESTS = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]
SCRIPT = """
import os, signal, sys
sys.path[:0] = {tests!r}
import test_mine_privacy_rounds as t
from pathlib import Path
from mine.ledger import Ledger

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

with Ledger(Path({path!r})) as ledger:
    trainer = t.Trainer()
    if {instant!r} == "asking":
        trainer.__class__.__call__ = die
    elif {instant!r} == "charging":
        ledger.record = die
    elif {instant!r} == "training":
        trainer.during = die
    elif {instant!r} == "made":
        ledger.keep_gradient = die
    t.played(ledger, trainer)
    die()
"""


@pytest.mark.parametrize(
    ("instant", "charged", "trained_again"),
    [("asking", 0, True), ("charging", 0, True), ("training", 1, True), ("made", 1, True), ("kept", 1, False)],
)
def test_a_kill_at_any_instant_of_a_round_neither_forgets_nor_doubles_its_charge(
    tmp_path: Path, instant: str, charged: int, trained_again: bool
) -> None:
    path = tmp_path / "mine.db"
    script = SCRIPT.format(tests=TESTS, path=str(path), instant=instant)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    died = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60, env=environment)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    with Ledger(path) as ledger:
        assert len(ledger.charges(1)) == charged
        trainer = Trainer()
        found = played(ledger, trainer)
        assert bool(trainer.noises) is trained_again
        assert (found.charged == 0) is bool(charged)
        assert ledger.spent(1) == one()
        assert [entry.kind for entry in ledger.audit_entries()] == ["released"]
        assert played(ledger, trainer).gradient == found.gradient
        ledger.verify_audit()


def test_a_round_that_is_paid_for_pays_for_no_other_noise_records_or_version(ledger: Ledger) -> None:
    trainer = Trainer()
    rich = RULE.model_copy(update={"budget": 10.0})
    played(ledger, trainer, rule=rich)
    for more in (
        {"rule": rich.model_copy(update={"round_epsilon": 1.0})},
        {"rule": rich.model_copy(update={"gradient_clip": 2.0})},
        {"place": Place(CAMPAIGN, 0, 1)}, {"place": at(0, OTHER)}, {"spec": network(epochs=5), "rule": rich},
        {"data": clinic(dataset="another")}, {"data": clinic(declared=510)},
        {"data": clinic(added="other records under its name")},
    ):  # fmt: skip
        found = played(ledger, trainer, **{"rule": rich, **more})
        assert found.charged > 0, more
    assert len(trainer.noises) == 9


def test_data_that_change_while_they_are_trained_on_give_no_gradient_and_the_charge_serves_the_next_try(
    ledger: Ledger,
) -> None:
    trainer, data = Trainer(), clinic()

    def change() -> None:
        data.values = data.values + 1

    trainer.during = change
    with pytest.raises(DataError, match="'clinic' changed while it was read"):
        played(ledger, trainer, data=data)
    assert ledger.spent(1) == one()
    trainer.during = lambda: None
    assert played(ledger, trainer, data=data).charged == 0
    assert ledger.spent(1) == one()


def test_where_weights_cannot_be_had_nothing_is_charged(ledger: Ledger) -> None:
    def away() -> Callable[[Noise], bytes]:
        raise PolicyError("its Capsule gives this mine no weights")

    with pytest.raises(PolicyError):
        played(ledger, away)  # type: ignore[arg-type]
    assert [ledger.charges(pool) for pool in ledger.pools()] == [[]]


def test_a_rehearsal_charges_nothing_and_is_not_what_is_sent(ledger: Ledger) -> None:
    trainer = Trainer()
    tried = played(ledger, trainer, rehearse=True)
    assert tried.epsilon == pytest.approx(0.5, abs=1e-6)
    assert ledger.charges(1) == []
    real = played(ledger, trainer)
    assert real.gradient != tried.gradient
    assert ledger.spent(1) == one()


def test_rounds_and_statistics_share_a_budget(ledger: Ledger) -> None:
    played(ledger, Trainer())
    linear = clinic()
    linear.spec = spec_of()
    released = private_statistics(ledger, linear, linear.spec, RULE)
    assert released.rho == ledger.spent(1) == one() + ledger.charges(1)[1].rho
    assert released.epsilon > 1.1
    with pytest.raises(BudgetError):
        played(ledger, Trainer(), at(1))
    (found,) = budgets(ledger, RULE)
    assert (found.statistics, found.rounds, found.unknown, found.rounds_left) == (1, 1, 0, 0)
    shown = budget_table([found], [], RULE)
    assert "epsilon 0.5 a round of a network" in shown
    assert "STATISTICS  ROUNDS  UNKNOWN GRADIENTS" in shown


def test_the_same_records_under_another_name_have_spent_their_rounds(ledger: Ledger) -> None:
    for number in range(rounds_left(RULE, Fraction(0))):
        played(ledger, Trainer(), at(number))
    with pytest.raises(BudgetError, match="which 'clinic' and 'renamed' share"):
        played(ledger, Trainer(), at(9), data=clinic(dataset="renamed", origin="/elsewhere"))


def test_each_round_that_another_copy_of_the_ledger_played_is_charged_once(ledger: Ledger) -> None:
    rich = RULE.model_copy(update={"budget": 10.0})
    played(ledger, Trainer(), at(0), rule=rich)

    def unknown() -> list[Unknown]:
        return [Unknown(CAMPAIGN, number, CAMPAIGN, by_round=True) for number in (0, 1, 2)]

    for _ in range(2):
        found = played(ledger, Trainer(), at(3), rule=rich, unknown=unknown)
    assert [(charge.round, charge.own) for charge in ledger.charges(1)] == [
        (0, True),
        (1, False),
        (2, False),
        (3, True),
    ]
    assert ledger.spent(1) == pytest.approx(4 * rho_of(0.5, RULE.delta), rel=1e-6)
    said = played(ledger, Trainer(), at(4), rule=rich, unknown=lambda: [Unknown(OTHER, 7, None, by_round=True)]).said
    assert "in round 7 of campaign 0x0202" in said[0]
    assert "a statistic of epsilon 1 is charged to 'clinic'" in said[0], "which of the two nobody knows: the dearer one"
    assert found.epsilon > 0.5


def on_chain(ledger: Ledger, gradient: bytes) -> Callable[[], list[Unknown]]:
    """That this account has a gradient in round 0 of which the ledger knows only what the chain says."""
    with ledger._database.write():
        ledger._database.execute(
            "INSERT INTO submissions (campaign, round, state, version, dataset, cid, artifact, gradient, bond) "
            "VALUES (?, 0, 'sent', 0, '', '', ?, ?, '0')", CAMPAIGN, bytes(32), digest_of(gradient),
        )  # fmt: skip
    return lambda: [Unknown(CAMPAIGN, 0, CAMPAIGN, by_round=True)]


def test_what_was_paid_for_before_another_copy_of_the_ledger_posted_makes_no_second_gradient(ledger: Ledger) -> None:
    rich = RULE.model_copy(update={"budget": 10.0})

    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        played(ledger, Trainer(during=stop), rule=rich)
    # The whole home is copied here; the copy trains and posts, and this one is put back.
    unknown = on_chain(ledger, b"what the copy made")
    assert played(ledger, Trainer(), rule=rich, unknown=unknown).charged == one()
    assert [(charge.round, charge.own) for charge in ledger.charges(1)] == [(0, False), (0, True)]
    assert played(ledger, Trainer(), at(1), rule=rich, unknown=unknown).charged == one()
    assert ledger.spent(1) == 3 * one(), "and it is charged once"


def test_a_gradient_on_chain_is_charged_beside_another_one_that_was_made_for_its_round(ledger: Ledger) -> None:
    rich = RULE.model_copy(update={"budget": 10.0})
    played(ledger, Trainer(), rule=rich)
    unknown = on_chain(ledger, b"another one")
    for _ in range(2):
        played(ledger, Trainer(), at(1), rule=rich, unknown=unknown)
    assert [(charge.round, charge.own) for charge in ledger.charges(1)] == [(0, True), (0, False), (1, True)]


def test_a_gradient_on_chain_that_the_ledger_has_made_is_not_charged_again(ledger: Ledger) -> None:
    rich = RULE.model_copy(update={"budget": 10.0})
    unknown = on_chain(ledger, played(ledger, Trainer(), rule=rich).gradient)
    played(ledger, Trainer(), at(1), rule=rich, unknown=unknown)
    assert ledger.spent(1) == 2 * one()


def test_a_reservation_in_a_ledger_that_was_put_back_is_not_used_twice(tmp_path: Path) -> None:
    path = tmp_path / "mine.db"
    rich = RULE.model_copy(update={"budget": 10.0})

    class StoppedError(Exception):
        pass

    def stop() -> None:
        raise StoppedError

    with Ledger(path) as ledger, pytest.raises(StoppedError):
        played(ledger, Trainer(during=stop), rule=rich)
    older = path.read_bytes()
    with Ledger(path) as ledger:
        first = played(ledger, Trainer(), rule=rich)
        ledger.record("policy changed", {})
    for end in ("-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    path.write_bytes(older)
    with Ledger(path) as ledger:
        again = played(ledger, Trainer(), rule=rich)
        assert again.gradient != first.gradient
        assert again.charged == one(), "two gradients of one round may have been read"
        assert ledger.spent(1) == 2 * one()
    path.write_bytes(older)
    with Ledger(path) as ledger:
        ledger.check_audit()
        assert ledger.spent(1) == 2 * one(), "what the log tells of is charged again"


def test_a_round_whose_reservation_was_closed_meanwhile_is_not_sent(ledger: Ledger) -> None:
    def close() -> None:
        with ledger._database.write():
            ledger._learn([])

    with pytest.raises(LedgerError, match="is not reserved in the ledger any more"):
        played(ledger, Trainer(during=close))


def test_of_two_processes_that_train_one_round_one_gradient_counts(tmp_path: Path) -> None:
    path = tmp_path / "mine.db"
    with Ledger(path) as one_ledger, Ledger(path) as other_ledger:
        between: list[bytes] = []
        trainer = Trainer(during=lambda: between.append(played(other_ledger, Trainer()).gradient))
        assert played(one_ledger, trainer).gradient == between[0]
        assert one_ledger.spent(1) == one()


def test_noise_that_would_drown_the_records_is_refused_before_anything_is_spent(ledger: Ledger) -> None:
    careful = RULE.model_copy(update={"max_noise": 0.1})
    with pytest.raises(PolicyError, match=r"with 500 records in 8 batches and 10 parameters its noise is 0\.16 times"):
        played(ledger, Trainer(), rule=careful)
    assert ledger.pools() == []
    assert "its noise is 0.055 times" in check_noise(network(batch_size=1 << 16), 500, careful)


def test_the_rule_says_what_a_round_may_cost() -> None:
    assert PrivacyRule(epsilon=0.7).epsilon_of_round == 0.7
    assert PrivacyRule(epsilon=0.7, round_epsilon=0.2).epsilon_of_round == 0.2
    with pytest.raises(ValueError, match=r"a budget of 3 does not buy one round of epsilon 3\.5"):
        PrivacyRule(round_epsilon=3.5)
