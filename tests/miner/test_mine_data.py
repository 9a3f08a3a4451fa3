"""Good and bad CSV files: what fits is read exactly, what does not is refused with file, record and column."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mine import data
from mine.data import inspect, match
from mine.errors import DataError, SchemaMismatchError
from sonar import canonical
from sonar.protocol.payloads import design_matrix
from sonar.protocol.spec import Spec


def spec(**changes):
    values = {
        "name": "test",
        "features": ({"name": "a"}, {"name": "b", "offset": 1.0, "scale": 2.0}),
        "classes": ("no", "yes"),
        "min_records": 2,
        "payout": {"target": 900_000},
    }
    return Spec.build(**{**values, **changes})


def gather(dataset, of, on_bad="refuse", **options):
    """What is gathered, without the record of what was read."""
    return data.gather(dataset, match(dataset, of), of, on_bad, **options)[0]


def numeric(dataset):
    return [column.name for column in dataset.columns if column.name not in dataset.targets]


@pytest.fixture
def csv(tmp_path):
    def write(text: str | bytes, name: str = "data.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


GOOD = "a,b,target\n1,2,yes\n3,4.5,no\n-1e3,0,no\n"


def statistics_of(features, labels, of):
    design, targets = design_matrix(of, np.array(features, dtype=float)), np.eye(len(of.classes))[labels]
    return design.T @ design, design.T @ targets


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        GOOD.replace(",", ";"),
        GOOD.replace(",", "\t"),
        GOOD.replace("\n", "\r\n"),
        "\ufeff" + GOOD,
        GOOD.rstrip("\n"),
        GOOD.replace("yes", '"yes"').replace("4.5", " 4.5 "),
        "target,extra,b,a\nyes,one,2,1\nno,two,4.5,3\nno,,0,-1000\n",
    ],
    ids=["commas", "semicolons", "tabs", "windows", "bom", "no last newline", "quotes and spaces", "other columns"],
)
def test_a_good_file_gives_the_statistics_of_its_records(csv, text):
    of = spec()
    dataset = inspect("d", csv(text), "target")
    assert dataset.records == 3
    assert dict(dataset.labels) == {"no": 2, "yes": 1}
    found = gather(dataset, of)
    gram, moment = statistics_of([[1, 2], [3, 4.5], [-1000, 0]], [1, 0, 0], of)
    assert found.records == 3
    np.testing.assert_allclose(found.gram, gram, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(found.moment, moment, rtol=1e-9, atol=1e-6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(
    rows=st.lists(
        st.tuples(
            st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.sampled_from(["no", "yes"]), st.text("x,;\"'\n ", max_size=5)
        ),
        min_size=3,
        max_size=40,
    ),
)
def test_any_file_gives_the_statistics_of_its_records(tmp_path, rows):
    import csv as writer

    rows = [*rows, (0.0, 0.0, "no", ""), (0.0, 0.0, "yes", "")]
    path = tmp_path / "data.csv"
    with path.open("w", newline="") as file:
        out = writer.writer(file)
        out.writerow(["a", "b", "target", "note"])
        out.writerows([repr(a), repr(b), label, "n" + note] for a, b, label, note in rows)
    of = spec()
    found = gather(inspect("d", path, "target"), of)
    gram, moment = statistics_of([row[:2] for row in rows], [of.classes.index(row[2]) for row in rows], of)
    np.testing.assert_allclose(found.gram, gram, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(found.moment, moment, rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no header row"),
        ("\ufeff\n1,2,yes\n", "no header row"),
        ("a,b,target\n", "no records"),
        ("a,b,label\n1,2,yes\n", "no column 'target'"),
        ("a,b,target\n1,2,\n3,4,\n", "nothing in the target column"),
        ("a,b,target\n1,2,yes\n3,4,yes\n", "only the class 'yes'"),
        ("name,target\nx,yes\ny,no\n", "no numeric column"),
        ("a,a,target\n1,2,yes\n3,4,no\n", "'a' twice"),
        ("a,A,target\n1,2,yes\n3,4,no\n", "'A' twice"),
        ("a,,target\n1,2,yes\n3,4,no\n", "column 2 has no name"),
        ("a,b,target\n1,2,yes\n3,4\n", "not a readable CSV"),
        ("a,b,target\n1,2,yes\n3,4,no,5\n", "not a readable CSV"),
        ('a,b,target\n1,2,yes\n3,4,no\n5,"6,no\n7,8,yes\n', "starts at line 4 is never closed"),
        ('a,b,target\n1,2,yes\n3,4,no\n5,6,"no', "starts at line 4 is never closed"),
        ("a,b,target\r\n1,2,yes\r\n3,4,no\n", "do not all end alike"),
        (b"a,b,target\n1,2,yes\n3,4,n\xff\n", "not UTF-8"),
        (b"a,b,target\n" + b"1,2,yes\n" * 9000 + b"3,4,n\xff\n", "not a readable CSV"),
        (b"a,b,t\xffarget\n1,2,yes\n", "not UTF-8"),
        ("a,target\n" + "".join(f"1,x{number}\n" for number in range(300)), "a target must be a class or a number"),
    ],
)
def test_a_bad_file_is_refused_with_the_place_of_the_fault(csv, text, says):
    path = csv(text)
    with pytest.raises(DataError, match=says) as caught:
        inspect("d", path, "target")
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        inspect("d", tmp_path / "none.csv", "target")


def test_a_quote_inside_of_a_value_without_quotes_does_no_harm(csv):
    dataset = inspect("d", csv('a,note,target\n1,5" pipe,yes\n3,x,no\n'), "target")
    assert (numeric(dataset), dataset.left, dataset.records) == (["a"], ("note",), 2)


@pytest.mark.parametrize("name", ["", " d", "d\n", "\x1b[2J", "d" * 65, "a b", "é", "a/b", "a'b"])
def test_a_name_that_cannot_be_typed_is_refused(csv, name):
    with pytest.raises(DataError, match="cannot name a data set"):
        inspect(name, csv(GOOD), "target")


def test_a_path_that_the_reader_would_take_for_a_pattern_is_refused(csv):
    with pytest.raises(DataError, match="rename"):
        inspect("d", csv(GOOD, "da*ta.csv"), "target")


def test_a_name_with_quotes_reaches_no_query(csv):
    text = 'a,b,it\'s ""; DROP,target\n1,2,3,yes\n3,4,5,no\n'.replace('it\'s ""; DROP', '"it\'s ""; DROP"')
    dataset = inspect("d", csv(text, "it's.csv"), "target")
    assert numeric(dataset) == ["a", "b", "it's \"; DROP"]
    assert gather(dataset, spec()).records == 2


def test_an_ignored_column_may_hold_anything_and_must_exist(csv):
    path = csv("a,b,id,target\n1,2,7,yes\n3,4,x,no\n")
    assert numeric(inspect("d", path, "target", ignored=("id",))) == ["a", "b"]
    with pytest.raises(DataError, match="no column 'ID'"):
        inspect("d", path, "target", ignored=("ID",))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"features": ({"name": "a"}, {"name": "c"})}, "no numeric column 'c'"),
        ({"features": ({"name": "target"},), "target_column": "x"}, "no numeric column 'target'"),
        ({"classes": ("nein", "ja")}, "no class 'no', 'yes', only 'nein', 'ja'"),
        ({"min_records": 4}, "3 records, the campaign needs 4"),
        ({"target_column": "outcome"}, "the campaign predicts 'outcome'"),
    ],
)
def test_a_data_set_that_does_not_fit_says_why(csv, changes, says):
    dataset = inspect("d", csv(GOOD), "target")
    with pytest.raises(SchemaMismatchError, match=says):
        match(dataset, spec(**changes))
    with pytest.raises(SchemaMismatchError, match=says):
        gather(dataset, spec(**changes))


def test_every_reason_is_given_at_once(csv):
    dataset = inspect("d", csv(GOOD), "target")
    with pytest.raises(
        SchemaMismatchError, match=r"no class 'yes', only 'no', 'other'; .*needs 100; it has no numeric column 'z'"
    ):
        match(dataset, spec(features=({"name": "z"},), classes=("no", "other"), min_records=100))


def test_labels_that_a_spreadsheet_wrote_as_numbers_fit(csv):
    dataset = inspect("d", csv("a,b,target\n1,2,0.0\n3,4,1.0\n5,6,1\n"), "target")
    found = gather(dataset, spec(classes=("0", "1")))
    assert found.moment[-1].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b,target\n1,2,yes\n3,,no\n", "record 2 has nothing in 'b'"),
        ("a,b,target\n1,2,yes\n3,4,perhaps\n", "record 2 has the class 'perhaps'"),
        ("a,b,target\n1,2,yes\n", "has 1 usable records now"),
        ("a,target\n1,yes\n3,no\n", "no column 'b'"),
        ("nothing\n", "no column 'target'"),
    ],
)
def test_a_file_that_was_spoilt_after_it_was_added_is_refused(csv, text, says):
    dataset = inspect("d", csv(GOOD), "target")
    csv(text)
    with pytest.raises(DataError, match=says):
        gather(dataset, spec())


@pytest.mark.parametrize("batch_size", [None, 100])
def test_class_weights_must_not_make_too_few_of_the_records(csv, batch_size):
    rows = [f"{at % 7},{at % 5},{'yes' if at == 7 else 'no'}" for at in range(300)]
    dataset = inspect("d", csv("a,b,target\n" + "\n".join(rows) + "\n"), "target")

    def of(yes, least):
        return spec(min_records=least, training={"batch_size": batch_size, "class_weights": (1.0, yes)})

    assert gather(dataset, of(1.0, 300)).records == 300
    # One record that counts as 100 beside 299 others: (299 + 100)^2 / (299 + 100^2).
    assert gather(dataset, of(100.0, 15)).effective_records == pytest.approx(399**2 / 10_299)
    with pytest.raises(DataError, match=r"class weights .* the 300 records of .* count as 15.5, but it needs 16"):
        gather(dataset, of(100.0, 16))


def test_the_file_as_it_is_now_is_what_counts(csv):
    dataset = inspect("d", csv(GOOD), "target")
    csv(GOOD + "7,7,yes\n")
    assert gather(dataset, spec()).records == 4


@pytest.mark.parametrize("batch_size", [None, 16])
def test_a_file_is_gathered_as_the_spec_maps_weighs_and_cuts_it(csv, batch_size):
    rng = np.random.default_rng(1)
    features, labels = rng.normal(size=(50, 2)), rng.integers(0, 2, 50)
    rows = [f"{a!r},{b!r},{('no', 'yes')[label]}" for (a, b), label in zip(features.tolist(), labels, strict=True)]
    of = spec(
        feature_map={"kind": "fourier", "count": 40, "gamma": 0.5},
        training={"loss": "taylor-logistic", "batch_size": batch_size, "class_weights": (1.0, 3.0)},
    )
    told = []
    dataset = inspect("d", csv("a,b,target\n" + "\n".join(rows) + "\n"), "target")
    found = gather(dataset, of, progress=told.append)
    schedule = of.training.schedule
    expected = schedule.gather([(design_matrix(of, features), np.eye(2)[labels])], *of.shape)
    one, other = schedule.training_map(found), schedule.training_map(expected)
    assert one.change.shape == (41, 41)
    np.testing.assert_allclose(one.change, other.change, atol=1e-10)
    np.testing.assert_allclose(one.constant, other.constant, atol=1e-10)
    assert told == sorted(told)
    assert told[-1] == 1.0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
)


@given(text=st.text(max_size=50) | JSON.map(lambda value: canonical.dumps(value).decode()))
def test_no_text_but_its_own_is_taken_for_a_data_set_or_a_match(text):
    for parse in (data.Dataset.parse, data.Match.parse):
        with pytest.raises(DataError):
            parse(text)


@given(name=st.sampled_from(["name", "source", "targets", "columns", "labels", "records", "left", "state"]), value=JSON)
def test_a_data_set_with_a_field_of_another_kind_is_refused_or_whole(name, value):
    values = {
        "format": 2, "name": "d", "source": {"kind": "csv", "location": "/d.csv", "query": None}, "targets": ["y"],
        "columns": [], "labels": [["a", 1]], "records": 1, "left": [], "unlabelled": 0, "bad_images": 0, "aliases": [],
        "fingerprint": "", "state": None, "remarks": [],
    }  # fmt: skip
    try:
        found = data.Dataset.parse(canonical.dumps({**values, name: value}).decode())
    except DataError:
        return
    assert data.Dataset.parse(found.to_text()) == found
