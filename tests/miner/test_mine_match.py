"""Features and columns: sure by name, alias and the owner's word, never by a guess, and what a guess is made of."""

import sqlite3

import numpy as np
import pytest

from mine.confirming import ASKED, closest, confirm, match_table
from mine.data import Column, Dataset, How, Kind, Match, Source, consider, gather, inspect, likeness, match
from mine.errors import DataError, SchemaMismatchError
from sonar.protocol.spec import Spec

FEATURES = (
    {"name": "age", "unit": "years", "minimum": 0.0, "maximum": 120.0},
    {"name": "smoker", "type": "boolean"},
    {"name": "weight"},
)


def spec(**changes):
    values = {"name": "heart", "features": FEATURES, "classes": ("no", "yes"), "payout": {"target": 900_000},
              "target_column": "outcome", "min_records": 2}  # fmt: skip
    return Spec.build(**{**values, **changes})


def dataset(*columns, aliases=(), targets=("outcome",), labels=(("no", 60), ("yes", 40)), **changes):
    return Dataset("clinic", Source(Kind.CSV, "/data/clinic.csv"), targets, columns, labels, 100, aliases=aliases,
                   **changes)  # fmt: skip


AGE = Column("age", "integer", 18.0, 93.0, unit="years")
SMOKER = Column("smoker", "boolean", 0.0, 1.0)
WEIGHT = Column("weight", "number", 40.5, 120.0)


def test_equal_names_are_sure():
    found = match(dataset(WEIGHT, AGE, SMOKER), spec())
    assert [(link.feature, link.column, link.how) for link in found.features] == [
        (name, name, How.EXACT) for name in ("age", "smoker", "weight")
    ]
    assert found.columns == ("age", "smoker", "weight")
    assert found.target_columns == ("outcome",)
    assert Match.parse(found.to_text()) == found


def test_an_alias_is_sure_and_comes_before_an_equal_name():
    kilos = Column("body_mass", "number", 40.5, 120.0)
    found = match(dataset(WEIGHT, AGE, SMOKER, kilos, aliases=(("weight", "body_mass"),)), spec())
    assert (found.features[2].column, found.features[2].how) == ("body_mass", How.ALIAS)


def test_what_the_owner_confirmed_is_sure_and_comes_before_an_alias():
    kilos = Column("body_mass", "number", 40.5, 120.0)
    has = dataset(WEIGHT, AGE, SMOKER, kilos, aliases=(("weight", "body_mass"),))
    found = match(has, spec(), {"weight": "weight"})
    assert (found.features[2].column, found.features[2].how) == ("weight", How.SAVED)


@pytest.mark.parametrize("name", ["Age", "AGE", "age ", "age_years", "patient age"])
def test_a_name_that_is_only_alike_is_never_taken(name):
    has = dataset(Column(name, "integer", 18.0, 93.0), SMOKER, WEIGHT)
    link = consider(has, spec(), guessing=True).features[0]
    assert (link.how, link.column) == (How.UNSURE, name)
    assert "'age' may be" in link.sentence
    link = consider(has, spec()).features[0]
    assert (link.how, link.column, link.guesses) == (How.UNSURE, None, ())
    with pytest.raises(SchemaMismatchError, match=r"no numeric column 'age'; where another .* with `mine match`"):
        match(has, spec())


def test_the_likeliest_column_comes_first_and_says_why():
    has = dataset(
        Column("age_months", "integer", 200.0, 1100.0), Column("age_yrs", "integer", 18.0, 93.0), SMOKER, WEIGHT
    )
    first, second = consider(has, spec(), guessing=True).features[0].guesses
    assert (first.column, second.column) == ("age_yrs", "age_months")
    assert first.sure > second.sure + 0.2
    assert "the unit is years" in first.sentence
    assert "from 200 to 1100, the campaign's from 0 to 120" in second.sentence


