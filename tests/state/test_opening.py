"""Which databases are opened, what is told of those that are not, and databases that go away."""

import dataclasses
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError
from stored import CAMPAIGN, admission, admit, version

from capsule.errors import CapsuleDatabaseError, CapsuleError, CapsuleHomeError, CapsuleUnavailableError
from capsule.state import (
    State,
    Told,
)


def test_what_is_not_a_database_that_a_capsule_can_use_is_refused_without_its_password(tmp_path: Path) -> None:
    for url in (
        "mysql://capsule:hunter2@db/capsule", "postgresql+asyncpg://capsule:hunter2@db/capsule", "://hunter2",
        "postgresql://capsule:hunter2@/none?host=/nowhere", "postgresql://capsule:hunter2@127.0.0.1:9/none",
        "postgresql://capsule@127.0.0.1:9/none?password=hunter2", "sqlite://", "sqlite:///:memory:", "sqlite:///x?a=b",
    ):  # fmt: skip
        with pytest.raises(CapsuleHomeError) as caught:
            State(url)
        assert "hunter2" not in str(caught.value)


def test_why_a_server_refuses_is_told_in_its_own_words(postgres: Any, postgres_url: str, tmp_path: Path) -> None:
    with pytest.raises(CapsuleHomeError, match=r"cannot be opened: .*sslmod.*: correct its URL"):
        State(postgres_url + "&sslmod=verify-full")
    name = postgres_url.partition("?")[0].rpartition("/")[2]
    with postgres.connect() as admin:
        admin.execute(f"CREATE ROLE {name} LOGIN")
        with pytest.raises(CapsuleHomeError, match="stays as it is: permission denied for"):
            State(postgres_url.replace("//postgres@", f"//{name}@"))
        admin.execute(f"DROP ROLE {name}")
    (tmp_path / "text").write_text("not a database, whatever it is called")
    with pytest.raises(CapsuleHomeError, match="text is not a Capsule's database: move it away"):
        State(tmp_path / "text")


def test_what_hinders_the_database_is_told_without_what_was_written(state: State) -> None:
    admit(state, admission(), version())
    with pytest.raises(IntegrityError) as caught:
        state.add_admission(dataclasses.replace(admission(), validation=b"s3cret"), version())
    assert "s3cret" not in str(caught.value)


def test_a_number_beyond_any_that_the_database_holds_is_told(state: State) -> None:
    with pytest.raises(CapsuleError, match="cannot hold a value"):
        state.follow(Told(10, created=((CAMPAIGN, 2**64),)), since=None)
    assert state.position() is None


def test_a_database_that_is_damaged_is_unavailable_and_says_so(tmp_path: Path) -> None:
    file = tmp_path / "capsule.db"
    opened = State(file)
    for number in range(200):
        opened.set(**{f"name {number}": b"v" * 1000})
    opened.close()
    data = file.read_bytes()
    pages = [data[place : place + 4096] for place in range(0, len(data), 4096)]
    file.write_bytes(b"".join(os.urandom(4096) if b"v" * 100 in page else page for page in pages))
    again = State(file)
    with pytest.raises(CapsuleDatabaseError, match="is damaged or was changed"):
        again.settings("name")
    again.close()


def test_a_table_that_is_gone_is_told_in_one_sentence(tmp_path: Path) -> None:
    opened = State(tmp_path / "capsule.db")
    with closing(sqlite3.connect(tmp_path / "capsule.db")) as db, db:
        db.execute("DROP TABLE settings")
    with pytest.raises(CapsuleDatabaseError, match="no such table") as caught:
        opened.setting("name")
    assert "\n" not in str(caught.value)
    opened.close()


def test_a_sqlite_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    opened = State(f"sqlite:///{tmp_path / 'capsule.db'}")
    opened.set(name=b"value")
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}
    opened.close()


def test_a_database_that_is_gone_is_unavailable_and_comes_back(postgres: Any, postgres_url: str) -> None:
    opened = State(postgres_url)
    opened.set(name=b"value")
    name = postgres_url.partition("?")[0].rpartition("/")[2]
    with postgres.connect() as admin:
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        with pytest.raises(CapsuleUnavailableError, match="cannot be used now"):
            opened.setting("name")
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    assert opened.setting("name") == b"value"
    opened.close()


def test_no_session_of_a_server_waits_without_end(postgres: Any, postgres_url: str) -> None:
    opened = State(postgres_url)
    limits = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    with opened.snapshot() as db:
        assert db.exec_driver_sql("SHOW statement_timeout").scalar() == "0"  # which may read all there is
    with opened._reading() as db:
        assert "0" not in [db.exec_driver_sql(f"SHOW {limit}").scalar() for limit in limits]
    opened.close()


def test_a_role_that_may_not_read_the_tables_is_told_so_and_not_of_damage(postgres: Any, postgres_url: str) -> None:
    State(postgres_url).close()
    name = postgres_url.partition("?")[0].rpartition("/")[2]
    with postgres.connect() as admin:
        admin.execute(f"CREATE ROLE {name} LOGIN")
    with postgres.connect(name) as owner:
        owner.execute(f"GRANT SELECT ON alembic_version TO {name}")
    stranger = State(postgres_url.replace("//postgres@", f"//{name}@"))
    with pytest.raises(CapsuleDatabaseError, match=r"permission denied for table settings.*: connect as the owner"):
        stranger.setting("name")
    stranger.close()
    with postgres.connect(name) as owner:
        owner.execute(f"REVOKE ALL ON alembic_version FROM {name}")
        owner.execute(f"DROP ROLE {name}")


def test_who_is_not_let_in_is_told_where_user_and_password_are_looked_for(postgres_url: str) -> None:
    with pytest.raises(
        CapsuleHomeError, match=r"nobody.*: check host and user in its URL, and the password in PGPASSFILE"
    ):
        State(postgres_url.replace("//postgres@", "//nobody@"))
