"""Sums and records of reading as frames: JSON for what is short, little-endian float64 for matrices.

What comes from a process apart is checked to the last field: it may have been taken over by what it read.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mine.data import Dataset, Match, Provenance
from sonar.protocol.spec import Spec
from sonar.sandbox.errors import FrameError
from sonar.syft.encoding import Floats
from sonar.syft.epoch import Epoch
from sonar.syft.schedule import Gathered
from sonar.syft.statistics import Statistics

__all__ = ["dump_gathered", "gathered_size", "load_gathered", "load_provenance", "pack", "unpack"]

_FLOAT = np.dtype("<f8")
_Model = TypeVar("_Model", bound=BaseModel)
_Words = Annotated[str, Field(max_length=200_000)]
_Count = Annotated[int, Field(ge=0, le=1 << 62)]
_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class _Statistics(_Strict):
    kind: Literal["statistics"]
    records: _Count
    weight: _Amount
    squares: _Amount


class _Epoch(_Strict):
    kind: Literal["epoch"]
    records: _Count
    effective_records: _Amount
    effective_batch: _Amount


class _Provenance(_Strict):
    dataset: _Words
    kind: _Words
    location: _Words
    query: _Words | None
    fingerprint: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    columns: Annotated[list[_Words], Field(max_length=100_000)]
    rows: _Count
    used: _Count
    dropped: Annotated[dict[str, _Count], Field(max_length=1000)]
    started: _Count
    seconds: _Amount


def pack(matrix: Floats) -> bytes:
    """A matrix's float64, row by row."""
    return np.ascontiguousarray(matrix, dtype=_FLOAT).tobytes()


def unpack(data: bytes, shape: tuple[int, int]) -> Floats:
    """The matrix of a shape; raises FrameError for another size and values that are not finite."""
    if len(data) != math.prod(shape) * _FLOAT.itemsize:
        raise FrameError(f"{len(data)} bytes are no matrix of shape {shape}")
    matrix: Floats = np.frombuffer(data, dtype=_FLOAT).astype(np.float64).reshape(shape)
    if not np.isfinite(matrix).all():
        raise FrameError("a matrix has values that are not finite")
    return matrix


def dump_gathered(gathered: Gathered) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    """What a pass has left, for a frame."""
    if isinstance(gathered, Epoch):
        body = {"kind": "epoch", "records": gathered.records, "effective_records": float(gathered.effective_records),
                "effective_batch": float(gathered.effective_batch)}  # fmt: skip
        return body, (pack(gathered.augmented),)
    body = {"kind": "statistics", "records": gathered.records, "weight": float(gathered.weight),
            "squares": float(gathered.squares)}  # fmt: skip
    return body, (pack(gathered.gram), pack(gathered.moment))


def load_gathered(body: Any, blobs: Sequence[bytes], spec: Spec) -> Gathered:
    """What `dump_gathered` wrote for a spec; raises FrameError for anything else."""
    features, outputs = spec.shape
    if spec.training.batch_size is not None:
        epoch = _checked(_Epoch, body)
        (augmented,) = _of(blobs, 1)
        return Epoch(
            unpack(augmented, (features, features + outputs)), epoch.records, epoch.effective_records,
            epoch.effective_batch,
        )  # fmt: skip
    found = _checked(_Statistics, body)
    gram, moment = _of(blobs, 2)
    return Statistics(
        unpack(gram, (features, features)), unpack(moment, (features, outputs)), found.records, found.weight,
        found.squares, spec.training.class_weights,
    )  # fmt: skip


def gathered_size(spec: Spec) -> int:
    """The most bytes of its matrices."""
    features, outputs = spec.shape
    return _FLOAT.itemsize * features * (features + outputs)


def load_provenance(body: Any, dataset: Dataset, match: Match, records: int) -> Provenance:
    """What `Provenance.to_dict` gave of a data set that fits as `match` says, and left `records` of it.

    Raises FrameError for anything else: what the owner's log tells of the source is what the owner named.
    """
    found = _checked(_Provenance, body)
    source = dataset.source
    wanted = {
        "dataset": dataset.name, "kind": str(source.kind), "location": source.location, "query": source.query,
        "columns": [*match.columns, *match.target_columns], "used": records, "rows": max(found.rows, records),
    }  # fmt: skip
    if wrong := [name for name, value in wanted.items() if getattr(found, name) != value]:
        raise FrameError(f"it tells of other records than were asked for ({', '.join(wrong)})")
    return Provenance(
        found.dataset, found.kind, found.location, found.query, found.fingerprint, tuple(found.columns), found.rows,
        found.used, tuple(found.dropped.items()), found.started, found.seconds,
    )  # fmt: skip


def _of(blobs: Sequence[bytes], count: int) -> Sequence[bytes]:
    if len(blobs) != count:
        raise FrameError(f"there are {len(blobs)} blobs in place of {count}")
    return blobs


def _checked(kind: type[_Model], body: Any) -> _Model:
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        raise FrameError(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}") from error