def test_a_column_that_another_feature_has_by_name_is_not_suggested():
    has = dataset(AGE, SMOKER, WEIGHT)
    link = consider(has, spec(features=(*FEATURES, {"name": "weights"})), guessing=True).features[3]
    assert (link.how, link.guesses) == (How.NONE, ())


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (Column("age", "number", 0.0, 300.0), "from 0 to 300, the campaign's from 0 to 120"),
        (Column("age", "number", 200.0, 300.0), "from 200 to 300"),
        (Column("age", "integer", 18.0, 93.0, unit="months"), "its unit is months, the campaign's years"),
    ],
)
def test_an_equal_name_in_another_unit_or_range_is_unsure(column, says):
    has = dataset(column, SMOKER, WEIGHT)
    link = consider(has, spec()).features[0]
    assert (link.how, link.column) == (How.UNSURE, "age")
    assert says in link.sentence
    assert match(has, spec(), {"age": "age"}).features[0].how is How.SAVED


def test_a_boolean_feature_is_no_column_of_other_numbers():
    link = consider(dataset(AGE, Column("smoker", "integer", 0.0, 40.0), WEIGHT), spec()).features[1]
    assert link.how is How.UNSURE
    assert "not 0 and 1 only" in link.sentence


def test_a_few_values_out_of_range_are_told_and_no_reason_to_ask():
    link = match(dataset(Column("age", "integer", 18.0, 130.0), SMOKER, WEIGHT), spec()).features[0]
    assert link.how is How.EXACT
    assert "the same name, but its values go from 18 to 130" in link.sentence


def test_units_are_compared_by_what_they_mean():
    assert match(dataset(Column("age", "integer", 18.0, 93.0, unit="yr"), SMOKER, WEIGHT), spec()).columns[0] == "age"


def test_the_target_is_no_feature_though_it_bears_the_name():
    has = dataset(AGE, SMOKER, WEIGHT, targets=("weight",))
    assert consider(has, spec()).features[2].how is How.NONE


def test_bad_records_are_told_and_do_not_unmake_the_match():
    has = dataset(Column("age", "integer", 18.0, 93.0, missing=3, bad=1), SMOKER, WEIGHT, unlabelled=2,
                  labels=(("maybe", 5), ("no", 53), ("yes", 40)))  # fmt: skip
    assert match(has, spec()).faults == (
        "column 'age' has 3 records with nothing and 1 record with what is no finite number",
        "5 records have another class: the campaign knows no class 'maybe', only 'no', 'yes'",
        "2 records have no label",
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"labels": ()}, "its target 'outcome' has numbers, not classes"),
        ({"labels": (("a", 50), ("b", 50))}, "knows no class 'a', 'b'"),
        ({"labels": (("a", 50), ("no", 50))}, "knows no class 'a'"),
    ],
)
def test_a_target_of_other_classes_fits_no_classifier(changes, says):
    with pytest.raises(SchemaMismatchError, match=says):
        match(dataset(AGE, SMOKER, WEIGHT, **changes), spec())


def test_a_target_of_another_name_takes_the_owners_word():
    of = spec(target_column="disease")
    with pytest.raises(SchemaMismatchError, match="its target is 'outcome', the campaign predicts 'disease'"):
        match(dataset(AGE, SMOKER, WEIGHT), of)
    assert match(dataset(AGE, SMOKER, WEIGHT, aliases=(("disease", "outcome"),)), of).targets[0].how is How.ALIAS
    assert match(dataset(AGE, SMOKER, WEIGHT), of, {"disease": "outcome"}).targets[0].how is How.SAVED


@pytest.mark.parametrize(
    "names", [{"aliases": (("target", "outcome"),)}, {"targets": ("target",)}], ids=["alias", "name"]
)
def test_a_campaign_that_names_no_target_takes_the_owners_word_for_it(names):
    of = spec(target_column="target", name="diabetes in five years")
    has = dataset(AGE, SMOKER, WEIGHT)
    link = consider(has, of).targets[0]
    assert (link.how, link.column) == (How.UNSURE, "outcome")
    with pytest.raises(SchemaMismatchError, match="'outcome', and the campaign does not name what it predicts"):
        match(has, of)
    assert match(has, of, {"target": "outcome"}).targets[0].how is How.SAVED
    assert match(dataset(AGE, SMOKER, WEIGHT, **names), of).targets[0].sure


