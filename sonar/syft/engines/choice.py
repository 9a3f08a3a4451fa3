"""Which engine does the arithmetic: the one that is asked for, else SONAR_ENGINE's, else the fastest that works here.

Nothing is chosen, loaded or started by an import; the first use does.
"""

import os
from functools import cache
from importlib import import_module
from typing import Final

from sonar.syft.engines.base import Engine
from sonar.syft.errors import EngineError

__all__ = ["ENGINES", "get_engine", "why_unusable"]

ENGINES: Final = {
    "native": ("sonar.syft.engines.native_engine", "NativeEngine"),
    "gmpy2": ("sonar.syft.engines.gmpy2_engine", "Gmpy2Engine"),
    "phe": ("sonar.syft.engines.phe_engine", "PheEngine"),
}
"""Module and class of every engine, the fastest first."""

_VARIABLE: Final = "SONAR_ENGINE"
_WORKERS_VARIABLE: Final = "SONAR_ENGINE_WORKERS"
_MOST_WORKERS: Final = 1024


def get_engine(engine: Engine | str | None = None, *, workers: int | None = None) -> Engine:
    """The engine of this name, made once; an engine is returned as it is.

    Without a name SONAR_ENGINE decides, and without that what works here. `workers` (else SONAR_ENGINE_WORKERS, else
    the cores that this process may use) is how many threads or processes it keeps busy at most. Raises EngineError for
    an unknown name, an engine that was asked for and cannot work here, and workers that are not 1 to 1024.
    """
    if isinstance(engine, Engine):
        return engine
    name = engine or os.environ.get(_VARIABLE) or _fastest()
    return _made(name, _workers() if workers is None else _checked(workers, "workers"))


def why_unusable(name: str) -> str | None:
    """Why an engine cannot work here, in a sentence; None where it can. Raises EngineError for an unknown name."""
    try:
        return _class(name).unusable()
    except ImportError as error:
        return f"its package is not installed: {error}"


def _fastest() -> str:
    return next(name for name in ENGINES if why_unusable(name) is None)


@cache
def _made(name: str, workers: int) -> Engine:
    reason = why_unusable(name)
    if reason is not None:
        raise EngineError(f"the engine {name!r} cannot be used: {reason}")
    return _class(name)(workers)


def _class(name: str) -> type[Engine]:
    if name not in ENGINES:
        raise EngineError(f"there is no engine {name!r}: choose one of {', '.join(ENGINES)}")
    module, attribute = ENGINES[name]
    found: type[Engine] = getattr(import_module(module), attribute)
    return found


def _workers() -> int:
    given = os.environ.get(_WORKERS_VARIABLE)
    if not given:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return _checked(int(given) if given.isdecimal() else given, _WORKERS_VARIABLE)


def _checked(workers: object, what: str) -> int:
    if type(workers) is not int or not 1 <= workers <= _MOST_WORKERS:
        raise EngineError(f"{what} is {workers!r}: set it to a number of cores from 1 to {_MOST_WORKERS}")
    return workers
