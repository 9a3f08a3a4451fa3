"""PostgreSQL as a source: a table or a query in pieces, read only, with a password that nobody is told."""

import numpy as np
import psycopg
import pytest

from mine.data import Source, file_state, gather, inspect, match
from mine.errors import DataError
from sonar.protocol.spec import Spec

SPEC = Spec.build(
    target_column="outcome",
    name="test", features=({"name": "x"}, {"name": "ok", "type": "boolean"}), classes=("no", "yes"), min_records=2,
    payout={"target": 900_000},
)  # fmt: skip
ROWS = 20_000


@pytest.fixture
def clinic(postgres_url):
    """The URL, as libpq takes it, of a database with a table of visits."""
    url = postgres_url.replace("postgresql+psycopg", "postgresql")
    with psycopg.connect(url) as db:
        db.execute("CREATE TABLE visits (x numeric, ok boolean, born date, note text, outcome text)")
        db.execute(
            "INSERT INTO visits SELECT n / 4.0, n % 2 = 0, '1980-01-01', '50 %', CASE n % 3 WHEN 0 THEN 'yes' ELSE "
            f"'no' END FROM generate_series(0, {ROWS - 1}) n"
        )
    return url


@pytest.mark.parametrize(
    "asked",
    [{"table": "visits"}, {"table": "public.visits"}, {"query": "SELECT * FROM visits WHERE note LIKE '%';"}],
    ids=["table", "schema and table", "query with a percent sign"],
)
def test_a_table_or_query_is_summed_up_in_pieces(clinic, asked):
    dataset = inspect("clinic", Source.of(clinic, **asked), "outcome")
    assert dataset.records == ROWS
    assert [(c.name, c.type) for c in dataset.columns if c.name != "outcome"] == [("x", "number"), ("ok", "boolean")]
    assert set(dataset.left) == {"born", "note"}
    found, read = gather(dataset, match(dataset, SPEC), SPEC)
    assert (read.rows, read.kind, file_state(dataset)) == (ROWS, "postgres", None)
    assert found.moment[-1].tolist() == [ROWS - (ROWS + 2) // 3, (ROWS + 2) // 3]
    np.testing.assert_allclose(found.gram[-1, 1], ROWS / 2)


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM visits RETURNING *",
        "INSERT INTO visits (x) VALUES (1) RETURNING *",
        "SELECT 1; DROP TABLE visits",
        "SELECT 1; COMMIT; DROP TABLE visits",
        "DROP TABLE visits",
        "COPY visits TO '/tmp/x'",
        "WITH gone AS (DELETE FROM visits RETURNING *) SELECT * FROM gone",
        "SELECT setval('s', 5)",
        "SELECT x FROM nowhere",
        "SELECT 'a' AS outcome, 1 AS x, 2 AS x",
    ],
)
def test_a_query_that_writes_or_cannot_be_is_refused(clinic, query):
    with psycopg.connect(clinic) as db:
        db.execute("CREATE SEQUENCE s")
    with pytest.raises(DataError):
        inspect("clinic", Source.of(clinic, query=query), "outcome")
    with psycopg.connect(clinic) as db:
        assert db.execute("SELECT count(*) FROM visits").fetchone() == (ROWS,)
        assert db.execute("SELECT last_value FROM s").fetchone() == (1,)


def test_a_server_that_is_away_or_refuses_is_told_without_the_password(clinic, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "hunter2")
    with pytest.raises(DataError, match="cannot be read") as caught:
        inspect("clinic", Source.of(clinic.replace("postgres@", "nobody@"), table="visits"), "outcome")
    assert "hunter2" not in str(caught.value)
    dataset = inspect("clinic", Source.of(clinic, table="visits"), "outcome")
    assert "hunter2" not in repr(dataset) + dataset.to_text()


def test_no_error_repeats_a_value(clinic):
    query = "SELECT x, CASE WHEN x > 0 THEN 'hunter2' ELSE '1' END::integer AS outcome FROM visits"
    with pytest.raises(
        DataError, match=r"has a value that the query cannot take \(InvalidTextRepresentation\)"
    ) as caught:
        inspect("clinic", Source.of(clinic, query=query), "outcome")
    assert "hunter2" not in str(caught.value)


def test_an_empty_table_is_refused(clinic):
    with pytest.raises(DataError, match="no records"):
        inspect("clinic", Source.of(clinic, query="SELECT * FROM visits WHERE false"), "outcome")
