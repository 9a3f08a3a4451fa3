"""A mine's process that reads records apart: it may have been taken over by them, and say anything."""

from collections.abc import Iterator

import numpy as np

from hostile.capsules import frame_of, json_head
from hostile.target import Target
from mine.apart.private import dump_contents, dump_sums, load_contents, load_sums
from mine.apart.values import dump_gathered, load_gathered, load_provenance
from mine.data import Dataset, Kind, Match, Provenance, Source
from mine.data.links import How, Link
from mine.privacy.clipping import Clip, IntegerSums
from mine.privacy.sketch import Sketcher
from sonar.protocol.spec import Feature, Payout, Spec
from sonar.sandbox import Frame, FrameError
from sonar.sandbox.frames import encode
from sonar.syft import Statistics

__all__ = ["targets"]

_CLIP = Clip.of(2, 1.0, 1.0)


def targets() -> Iterator[Target]:
    """Each kind of answer in a frame."""
    spec = Spec.build(
        name="small", features=(Feature(name="a"), Feature(name="b")), classes=("0", "1"), payout=Payout(target=10**6)
    )
    rng = np.random.default_rng(1)
    values, labels = rng.normal(size=(40, 2)), rng.integers(0, 2, 40)
    batch = np.hstack([values, np.ones((40, 1))]), np.eye(2)[labels]
    dataset = Dataset("d", Source(Kind.CSV, "/d.csv"), ("y",), (), (), 40)
    match = Match("d", "small", (Link("a", "a", How.EXACT, ""),), (Link("y", "y", How.EXACT, ""),))
    provenance = Provenance(
        "d", "csv", "/d.csv", None, "ab" * 32, ("a", "y"), 40, 40, (("missing", 1),), 1, 0.5
    ).to_dict()

    def framed(said: dict[str, object], blobs: tuple[bytes, ...]) -> bytes:
        return b"".join(encode(Frame(said, blobs)))

    sums, matrices = dump_gathered(Statistics.of([batch], 3, 2))
    gathered = framed({"gathered": sums, "provenance": provenance}, matrices)

    def read_gathered(data: bytes) -> object:
        frame = frame_of(data)
        found = load_gathered(frame.body.get("gathered"), frame.blobs, spec)
        return found, load_provenance(frame.body.get("provenance"), dataset, match, found.records)

    yield Target("apart-gathered", read_gathered, (FrameError,), (gathered,), (json_head,))

    sketcher = Sketcher(bytes(32), 2)
    sketcher.add(values, ["0", "1"], labels)

    def read_sketch(data: bytes) -> object:
        frame = frame_of(data)
        return load_contents(frame.body, frame.blobs)

    yield Target("apart-sketch", read_sketch, (FrameError,), (framed(*dump_contents(sketcher.finish())),), (json_head,))

    def read_sums(data: bytes) -> object:
        frame = frame_of(data)
        return load_sums(frame.body, frame.blobs, spec, _CLIP)

    clipped = framed(*dump_sums(IntegerSums.of([batch], 3, 2, _CLIP)))
    yield Target("apart-sums", read_sums, (FrameError,), (clipped,), (json_head,))