def test_a_regression_takes_targets_of_numbers_by_their_names():
    of = spec(metric="r2", classes=(), targets=({"name": "cost"},))
    cost = Column("cost", "number", 0.0, 1e5)
    has = dataset(AGE, SMOKER, WEIGHT, cost, targets=("cost",), labels=())
    assert match(has, of).target_columns == ("cost",)
    with pytest.raises(SchemaMismatchError, match="it has no numeric column 'cost'"):
        match(dataset(AGE, SMOKER, WEIGHT), of)


def test_a_folder_of_images_fits_campaigns_on_images_only():
    folder = Dataset("scans", Source(Kind.IMAGES, "/data/scans"), ("label",), (), (("no", 50), ("yes", 50)), 100)
    pixels = tuple({"name": f"p{at}"} for at in range(4))
    found = match(folder, spec(features=pixels, image={"width": 2, "height": 2}, target_column="label"))
    assert {link.how for link in found.features} == {How.IMAGE}
    with pytest.raises(SchemaMismatchError, match="a folder of images, the campaign takes tables"):
        match(folder, spec())


def test_the_owner_is_asked_for_what_is_open_and_for_nothing_else():
    asked = []

    def ask(link, problem):
        assert problem is None
        asked.append(link.feature)
        return link.guesses[0].column

    has = dataset(Column("age_yrs", "integer", 18.0, 93.0), SMOKER, WEIGHT)
    found, confirmed = confirm(has, spec(), {}, {}, ask)
    assert (asked, confirmed) == (["age"], {"age": "age_yrs"})
    assert found.require().columns == ("age_yrs", "smoker", "weight")
    assert confirm(has, spec(), confirmed, {}, ask)[1] == confirmed
    assert asked == ["age"], "what was confirmed is not asked again"
    open_still, nothing = confirm(has, spec(), {}, {}, lambda _link, _problem: None)
    assert (len(open_still.unsure), nothing) == (1, {})


def test_an_answer_must_name_a_feature_and_a_column():
    has = dataset(AGE, SMOKER, WEIGHT)
    with pytest.raises(DataError, match="has no feature 'size'"):
        confirm(has, spec(), {}, {"size": "age"})
    with pytest.raises(DataError, match="no numeric column 'size'"):
        confirm(has, spec(), {}, {"age": "size"})


def test_a_column_is_one_feature_only():
    months = Column("age_months", "integer", 20.0, 90.0)
    has = dataset(months, SMOKER, WEIGHT)
    with pytest.raises(DataError, match=r"'smoker' is 'smoker' already \(the same name\): name another for 'age'"):
        confirm(has, spec(), {}, {"age": "smoker"})
    with pytest.raises(DataError, match="'age_months' is 'stay' already"):
        confirm(has, spec(features=(*FEATURES, {"name": "stay"})), {}, {"age": "age_months", "stay": "age_months"})
    found = consider(has, spec(features=(*FEATURES, {"name": "stay"})), {"age": "age_months", "stay": "age_months"})
    (problem,) = found.problems
    assert problem.startswith("the column 'age_months' would be both 'age' and 'stay': say with `mine match`")
    swapped = confirm(has, spec(features=({"name": "smoker"}, {"name": "weight"})), {},
                      {"smoker": "weight", "weight": "age_months"})  # fmt: skip
    assert swapped[0].require().columns == ("weight", "age_months")


def test_an_answer_that_cannot_be_is_told_and_asked_for_again():
    has = dataset(Column("age_months", "integer", 20.0, 90.0), SMOKER, WEIGHT)
    answers, told = ["smoker", "size", "age_months"], []

    def ask(_link, problem):
        told.append(problem)
        return answers[len(told) - 1]

    assert confirm(has, spec(), {}, {}, ask)[1] == {"age": "age_months"}
    assert told[0] is None
    assert "'smoker' is 'smoker' already" in told[1]
    assert "no numeric column 'size'" in told[2]
    told.clear()
    answers[2] = "smoker"
    found, confirmed = confirm(has, spec(), {}, {}, ask)
    assert (len(told), confirmed, len(found.unsure)) == (ASKED, {}, 1)


