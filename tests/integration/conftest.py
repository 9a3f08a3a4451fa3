"""What integration tests share: real processes, started and ended by their own handles."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sonar.processes import Child

ROOT = Path(__file__).parents[2]


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    """Starts a Python process that is stopped when the test ends: spawn(name, *arguments, speaks=, env=)."""
    with ExitStack() as stack:

        def start(name: str, *arguments: str, speaks: bool = False, env: dict[str, str] | None = None) -> Child:
            child = Child(name, [sys.executable, *arguments], log=tmp_path / f"{name}.log", speaks=speaks, env=env)
            stack.callback(child.stop)
            return child

        yield start
