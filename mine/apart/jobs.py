"""The jobs of a process apart: a frame in, a frame out. What a job says of its inputs is an answer, too.

Whatever else it raises is a mistake of ours, of which only the place in the program is told.
"""

from collections.abc import Callable
from typing import Any, Final

from mine.apart.private import dump_contents, dump_sums
from mine.apart.values import dump_gathered, load_gathered
from mine.data import Dataset, Match, Source, gather, inspect
from mine.data.gathering import Pass
from mine.errors import DataError, MineError, PolicyError, SchemaMismatchError, SourceAwayError
from mine.privacy.clipping import Clip
from mine.privacy.reading import Whole, contents_of, sums_of
from mine.privacy.steps import Noise
from mine.trainer import train
from sonar import canonical
from sonar.errors import SonarError
from sonar.network import NetworkError
from sonar.protocol.errors import ProtocolError
from sonar.protocol.spec import Spec
from sonar.sandbox.errors import FrameError
from sonar.sandbox.frames import Frame
from sonar.syft import EngineError, SyftError
from sonar.syft.progress import paced
from sonar.units import KeyId

__all__ = ["MOST_WORDS", "REFUSALS", "Desk"]

MOST_WORDS: Final = 4000
"""The most characters of a refusal."""
REFUSALS: Final[dict[str, type[SonarError]]] = {
    kind.__name__: kind
    for kind in (
        SchemaMismatchError,
        SourceAwayError,
        DataError,
        PolicyError,
        MineError,
        NetworkError,
        ProtocolError,
        EngineError,
        SyftError,
    )
}
"""What a job may refuse with; the more special kinds come first."""
_TOLD_EVERY: Final = 0.5
"""Seconds between two words on how far a job is."""
_MILLION: Final = 1_000_000


class Desk:
    """Does jobs by their names; `tell` is given millionths of a job that are done."""

    def __init__(self, tell: Callable[[int], None]) -> None:
        self._tell = tell
        self._jobs: dict[str, Callable[[dict[str, Any], tuple[bytes, ...]], Frame]] = {
            "gather": self._gather,
            "inspect": self._inspect,
            "recognise": self._recognise,
            "sum": self._sum,
            "learn": self._learn,
            "learn with noise": self._learn_with_noise,
            "train": self._train,
        }

    def do(self, request: Frame) -> Frame:
        """The answer to a request; raises FrameError for one that asks for no job."""
        job = self._jobs.get(request.body.get("job", ""))
        if job is None:
            raise FrameError("there is no such job")
        try:
            done = job(request.body, request.blobs)
        except tuple(REFUSALS.values()) as error:
            kind = next(name for name, kind in REFUSALS.items() if isinstance(error, kind))
            return Frame({"done": {"refused": kind, "message": str(error)[:MOST_WORDS]}})
        return Frame({"done": done.body}, done.blobs)

    def _gather(self, body: dict[str, Any], blobs: tuple[bytes, ...]) -> Frame:
        """(spec, data set, match) to the sums over its records, and what was read."""
        spec, dataset, match = blobs
        gathered, provenance = gather(
            Dataset.parse(dataset.decode()), Match.parse(match.decode()), Spec.parse(spec), body["on_bad"],
            self._progress(),
        )  # fmt: skip
        sums, matrices = dump_gathered(gathered)
        return Frame({"gathered": sums, "provenance": provenance.to_dict()}, matrices)

    def _inspect(self, _body: dict[str, Any], blobs: tuple[bytes, ...]) -> Frame:
        """(what was asked) to (data set)."""
        asked = canonical.loads(blobs[0])
        dataset = inspect(
            asked["name"], Source.of_dict(asked["source"]), tuple(asked["targets"]), ignored=tuple(asked["ignored"]),
            aliases=[(feature, column) for feature, column in asked["aliases"]],
            units=[(column, unit) for column, unit in asked["units"]],
        )  # fmt: skip
        return Frame({}, (dataset.to_text().encode(),))

    def _recognise(self, _body: dict[str, Any], blobs: tuple[bytes, ...]) -> Frame:
        """(key, data set) to the sketch of its records."""
        key, dataset = blobs
        return Frame(*dump_contents(contents_of(key, Dataset.parse(dataset.decode()), self._progress())))

    def _sum(self, body: dict[str, Any], blobs: tuple[bytes, ...]) -> Frame:
        """(spec, data set, match) to the sums over its clipped records, and what was read."""
        spec, dataset, match = blobs
        sums, provenance = sums_of(
            Dataset.parse(dataset.decode()), Match.parse(match.decode()), Spec.parse(spec), Clip(*body["clip"]),
            self._progress(),
        )  # fmt: skip
        said, matrices = dump_sums(sums)
        return Frame({"sums": said, "provenance": provenance.to_dict()}, matrices)

    def _train(self, body: dict[str, Any], blobs: tuple[bytes, ...]) -> Frame:
        """(spec, model, sums) to (gradient)."""
        spec = Spec.parse(blobs[0])
        gradient = train(
            spec, blobs[1], KeyId(bytes.fromhex(body["key"])), load_gathered(body["gathered"], blobs[2:], spec),
            allow_insecure_small_key=body["small_key"], progress=self._progress(),
        )  # fmt: skip
        return Frame({}, (gradient.payload,))

    def _learn(self, body: dict[str, Any], blobs: tuple[bytes, ...]) -> Frame:
        """(spec, data set, match, model, weights) to (gradient), and what was read."""
        from mine.networks import learn  # torch takes seconds and memory that other jobs have no use for

        spec, dataset, match, model, weights = blobs
        parsed = Spec.parse(spec)
        records = Pass(Dataset.parse(dataset.decode()), Match.parse(match.decode()), parsed, body["on_bad"])
        gradient = learn(
            parsed, model, KeyId(bytes.fromhex(body["key"])), weights, records,
            allow_insecure_small_key=body["small_key"], progress=self._progress(),
        )  # fmt: skip
        return Frame({"records": gradient.records, "provenance": records.provenance.to_dict()}, (gradient.payload,))

    def _learn_with_noise(self, body: dict[str, Any], blobs: tuple[bytes, ...]) -> Frame:
        """(spec, data set, match, model, weights) to (gradient) of noised steps, and what was read."""
        from mine.networks import learn_with_noise

        spec, dataset, match, model, weights = blobs
        parsed, (variance, clip, about) = Spec.parse(spec), body["noise"]
        records = Whole(Dataset.parse(dataset.decode()), Match.parse(match.decode()), parsed)
        gradient = learn_with_noise(
            parsed, model, KeyId(bytes.fromhex(body["key"])), weights, records, Noise(int(variance), clip, about),
            allow_insecure_small_key=body["small_key"], progress=self._progress(),
        )  # fmt: skip
        return Frame({"records": gradient.records, "provenance": records.provenance.to_dict()}, (gradient.payload,))

    def _progress(self) -> Callable[[float], None]:
        return paced(lambda done: self._tell(int(done * _MILLION)), _TOLD_EVERY)