def test_a_strangers_names_cost_the_daemon_no_guess_and_the_owner_few(monkeypatch):
    compared = []
    real = likeness._alike
    monkeypatch.setattr(likeness, "_alike", lambda one, other: compared.append((one, other)) or real(one, other))
    columns = tuple(Column(f"measure_{at}_of_the_left_arm", "number", 0.0, 1.0) for at in range(1000))
    has = dataset(*columns)
    of = spec(features=tuple({"name": f"{at} {'easure of the left arm ' * 8}"[:199].strip()} for at in range(2047)))
    with pytest.raises(SchemaMismatchError) as refused:
        match(has, of)
    assert compared == []
    assert len(str(refused.value)) < 2000
    found = consider(has, of, guessing=True)
    assert len(compared) == likeness.MOST_FEATURES * likeness.MOST_COLUMNS
    assert max(sum(map(len, words)) for pair in compared for words in pair) <= 80
    assert {link.how for link in found.features} == {How.UNSURE}


def test_matching_looks_each_feature_up_and_searches_none(monkeypatch):
    searched = []
    monkeypatch.setattr(Dataset, "column", lambda self, name: searched.append(name))
    columns = tuple(Column(f"c{at}", "number", 0.0, 1.0) for at in range(2000))
    found = match(dataset(*columns), spec(features=tuple({"name": f"c{at}"} for at in range(2000))))
    assert (len(found.columns), searched) == (2000, [])


def test_values_far_inside_of_the_campaigns_range_are_to_be_looked_at():
    pixels = tuple({"name": f"p{at}", "minimum": 0.0, "maximum": 255.0} for at in range(3))
    flat, *others = (Column(f"p{at}", "integer", 0.0, 16.0 * (at > 0)) for at in range(3))
    found = match(dataset(flat, *others), spec(features=pixels))
    (warning,) = found.warnings
    assert warning == (
        "2 of 3 features lie in less than a tenth of the campaign's range, such as 'p1' with 0 to 16 where 0 to 255 is "
        "meant: is that the same unit?"
    )
    assert Match.parse(found.to_text()) == found
    assert match_table(found).splitlines()[-1] == f"look at this: {warning}"
    full = tuple(Column(f"p{at}", "integer", 0.0, 255.0) for at in range(3))
    assert match(dataset(*full), spec(features=pixels)).warnings == ()


def test_the_data_set_that_fits_best_is_looked_at():
    near = dataset(Column("age_yrs", "integer", 18.0, 93.0), SMOKER, WEIGHT)
    far = Dataset("far", near.source, near.targets, (SMOKER,), near.labels, 10_000)
    best, why = closest([far, near], spec(), {})
    assert best is near
    assert why == (
        "of 2 data sets 'clinic' comes nearest, with 1 of 4 open; then 'far', with 2 of 4 open: --dataset names another"
    )
    with pytest.raises(DataError, match="mine add"):
        closest([], spec(), {})


def test_the_table_shows_each_feature_its_column_and_how_sure():
    table = match_table(
        consider(dataset(Column("age_yrs", "integer", 18.0, 93.0), SMOKER, WEIGHT), spec(), guessing=True)
    )
    lines = table.splitlines()
    assert lines[0].split() == ["FEATURE", "COLUMN", "HOW", "WHY"]
    assert lines[1].split()[:2] == ["age", "age_yrs"]
    assert "unsure" in lines[1]
    assert lines[2].split()[:3] == ["smoker", "smoker", "exact"]


def test_a_confirmed_column_is_what_is_gathered(tmp_path):
    path = tmp_path / "clinic.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE visits (age_yrs, smoker, weight, outcome)")
        db.executemany("INSERT INTO visits VALUES (?, ?, ?, ?)", [(30 + at, at % 2, 70.5, "yes" if at % 3 else "no")
                                                                   for at in range(9)])  # fmt: skip
    has = inspect("clinic", Source.of(path, table="visits"), "outcome")
    found, _ = gather(has, match(has, spec(), {"age": "age_yrs"}), spec())
    wide = gather(has, match(has, spec(), {"age": "age_yrs"}), spec(features=(*FEATURES[:2], FEATURES[2])))[0]
    np.testing.assert_array_equal(found.gram, wide.gram)
    assert found.gram[-1, 1] == sum(at % 2 for at in range(9))
