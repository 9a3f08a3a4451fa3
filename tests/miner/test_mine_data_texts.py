"""Texts that stand for numbers: a whole column says how; what is not alike is told of, and never half read."""

import json
import sqlite3

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mine import data
from mine.commands.data import faults
from mine.data import Dataset, Source, inspect, match
from mine.data.readings import TextCounts
from mine.data.tables import numbers_of
from mine.errors import DataError
from mine.privacy.clipping import Clip
from mine.privacy.reading import contents_of, sums_of
from sonar.protocol.spec import Spec


def spec(*features):
    return Spec.build(name="test", features=tuple({"name": name} for name in features), classes=("0", "1"),
                      min_records=2, payout={"target": 900_000}, target_column="outcome")  # fmt: skip


def as_csv(folder, values):
    path = folder / "t.csv"
    quoted = (f'"{value}"' for value in values)
    path.write_text("x,age,outcome\n" + "".join(f"{value},{at},{at % 2}\n" for at, value in enumerate(quoted)))
    return Source.of(path)


def as_jsonl(folder, values):
    path = folder / "t.jsonl"
    rows = [{"x": value or None, "age": at, "outcome": at % 2} for at, value in enumerate(values)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Source.of(path)


def as_sqlite(folder, values):
    path = folder / "t.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE IF NOT EXISTS t (x, age, outcome)")
        db.execute("DELETE FROM t")
        db.executemany("INSERT INTO t VALUES (?, ?, ?)", [(v or None, at, at % 2) for at, v in enumerate(values)])
    db.close()
    return Source.of(path, table="t")


KINDS = pytest.mark.parametrize("write", [as_csv, as_jsonl, as_sqlite], ids=["csv", "json lines", "sqlite"])


@KINDS
@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (["yes", "no", "", "Yes", "NO"], [1, 0, None, 1, 0]),
        (["true", "False", "true", "TRUE", ""], [1, 0, 1, 1, None]),
        (["y", "n", "Y", "y", "y"], [1, 0, 1, 1, 1]),
        (["T", "F", "F", "", " t "], [1, 0, 0, None, 1]),
        (["no", "no", "no", "no", ""], [0, 0, 0, 0, None]),
        (["3,14", "-2,5", "7", "", "0,125"], [3.14, -2.5, 7, None, 0.125]),
        (["0,125", "1,250", "1e1", "+4,5E-1", "12"], [0.125, 1.25, 10, 0.45, 12]),
    ],
)
def test_a_column_that_is_alike_throughout_is_numbers(tmp_path, write, texts, numbers):
    dataset = inspect("d", write(tmp_path, texts), "outcome")
    assert Dataset.parse(dataset.to_text()) == dataset
    column, there = dataset.column("x"), [number for number in numbers if number is not None]
    assert (column.minimum, column.maximum) == (min(there), max(there))
    assert (column.missing, column.bad) == (numbers.count(None), 0)
    assert dataset.remarks == ()
    found, _ = data.gather(dataset, match(dataset, spec("x")), spec("x"), "drop")
    assert found.gram[0, 0] == pytest.approx(sum(number**2 for number in there))


@KINDS
@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["F", "M", "F", "F", "F"], "has words for true and false, but 1 other values: none is read"),
        (["F", "F", "F", "F", "F"], "has words for true and false, but not those of one pair"),
        (["y", "yes", "no", "n", "no"], "but not those of one pair: none is read"),
        (["yes", "no", "maybe", "yes", ""], "but 1 other values"),
        (["yes", "no", "yes", "no", "x1"], "but 1 other values"),
        (["3,14", "2,5", "NA", "1,5", "2,25"], "has 4 numbers with decimal commas, and others that are written"),
        (["3,14", "2.5", "1.234,5", "1,5", "2,25"], "has 3 numbers with decimal commas, and others"),
        (["1,234", "5,678", "9,012", "3,456", "7,890"], "has commas that may part decimals or thousands"),
    ],
)
def test_a_column_that_is_not_alike_is_left_alone_and_told_of(tmp_path, write, texts, says):
    dataset = inspect("d", write(tmp_path, texts), "outcome")
    assert dataset.column("x") is None
    assert dataset.left == ("x",)
    (remark,) = dataset.remarks
    assert remark.startswith("column 'x' ")
    assert says in remark
    assert remark in faults(dataset)
    assert not [text for text in texts if text and len(text) > 3 and text in remark]


@KINDS
def test_words_that_came_to_a_column_of_two_others_have_the_data_set_refused(tmp_path, write):
    dataset = inspect("d", write(tmp_path, ["T", "F", "T", "F", "F"]), "outcome")
    write(tmp_path, ["F", "M", "F", "M", "F"])
    with pytest.raises(DataError, match="column 'x' had nothing but t/f when it was added, and has something else now"):
        data.gather(dataset, match(dataset, spec("x")), spec("x"), "drop")


@KINDS
def test_with_privacy_on_no_word_of_a_record_ends_a_reading(tmp_path, write):
    dataset = inspect("d", write(tmp_path, ["T", "F", "T", "F", "F"]), "outcome")
    write(tmp_path, ["T", "maybe", "T", "", "F"])
    assert contents_of(bytes(32), dataset).records == 5
    asked = spec("x")
    clip = Clip.of(1, 1.0, 1.0)
    sums, provenance = sums_of(dataset, match(dataset, asked), asked, clip)
    assert (provenance.rows, provenance.used, provenance.dropped) == (5, 5, ())
    write(tmp_path, ["T", "", "T", "", "F"])
    assert (sums_of(dataset, match(dataset, asked), asked, clip)[0].gram == sums.gram).all(), "it counts as a gap"


def test_words_in_a_column_of_numbers_are_bad_values_and_no_numbers(tmp_path):
    dataset = inspect("d", as_csv(tmp_path, ["1", "0", "yes", "1", "t"]), "outcome")
    column = dataset.column("x")
    assert (column.minimum, column.maximum, column.bad) == (0.0, 1.0, 2)
    (remark,) = dataset.remarks
    assert remark == (
        "column 'x' has words for true and false, but 3 other values: none is read as 1 or 0 (yes/no, true/false, y/n "
        "or t/f throughout would be)"
    )


def test_a_european_table_is_read_as_it_is_saved(tmp_path):
    path = tmp_path / "messwerte.csv"
    path.write_text("Größe;Dosis;outcome\n1,75;0,5;1\n1,8;12;0\n1,62;3,25;1\n", encoding="utf-8")
    dataset = inspect("d", Source.of(path), "outcome")
    assert [(one.name, one.minimum, one.maximum, one.reading) for one in dataset.columns] == [
        ("Größe", 1.62, 1.8, "comma"), ("Dosis", 0.5, 12.0, "comma"), ("outcome", 0.0, 1.0, "plain"),
    ]  # fmt: skip


@given(
    texts=st.lists(st.sampled_from(["yes", "no", "f", "t", "y", "1", "1,5", "1,234", "0,1", "2.5", "x"]), min_size=1)
)
def test_no_text_of_a_column_with_a_reading_is_lost(texts):
    counts = TextCounts.of(texts)
    if counts.reading != "plain":
        assert np.isfinite(numbers_of(texts, counts.reading)).all()
    halves = TextCounts.of(texts[::2]) + TextCounts.of(texts[1::2])
    assert halves == counts
