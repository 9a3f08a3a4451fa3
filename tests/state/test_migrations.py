"""How a database comes to the newest schema, and which databases are left alone."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, inspect, text

from capsule.errors import CapsuleHomeError
from capsule.state import SERVING, State, migrating
from capsule.state.tables import REVISION, metadata

SECOND = """
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table("notes", sa.Column("text", sa.Text(), primary_key=True))
    {rest}
"""


@pytest.fixture
def engine(target: Path | str) -> Any:
    made = create_engine(f"sqlite:///{target}" if isinstance(target, Path) else target)
    yield made
    made.dispose()


@pytest.fixture
def next_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Has this process be of a later version, whose revision makes a table and goes on with a statement."""

    def become(rest: str = "") -> None:
        directory = tmp_path / "migrations"
        shutil.copytree(migrating.migrations(), directory, ignore=shutil.ignore_patterns("__pycache__"))
        (directory / "versions" / "revision_0002.py").write_text(SECOND.format(rest=rest))
        monkeypatch.setattr(migrating, "migrations", lambda: directory)
        monkeypatch.setattr(migrating, "REVISION", "0002")

    return become


def run(engine: Engine, *statements: str) -> None:
    with engine.begin() as db:
        for statement in statements:
            db.execute(text(statement))


def tables(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names())


def revision(engine: Engine) -> str | None:
    with engine.connect() as db:
        return db.execute(text("SELECT version_num FROM alembic_version")).scalar()


def test_the_revisions_make_the_very_tables_that_the_queries_know(target: Path | str, engine: Engine) -> None:
    State(target).close()
    with engine.connect() as db:
        context = MigrationContext.configure(db, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
    inspector = inspect(engine)
    for table in metadata.sorted_tables:  # Alembic does not compare these
        wanted = [column.name for column in table.primary_key]
        assert inspector.get_pk_constraint(table.name)["constrained_columns"] == wanted
    if engine.dialect.name == "sqlite":
        with engine.connect() as db:
            listed = db.exec_driver_sql("SELECT name FROM pragma_table_list WHERE schema = 'main' AND strict").scalars()
            assert set(listed) == set(metadata.tables), "a value of another type than its column's is refused"


def test_the_newest_revision_is_the_one_that_is_told_without_alembic() -> None:
    assert ScriptDirectory(str(migrating.migrations())).get_current_head() == REVISION


def test_an_older_database_is_upgraded_when_it_is_opened_and_keeps_what_it_holds(
    target: Path | str, engine: Engine, next_revision: Callable[..., None]
) -> None:
    opened = State(target)
    opened.set(colour=b"red")
    opened.close()
    next_revision()
    again = State(target)
    assert again.setting("colour") == b"red"
    again.close()
    assert revision(engine) == "0002"
    assert "notes" in tables(engine)


def test_an_upgrade_that_fails_changes_nothing(
    target: Path | str, engine: Engine, next_revision: Callable[..., None]
) -> None:
    State(target).close()
    before = tables(engine)
    next_revision("op.execute('INSERT INTO nowhere VALUES (1)')")
    with pytest.raises(CapsuleHomeError, match="revision 0002"):
        State(target)
    assert revision(engine) == "0001"
    assert tables(engine) == before


def test_an_older_database_is_not_upgraded_by_who_only_reads_it(
    target: Path | str, engine: Engine, next_revision: Callable[..., None]
) -> None:
    State(target).close()
    next_revision()
    with pytest.raises(CapsuleHomeError, match="older version"):
        State(target, migrate=False)
    assert revision(engine) == "0001"


def test_an_older_database_that_others_serve_is_not_upgraded_under_them(
    postgres_url: str, next_revision: Callable[..., None]
) -> None:
    serving = State(postgres_url)
    claim = serving.claims.try_claim(SERVING, shared=True)
    assert claim is not None
    next_revision()
    with pytest.raises(CapsuleHomeError, match="stop it"):
        State(postgres_url)
    claim.release()
    State(postgres_url).close()
    serving.close()


def test_a_newer_database_is_refused(target: Path | str, engine: Engine) -> None:
    State(target).close()
    run(engine, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(CapsuleHomeError, match="newer version"):
        State(target)


def test_a_database_of_before_revisions_is_refused_and_left_as_it_is(target: Path | str, engine: Engine) -> None:
    run(engine, "CREATE TABLE settings (name TEXT PRIMARY KEY)", "INSERT INTO settings VALUES ('sealing')")
    with pytest.raises(CapsuleHomeError, match="before databases had revisions"):
        State(target)
    assert tables(engine) == {"settings"}


def test_somebody_elses_database_is_refused_and_left_as_it_is(target: Path | str, engine: Engine) -> None:
    run(engine, "CREATE TABLE customers (name TEXT PRIMARY KEY)")
    with pytest.raises(CapsuleHomeError, match="somebody else"):
        State(target)
    assert tables(engine) == {"customers"}


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "capsule.db"
    file.write_bytes(b"not a database" * 1000)
    with pytest.raises(CapsuleHomeError, match="backup"):
        State(file)
    assert file.read_bytes() == b"not a database" * 1000


def test_several_that_open_an_empty_database_at_once_make_it_once(target: Path | str, engine: Engine) -> None:
    barrier, failed = threading.Barrier(4), []

    def open_it() -> None:
        barrier.wait()
        try:
            State(target).close()
        except CapsuleHomeError as error:
            failed.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert revision(engine) == REVISION
