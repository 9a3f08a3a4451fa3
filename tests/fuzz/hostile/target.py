"""What a decoder of bytes from outside promises, and the check of one input against it."""

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from traceback import walk_tb

from pydantic import ValidationError

from hostile.mutations import Mutation

__all__ = ["BrokenPromiseError", "Target", "check"]

_MEMORY_KIB = 96 << 10
"""By how much one small input may raise the most memory that the process ever held."""
_LONGEST_MESSAGE = 4_000
_HOUSE = ("sonar", "capsule", "mine", "pysonar")


class BrokenPromiseError(AssertionError):
    """A decoder did with an input what it promises never to do."""


@dataclass(frozen=True)
class Target:
    """A decoder: what it reads, what it raises for all else (and nothing besides), and inputs that it takes.

    `mutations` are those that know its format; mutations of plain bytes come to them. `again` writes what was read:
    a decoder of canonical bytes gives the same bytes. `weight` is its part of the inputs: a slow decoder gets fewer.
    One input may cost `seconds` of this process's time on a processor. `samples` says that the seeds are not all taken:
    they are of the decoder's form, and that is enough.
    """

    name: str
    decode: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]
    seeds: tuple[bytes, ...]
    mutations: tuple[Mutation, ...] = ()
    again: Callable[[object], bytes] | None = None
    weight: float = 1.0
    samples: bool = False
    seconds: float = 5.0


def check(target: Target, data: bytes) -> str:
    """Where the input ended: "taken", or the error and the line of the house that refused it.

    Raises BrokenPromiseError for another error, one without a message or with a very long one, for bytes that are
    taken though they are not those that would be written, and for too much time or memory.
    """
    started, before = time.process_time(), _peak()
    try:
        ended = _outcome(target, data)
    except BrokenPromiseError:
        raise
    except Exception as error:
        raise BrokenPromiseError(f"{type(error).__name__}, which {target.name} does not promise: {error!r:.300}") from (
            error
        )
    spent, grown = time.process_time() - started, _peak() - before
    if spent > target.seconds:
        raise BrokenPromiseError(f"{len(data)} bytes took {spent:.1f} s of processor time")
    if grown > _MEMORY_KIB:
        raise BrokenPromiseError(f"{len(data)} bytes took {grown >> 10} MiB of memory")
    return ended


def _outcome(target: Target, data: bytes) -> str:
    try:
        value = target.decode(data)
    except target.errors as error:
        message = str(error)
        if not message or len(message) > _LONGEST_MESSAGE:
            raise BrokenPromiseError(f"{type(error).__name__} with a message of {len(message)} characters") from error
        return f"{type(error).__name__} {_place(error)}"
    if target.again is not None and (written := target.again(value)) != data:
        raise BrokenPromiseError(f"{len(data)} bytes were taken that would be written as {len(written)} others")
    return "taken"


def _place(error: BaseException) -> str:
    """The innermost line of the house's own code, and the kind of error below it."""
    frames = [
        (frame.f_code.co_filename, line) for frame, line in walk_tb(error.__traceback__) if _is_ours(frame.f_code)
    ]
    if not frames:  # it comes from the target itself, which heard of a refusal
        return str(error)[:30]
    file, line = frames[-1]
    return f"{Path(file).name}:{line} {_cause(error.__cause__)}".strip()


def _cause(error: BaseException | None) -> str:
    """The kind of an error, with the first field that pydantic found fault with."""
    if not isinstance(error, ValidationError):
        return "" if error is None else type(error).__name__
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = [str(part) for part in first["loc"] if isinstance(part, str) and part.isidentifier()]
    return f"{first['type']} {'.'.join(place[:2])}"


def _is_ours(code: object) -> bool:
    parts = Path(getattr(code, "co_filename", "")).parts
    return "site-packages" not in parts and any(part in _HOUSE for part in parts)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
