"""Fixtures of the database's tests: each runs on SQLite and on PostgreSQL."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine
from stored import AUDIT_KEY

from capsule.state import State


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    if request.param == "sqlite":
        return tmp_path / "capsule.db"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def state(target: Path | str) -> Iterator[State]:
    opened = State(target)
    opened.audit.begin(AUDIT_KEY)
    yield opened
    opened.close()


@pytest.fixture
def intruder(target: Path | str, state: State) -> Iterator[Callable[..., None]]:
    """Somebody with the database and without the key: runs statements, all in one transaction."""
    engine = create_engine(f"sqlite:///{target}" if isinstance(target, Path) else target)

    def run(*statements: Any) -> None:
        with engine.begin() as db:
            for statement in statements:
                db.execute(statement)

    yield run
    engine.dispose()
