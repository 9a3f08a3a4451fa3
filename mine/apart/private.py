"""What a process apart says for differential privacy: by what records are recognised, and their clipped sums.

Sums are checked to be ones that so many clipped records can have. That they are those of the data set no check can
tell: a reader that was taken over could also say what it likes without privacy.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mine.privacy.clipping import SENSITIVITY, Clip, IntegerSums
from mine.privacy.sketch import KEPT_COLUMNS, KEPT_PARTS, KEPT_ROWS, KEPT_VALUES, Contents
from sonar.protocol.spec import Spec
from sonar.sandbox.errors import FrameError

__all__ = ["MAX_SKETCH_BYTES", "dump_contents", "dump_sums", "load_contents", "load_sums", "sums_size"]

MAX_SKETCH_BYTES = 8 * (4 + KEPT_ROWS + (KEPT_COLUMNS + KEPT_PARTS) * (1 + KEPT_VALUES))
_DIGEST = 24
_INT = np.dtype("<i8")


class _Contents(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    digest: Annotated[str, Field(pattern=f"^[0-9a-f]{{{2 * _DIGEST}}}$")]
    records: Annotated[int, Field(ge=0, le=1 << 62)]


def dump_contents(contents: Contents) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    """What a data set holds, for a frame."""
    return {"digest": contents.digest.hex(), "records": contents.records}, (contents.to_bytes(),)


def load_contents(body: Any, blobs: Sequence[bytes]) -> Contents:
    """What `dump_contents` wrote; raises FrameError for anything else."""
    try:
        found = _Contents.model_validate(body)
        (sketch,) = blobs
        return Contents.parse(bytes.fromhex(found.digest), found.records, sketch)
    except (ValidationError, ValueError) as error:
        raise FrameError("there is no sketch in it") from error


def dump_sums(sums: IntegerSums) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    """Clipped sums, for a frame."""
    return {"records": sums.records}, tuple(matrix.astype(_INT).tobytes() for matrix in (sums.gram, sums.moment))


def load_sums(body: Any, blobs: Sequence[bytes], spec: Spec, clip: Clip) -> IntegerSums:
    """What `dump_sums` wrote for a spec and a clip; raises FrameError for sums that no records of that clip have."""
    features, outputs = spec.shape
    records = body.get("records") if isinstance(body, dict) and len(body) == 1 else None
    if type(records) is not int or not 0 <= records < 1 << 31 or [len(blob) for blob in blobs] != [
        _INT.itemsize * features * features, _INT.itemsize * features * outputs
    ]:  # fmt: skip
        raise FrameError("there are no sums in it")
    gram, moment = (np.frombuffer(blob, dtype=_INT).astype(np.int64) for blob in blobs)
    sums = IntegerSums(
        clip, gram.reshape(features, features), moment.reshape(features, outputs), spec.training.class_weights, records
    )
    most = records * SENSITIVITY
    if (sums.gram != sums.gram.T).any() or not all(
        ((matrix >= -most) & (matrix <= most)).all() for matrix in (gram, moment)
    ):
        raise FrameError(f"sums that {records} clipped records cannot have")
    return sums


def sums_size(spec: Spec) -> int:
    """The most bytes of their matrices."""
    features, outputs = spec.shape
    return _INT.itemsize * features * (features + outputs)
