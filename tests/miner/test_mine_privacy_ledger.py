"""A data set's privacy budget: charged once, never forgotten, never reset by other names, files or older homes."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from private_table import Table, records_of, spec_of

from mine.errors import BudgetError, DataError, LedgerError, PolicyError
from mine.ledger import Ledger
from mine.privacy import PrivacyRule, private_statistics
from mine.privacy.accountant import epsilon_of, rho_of
from mine.privacy.charging import Unknown
from mine.privacy.mechanism import NoisedSums
from mine.privacy.release import clip_of, statistic_key
from mine.privacy.sketch import Contents
from sonar.protocol.spec import Feature, Spec, Target, Training
from sonar.units import CampaignId

RULE = PrivacyRule(mode="on", epsilon=1.0, budget=1.5)


def table(seed: int = 1, count: int = 500, **more: object) -> Table:
    spec = more.pop("spec", None) or spec_of()
    return Table(*records_of(seed, count), spec, **more)  # type: ignore[arg-type]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "mine.db") as opened:
        yield opened


def spent(ledger: Ledger, name: str = "clinic") -> Fraction:
    pool = ledger.pool_of(name)
    assert pool is not None
    return ledger.spent(pool)


def one() -> Fraction:
    """What one statistic costs."""
    return rho_of(RULE.epsilon, RULE.delta)


def test_one_statistic_serves_every_campaign_on_the_same_features(ledger: Ledger) -> None:
    first = private_statistics(ledger, table(), spec_of(), RULE)
    assert first.fresh
    assert first.epsilon == pytest.approx(1.0, abs=1e-6)
    assert first.rho <= one()
    others = [
        spec_of(name="another", training=Training(epochs=7, l2=0.5, loss="taylor-logistic")),
        spec_of(features=tuple(Feature(name=f"other{i}", unit="cm") for i in range(4))),
    ]
    for spec in others:
        again = private_statistics(ledger, table(spec=spec), spec, RULE)
        assert not again.fresh
        assert (again.statistics.gram == first.statistics.gram).all()
        assert (again.statistics.moment == first.statistics.moment).all()
        assert again.rho == first.rho


def test_the_statistic_survives_a_restart(tmp_path: Path) -> None:
    with Ledger(tmp_path / "mine.db") as ledger:
        first = private_statistics(ledger, table(), spec_of(), RULE)
    with Ledger(tmp_path / "mine.db") as ledger:
        records = table()
        again = private_statistics(ledger, records, spec_of(), RULE)
        assert not again.fresh
        assert records.read == 0
        assert (again.statistics.gram == first.statistics.gram).all()


@pytest.mark.parametrize(
    "spec",
    [
        spec_of(features=tuple(Feature(name=f"f{i}", scale=2.0) for i in range(4))),
        spec_of(features=tuple(Feature(name=f"f{i}") for i in range(3))),
        spec_of(classes=("0", "1", "2")),
        spec_of(training=Training(class_weights=(1.0, 2.0))),
        spec_of(feature_map={"kind": "polynomial", "degree": 2}),
    ],
    ids=["scaling", "features", "classes", "weights", "map"],
)
def test_another_question_is_another_statistic_and_past_the_budget_it_is_refused(ledger: Ledger, spec: Spec) -> None:
    private_statistics(ledger, table(), spec_of(), RULE)
    second = private_statistics(ledger, table(spec=spec), spec, RULE)
    assert second.fresh
    assert spent(ledger) == 2 * second.rho / 2 == second.rho
    assert second.epsilon < RULE.budget
    third, sums = spec_of(features=(Feature(name="f0", offset=9.0),)), table()
    sums.spec = third
    with pytest.raises(
        BudgetError, match=r"from epsilon 1\.4\d* to 1\.8\d* at delta 1e-06, above the budget of 1\.5 in"
    ):
        private_statistics(ledger, sums, third, RULE)
    assert sums.read == 0
    assert spent(ledger) == second.rho
    # What was released before still serves.
    assert not private_statistics(ledger, table(), spec_of(), RULE).fresh


def test_only_ratios_of_class_weights_make_another_question() -> None:
    keys = {
        statistic_key(spec, ("a",), clip_of(spec, RULE))
        for spec in (spec_of(training=Training(class_weights=weights)) for weights in [(1.0, 2.0), (2.0, 4.0)])
    }
    assert len(keys) == 1


def test_another_clip_is_another_statistic(ledger: Ledger) -> None:
    private_statistics(ledger, table(), spec_of(), RULE)
    assert private_statistics(ledger, table(), spec_of(), RULE.model_copy(update={"clip": 0.5})).fresh


def test_mini_batches_are_refused_with_a_sentence(ledger: Ledger) -> None:
    spec = spec_of(training=Training(batch_size=64))
    with pytest.raises(PolicyError, match="batches of 64 records, each of which would need noise of its own"):
        private_statistics(ledger, table(spec=spec), spec, RULE)


def test_a_regression_is_noised_as_well(ledger: Ledger) -> None:
    spec = spec_of(
        classes=(),
        targets=(Target(name="y", offset=2.0),),
        metric="r2",
        features=(Feature(name="f0"), Feature(name="f1")),
    )
    values, _ = records_of(3, 20_000)
    values[:, 3] = values[:, 0] - 0.5 * values[:, 1] + 2
    made = private_statistics(ledger, Table(values, ["0"] * len(values), spec), spec, RULE)
    solved = np.linalg.solve(made.statistics.gram, made.statistics.moment)[:, 0]
    assert solved == pytest.approx([1.0, -0.5, 0.0], abs=0.1)


def test_data_that_change_while_they_are_read_are_not_released(ledger: Ledger) -> None:
    records = table()

    def change() -> None:
        records.values = records.values + 1

    records.during = change
    with pytest.raises(DataError, match="'clinic' changed while it was read"):
        private_statistics(ledger, records, spec_of(), RULE)
    assert spent(ledger) == 0


def test_the_true_number_of_records_decides_nothing(ledger: Ledger) -> None:
    for least in (40, 41, 5000):
        spec = spec_of(min_records=least)
        private_statistics(ledger, table(count=40, spec=spec), spec, RULE)
    assert len(ledger.charges(1)) == 1


# ---- the same data again

values, labels = records_of()
order = np.random.default_rng(9).permutation(len(values))
SAME: dict[str, tuple[np.ndarray, list[str]]] = {
    "as they are": (values, labels),
    "in another order": (values[order], [labels[i] for i in order]),
    "columns in another order": (values[:, ::-1], labels),
    "stored in single precision": (values.astype(np.float32).astype(float), labels),
    "a tenth of them": (values[:50], labels[:50]),
    "with as many others": (np.vstack([values, records_of(5)[0]]), labels + records_of(5)[1]),
    "a column left out": (values[:, :3], labels),
    "a column more": (np.hstack([values, records_of(6)[0]]), labels),
    "labels written otherwise": (values, [f"{label}.0" for label in labels]),
}


@pytest.mark.parametrize("again", SAME.values(), ids=SAME.keys())
def test_the_same_records_under_another_name_share_the_budget(
    ledger: Ledger, again: tuple[np.ndarray, list[str]]
) -> None:
    private_statistics(ledger, table(), spec_of(), RULE)
    other = Table(*again, spec_of(), dataset="other", origin="/data/other.parquet")
    contents = other.contents(ledger.privacy_key())
    assert ledger.recognise(contents, other.dataset, other.places) == ledger.pool_of("clinic")
    assert spent(ledger, "other") > 0
    assert ledger.members(1) == ["clinic", "other"]
    third = spec_of(features=(Feature(name="f0", offset=3.0),))
    tight = RULE.model_copy(update={"budget": 1.2})
    with pytest.raises(BudgetError, match=r"budget of 1\.2, which 'clinic' and 'other' share, in"):
        private_statistics(ledger, Table(*again, third, "other", "/data/other.parquet"), third, tight)


def test_the_same_data_under_another_name_are_served_from_what_was_released(ledger: Ledger) -> None:
    first = private_statistics(ledger, table(), spec_of(), RULE)
    again = private_statistics(ledger, table(dataset="other", origin="/elsewhere"), spec_of(), RULE)
    assert not again.fresh
    assert (again.statistics.gram == first.statistics.gram).all()


def test_other_records_have_a_budget_of_their_own(ledger: Ledger) -> None:
    private_statistics(ledger, table(), spec_of(), RULE)
    other = private_statistics(ledger, table(seed=2, dataset="other", origin="/data/other.csv"), spec_of(), RULE)
    assert other.fresh
    assert ledger.pool_of("clinic") != ledger.pool_of("other")
    assert other.epsilon == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(("dataset", "origin"), [("clinic", "/data/new.csv"), ("new", "/data/clinic.csv")])
def test_other_records_in_the_same_place_or_under_the_same_name_share_the_budget(
    ledger: Ledger, dataset: str, origin: str
) -> None:
    private_statistics(ledger, table(), spec_of(), RULE)
    private_statistics(ledger, table(seed=2, dataset=dataset, origin=origin), spec_of(), RULE)
    assert len(ledger.pools()) == 1


def test_data_sets_of_one_place_share_the_budget_unless_the_owner_says_that_they_share_no_records(
    ledger: Ledger,
) -> None:
    private_statistics(ledger, table(), spec_of(), RULE)
    claim = RULE.model_copy(update={"separate": ["staff"]})
    apart = private_statistics(ledger, table(seed=2, dataset="staff"), spec_of(), claim)
    assert apart.said == ()
    assert len(ledger.pools()) == 2
    # Another data set of the place is not covered by the word, and records that are there again refute it.
    joined = private_statistics(ledger, table(seed=3, dataset="visits"), spec_of(), claim)
    assert joined.said == (
        "data set 'visits' shares its privacy budget with 'clinic': they have records, a file or a database in common",
    )
    assert ledger.pool_of("visits") == ledger.pool_of("clinic") != ledger.pool_of("staff")
    grown = Table(np.vstack([records_of(2)[0], records_of(1)[0]]), records_of(2)[1] + records_of(1)[1], spec_of(),
                  "staff")  # fmt: skip
    private_statistics(ledger, grown, spec_of(), claim.model_copy(update={"budget": 5.0}))
    assert len(ledger.pools()) == 1


def test_other_records_of_a_pool_are_not_served_by_a_statistic_that_is_not_made_of_them(ledger: Ledger) -> None:
    rule = RULE.model_copy(update={"budget": 5.0})
    first = private_statistics(ledger, table(), spec_of(), rule)
    for other in (table(seed=2), table(seed=3, dataset="other table of the same database")):
        made = private_statistics(ledger, other, spec_of(), rule)
        assert made.fresh, "a data set that was replaced, or lies beside it, is another"
        assert (made.statistics.gram != first.statistics.gram).any()
    assert spent(ledger) == 3 * first.rho


def test_a_rehearsal_charges_nothing_and_says_what_it_would_cost(ledger: Ledger) -> None:
    for _ in range(2):
        tried = private_statistics(ledger, table(), spec_of(), RULE, rehearse=True, unknown=unknown_in(0))
        assert tried.fresh
        assert tried.epsilon == pytest.approx(1.0, abs=1e-6)
        assert spent(ledger) == 0
    assert [*ledger.audit_entries()] == []
    private_statistics(ledger, table(), spec_of(), RULE)
    assert not private_statistics(ledger, table(), spec_of(), RULE, rehearse=True).fresh
    tight = RULE.model_copy(update={"budget": 1.2})
    other = spec_of(features=(Feature(name="f0"),))
    with pytest.raises(BudgetError):
        private_statistics(ledger, table(spec=other), other, tight, rehearse=True)


def test_data_that_join_two_others_join_their_costs(ledger: Ledger) -> None:
    private_statistics(ledger, table(), spec_of(), RULE)
    private_statistics(ledger, table(seed=2, dataset="second", origin="/b"), spec_of(), RULE)
    both = [np.vstack([records_of(1)[0], records_of(2)[0]]), records_of(1)[1] + records_of(2)[1]]
    joint = Table(*both, spec_of(), "joint", "/c")
    pool = ledger.recognise(joint.contents(ledger.privacy_key()), "joint", ("/c",))
    assert ledger.pools() == [pool]
    assert ledger.members(pool) == ["clinic", "joint", "second"]
    assert ledger.spent(pool) == pytest.approx(2 * one(), rel=1e-6)


def test_a_part_of_the_data_does_not_stand_for_all_of_them(ledger: Ledger) -> None:
    rule = RULE.model_copy(update={"budget": 3.0})
    private_statistics(ledger, table(count=200), spec_of(), rule)
    whole = table(count=500, dataset="whole", origin="/b")
    made = private_statistics(ledger, whole, spec_of(), rule)
    assert made.fresh
    assert made.rho == 2 * ledger.charges(1)[0].rho
    assert private_statistics(ledger, whole, spec_of(), rule).statistics.weight == made.statistics.weight
    assert not private_statistics(ledger, table(count=450, dataset="most", origin="/c"), spec_of(), rule).fresh
    assert private_statistics(ledger, table(count=200), spec_of(), rule).statistics.weight != made.statistics.weight


def test_changed_data_are_served_as_before_unless_the_owner_pays_for_new_noise(ledger: Ledger) -> None:
    first = private_statistics(ledger, table(), spec_of(), RULE)
    grown = table(count=520)
    assert not private_statistics(ledger, grown, spec_of(), RULE).fresh
    renewed = private_statistics(ledger, grown, spec_of(), RULE.model_copy(update={"renew": True}))
    assert renewed.fresh
    assert renewed.rho == 2 * first.rho
    assert not private_statistics(ledger, table(count=520), spec_of(), RULE.model_copy(update={"renew": True})).fresh


def test_a_sketch_is_the_same_after_it_was_written_down_and_differs_by_key() -> None:
    found = table().contents(b"k" * 32)
    read = Contents.parse(found.digest, found.records, found.to_bytes())
    assert (read.rows == found.rows).all()
    assert len(read.columns) == len(found.columns) == 4
    assert table().contents(b"l" * 32).digest != found.digest
    assert not np.isin(table().contents(b"l" * 32).rows, found.rows).any()


# ---- older homes

CAMPAIGN, OTHER = CampaignId(b"\x01" * 32), CampaignId(b"\x02" * 32)


def unknown_in(*rounds: int, campaign: CampaignId = CAMPAIGN, spec: Spec | None = None) -> Callable[[], list]:
    key = statistic_key(spec or spec_of(), (), clip_of(spec or spec_of(), RULE))
    return lambda: [Unknown(campaign, number, key) for number in rounds]


def test_gradients_on_chain_that_the_ledger_does_not_know_are_charged_once(ledger: Ledger) -> None:
    for _ in range(2):
        found = private_statistics(ledger, table(), spec_of(), RULE, unknown=unknown_in(0, 1, 2))
    assert found.rho == pytest.approx(2 * one(), rel=1e-6)
    assert len(ledger.charges(1)) == 2
    assert [charge.campaign for charge in ledger.charges(1)] == [CAMPAIGN, None]


def test_the_owner_is_told_why_an_unknown_gradient_was_charged(ledger: Ledger) -> None:
    found = private_statistics(ledger, table(), spec_of(), RULE, unknown=unknown_in(4))
    assert len(found.said) == 1
    assert "in round 4 of campaign 0x0101" in found.said[0]
    assert "an older home was put back: a statistic of epsilon 1 is charged to 'clinic'" in found.said[0]


def test_a_statistic_that_the_ledger_knows_accounts_for_gradients_that_it_does_not(ledger: Ledger) -> None:
    private_statistics(ledger, table(), spec_of(), RULE)
    found = private_statistics(ledger, table(), spec_of(), RULE, unknown=unknown_in(0, 1))
    assert found.said == ()
    assert found.rho <= one()


def test_an_older_ledger_beside_the_newer_audit_log_takes_over_what_the_log_tells(tmp_path: Path) -> None:
    path = tmp_path / "mine.db"
    with Ledger(path) as ledger:
        ledger.record("policy changed", {})
    older = path.read_bytes()
    rule = RULE.model_copy(update={"budget": 10.0})
    with Ledger(path) as ledger:
        lost = private_statistics(ledger, table(), spec_of(), rule, unknown=unknown_in(3, campaign=OTHER))
        private_statistics(ledger, table(seed=2, dataset="other", origin="/b"), spec_of(), rule)
        assert len(ledger.pools()) == 2
    for end in ("-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    path.write_bytes(older)
    with Ledger(path) as ledger:
        for _ in range(2):
            ledger.check_audit()
            assert [spent(ledger, name) for name in ("clinic", "other")] == [lost.rho, one_charge(ledger)]
        again = private_statistics(ledger, table(), spec_of(), rule, unknown=unknown_in(3, campaign=OTHER))
        assert again.fresh
        # Of what the log told of there was no sketch: there is one once the records were looked at again.
        part = table(count=50, dataset="part", origin="/c")
        assert ledger.recognise(part.contents(ledger.privacy_key()), "part", ("/c",)) == ledger.pool_of("clinic")
        assert again.rho == lost.rho + one_charge(ledger)
        ledger.verify_audit()


def one_charge(ledger: Ledger) -> Fraction:
    """What the last statistic cost."""
    return ledger.charges(ledger.pools()[0])[-1].rho


def test_a_second_statistic_of_one_kind_is_not_forgotten_by_an_older_home(tmp_path: Path) -> None:
    rule = RULE.model_copy(update={"budget": 10.0})
    with Ledger(tmp_path / "mine.db") as older:  # a home of before the whole was released, its log with it
        private_statistics(older, table(count=200), spec_of(), rule)
        whole = table(dataset="whole", origin="/b")
        for _ in range(
            2
        ):  # what is on chain may be made of the part that is known, or of the whole: it is charged once
            found = private_statistics(older, whole, spec_of(), rule, unknown=unknown_in(0, 1))
        assert len(older.charges(1)) == 3
        assert found.rho == pytest.approx(3 * one(), rel=1e-6)
        grown = table(count=505, dataset="whole", origin="/b")
        assert private_statistics(older, grown, spec_of(), rule, unknown=unknown_in(0, 1)).rho == found.rho


def test_each_data_set_of_a_pool_is_charged_for_gradients_that_may_be_made_of_it(ledger: Ledger) -> None:
    rule = RULE.model_copy(update={"budget": 10.0})
    for _ in range(2):
        for seed, name in enumerate(("patients", "staff")):
            of = table(seed=seed, dataset=name, origin="/data/clinic.db")
            found = private_statistics(ledger, of, spec_of(), rule, unknown=unknown_in(0, 1))
    assert [charge.campaign for charge in ledger.charges(1)] == [CAMPAIGN, None, CAMPAIGN, None]
    assert found.rho == pytest.approx(4 * one(), rel=1e-6)


def test_unknown_gradients_are_charged_once_however_the_rule_changes(ledger: Ledger) -> None:
    for clip in (1.0, 1.5, 2.0):
        rule = RULE.model_copy(update={"budget": 10.0, "clip": clip})
        key = statistic_key(spec_of(), (), clip_of(spec_of(), rule))
        private_statistics(ledger, table(), spec_of(), rule, unknown=lambda key=key: [Unknown(CAMPAIGN, 0, key)])  # type: ignore[misc]
    assert [charge.campaign for charge in ledger.charges(1)] == [CAMPAIGN, None, None, None]


def test_an_owner_who_renews_is_charged_for_every_unknown_gradient(ledger: Ledger) -> None:
    rule = RULE.model_copy(update={"renew": True, "budget": 10.0})
    private_statistics(ledger, table(), spec_of(), rule)
    for _ in range(2):
        found = private_statistics(ledger, table(), spec_of(), rule, unknown=unknown_in(0, 1))
    assert found.rho == pytest.approx(3 * one(), rel=1e-6)


def test_what_nobody_can_find_out_about_is_charged_too_and_may_exhaust_the_budget(ledger: Ledger) -> None:
    tight = RULE.model_copy(update={"budget": 1.2})
    with pytest.raises(BudgetError):
        private_statistics(ledger, table(), spec_of(), tight, unknown=lambda: [Unknown(OTHER, 0, None)])
    assert spent(ledger) == one()


# ---- stops and other processes

TESTS = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]
SCRIPT = """
import os, signal, sys
sys.path[:0] = {tests!r}
import test_mine_privacy_ledger as t
from pathlib import Path
import mine.privacy.release as release
from mine.ledger import Ledger

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def then_die(sums, rho):
    t.NoisedSums.release(sums, rho)
    die()

