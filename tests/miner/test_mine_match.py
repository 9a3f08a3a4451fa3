"""Features and columns: sure by name, alias and the owner's word, never by a guess, and what a guess is made of."""

import sqlite3

import numpy as np
import pytest

from mine.confirming import closest, confirm, match_table
from mine.data import Column, Dataset, How, Kind, Match, Source, consider, gather, inspect, match
from mine.errors import DataError, SchemaMismatchError
from sonar.protocol.spec import Spec

FEATURES = (
    {"name": "age", "unit": "years", "minimum": 0.0, "maximum": 120.0},
    {"name": "smoker", "type": "boolean"},
    {"name": "weight"},
)


def spec(**changes):
    values = {"name": "heart", "features": FEATURES, "classes": ("no", "yes"), "payout": {"target": 900_000},
              "min_records": 2}  # fmt: skip
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
    link = consider(has, spec()).features[0]
    assert (link.how, link.column) == (How.UNSURE, name)
    with pytest.raises(SchemaMismatchError, match=r"'age' may be .* % sure.*answer for 'age' with `mine match`"):
        match(has, spec())


def test_the_likeliest_column_comes_first_and_says_why():
    has = dataset(
        Column("age_months", "integer", 200.0, 1100.0), Column("age_yrs", "integer", 18.0, 93.0), SMOKER, WEIGHT
    )
    first, second = consider(has, spec()).features[0].guesses
    assert (first.column, second.column) == ("age_yrs", "age_months")
    assert first.sure > second.sure + 0.2
    assert "the unit is years" in first.sentence
    assert "from 200 to 1100, the campaign's from 0 to 120" in second.sentence


def test_a_column_that_another_feature_has_by_name_is_not_suggested():
    has = dataset(AGE, SMOKER, WEIGHT)
    link = consider(has, spec(features=(*FEATURES, {"name": "weights"}))).features[3]
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
        "column 'age' has 3 records with nothing and 1 with no finite number",
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
    found = match(folder, spec(features=pixels, image={"width": 2, "height": 2}))
    assert {link.how for link in found.features} == {How.IMAGE}
    with pytest.raises(SchemaMismatchError, match="a folder of images, the campaign takes tables"):
        match(folder, spec())


def test_the_owner_is_asked_for_what_is_open_and_for_nothing_else():
    asked = []

    def ask(link):
        asked.append(link.feature)
        return link.guesses[0].column

    has = dataset(Column("age_yrs", "integer", 18.0, 93.0), SMOKER, WEIGHT)
    found, confirmed = confirm(has, spec(), {}, {}, ask)
    assert (asked, confirmed) == (["age"], {"age": "age_yrs"})
    assert found.require().columns == ("age_yrs", "smoker", "weight")
    assert confirm(has, spec(), confirmed, {}, ask)[1] == confirmed
    assert asked == ["age"], "what was confirmed is not asked again"
    open_still, nothing = confirm(has, spec(), {}, {}, lambda _: None)
    assert (len(open_still.unsure), nothing) == (1, {})


def test_an_answer_must_name_a_feature_and_a_column():
    has = dataset(AGE, SMOKER, WEIGHT)
    with pytest.raises(DataError, match="has no feature 'size'"):
        confirm(has, spec(), {}, {"size": "age"})
    with pytest.raises(DataError, match="no numeric column 'size'"):
        confirm(has, spec(), {}, {"age": "size"})


def test_the_data_set_that_fits_best_is_looked_at():
    near = dataset(Column("age_yrs", "integer", 18.0, 93.0), SMOKER, WEIGHT)
    far = Dataset("far", near.source, near.targets, (SMOKER,), near.labels, 10_000)
    assert closest([far, near], spec(), {}) is near
    with pytest.raises(DataError, match="mine add"):
        closest([], spec(), {})


def test_the_table_shows_each_feature_its_column_and_how_sure():
    table = match_table(consider(dataset(Column("age_yrs", "integer", 18.0, 93.0), SMOKER, WEIGHT), spec()))
    lines = table.splitlines()
    assert lines[0].split() == ["FEATURE", "COLUMN", "HOW", "WHY"]
    assert lines[1].split()[:2] == ["age", "age_yrs"]
    assert "unsure" in lines[1]
    assert lines[2].split()[:3] == ["smoker", "smoker", "exact"]


def test_a_confirmed_column_is_what_is_gathered(tmp_path):
    path = tmp_path / "clinic.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE visits (age_yrs, smoker, weight, target)")
        db.executemany("INSERT INTO visits VALUES (?, ?, ?, ?)", [(30 + at, at % 2, 70.5, "yes" if at % 3 else "no")
                                                                   for at in range(9)])  # fmt: skip
    has = inspect("clinic", Source.of(path, table="visits"), "target")
    found, _ = gather(has, match(has, spec(), {"age": "age_yrs"}), spec())
    wide = gather(has, match(has, spec(), {"age": "age_yrs"}), spec(features=(*FEATURES[:2], FEATURES[2])))[0]
    np.testing.assert_array_equal(found.gram, wide.gram)
    assert found.gram[-1, 1] == sum(at % 2 for at in range(9))