with Ledger(Path({path!r})) as ledger:
    if {instant!r} == "noised":
        t.private_statistics(ledger, t.table(), t.spec_of(), t.RULE, release=then_die)
    elif {instant!r} == "charged":
        ledger.record = die
        t.private_statistics(ledger, t.table(), t.spec_of(), t.RULE)
    else:
        release.statistics_of = die
        t.private_statistics(ledger, t.table(), t.spec_of(), t.RULE)
"""


@pytest.mark.parametrize(("instant", "charged"), [("noised", 0), ("charged", 0), ("written", 1)])
def test_a_kill_between_noise_and_use_neither_forgets_nor_doubles_a_charge(
    tmp_path: Path, instant: str, charged: int
) -> None:
    path = tmp_path / "mine.db"
    script = SCRIPT.format(tests=TESTS, path=str(path), instant=instant)
    died = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    with Ledger(path) as ledger:
        assert len(ledger.charges(1)) == charged
        found = private_statistics(ledger, table(), spec_of(), RULE)
        assert found.fresh is not bool(charged)
        assert len(ledger.charges(1)) == 1
        assert found.rho <= one()
        log = list(ledger.audit_entries())
        assert [entry.kind for entry in log] == ["released"]
        ledger.verify_audit()


def test_of_two_processes_that_noise_at_once_one_statistic_counts(tmp_path: Path) -> None:
    path = tmp_path / "mine.db"
    with Ledger(path) as one_ledger, Ledger(path) as other_ledger:
        between: list[np.ndarray] = []

        def late(sums: object, rho: Fraction) -> NoisedSums:
            between.append(private_statistics(other_ledger, table(), spec_of(), RULE).statistics.gram)
            return NoisedSums.release(sums, rho)  # type: ignore[arg-type]

        found = private_statistics(one_ledger, table(), spec_of(), RULE, release=late)
        assert (found.statistics.gram == between[0]).all()
        assert len(one_ledger.charges(1)) == 1


def test_the_budget_is_checked_again_when_the_charge_is_written(tmp_path: Path) -> None:
    tight = RULE.model_copy(update={"budget": 1.2})
    other = spec_of(features=(Feature(name="f0"),))
    with Ledger(tmp_path / "mine.db") as one_ledger, Ledger(tmp_path / "mine.db") as other_ledger:

        def late(sums: object, rho: Fraction) -> NoisedSums:
            private_statistics(other_ledger, table(spec=other), other, tight)
            return NoisedSums.release(sums, rho)  # type: ignore[arg-type]

        with pytest.raises(BudgetError):
            private_statistics(one_ledger, table(), spec_of(), tight, release=late)
        assert len(one_ledger.charges(1)) == 1


def test_a_damaged_statistic_is_not_used(ledger: Ledger) -> None:
    private_statistics(ledger, table(), spec_of(), RULE)
    with ledger._database.write():
        ledger._database.execute("UPDATE privacy_charges SET noised = substr(noised, 1, 40)")
    with pytest.raises(LedgerError, match="a noised statistic in the ledger cannot be read"):
        private_statistics(ledger, table(), spec_of(), RULE)


def test_no_repr_shows_what_was_summed() -> None:
    released = NoisedSums.release
    assert "gram" not in repr(released)
    sums = table().contents(b"k" * 32)
    assert "rows" not in repr(sums)


def test_costs_add_up_exactly(ledger: Ledger) -> None:
    rule = RULE.model_copy(update={"epsilon": 0.1, "budget": 1.0})
    for scale in range(1, 30):
        spec = spec_of(features=(Feature(name="f0", scale=float(scale)),))
        found = private_statistics(ledger, table(spec=spec, count=80), spec, rule)
    costs = {charge.rho for charge in ledger.charges(1)}
    assert len(costs) == 1
    assert found.rho == 29 * costs.pop()
    assert found.epsilon == epsilon_of(found.rho, rule.delta)
