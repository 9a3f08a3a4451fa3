"""Reading and training as the mine asks for them: a process for each job, and answers that are checked."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from mine.apart.database import Server
from mine.apart.jobs import MOST_WORDS, REFUSALS, Desk
from mine.apart.places import Access, access_of, program_places
from mine.apart.private import MAX_SKETCH_BYTES, load_contents, load_sums, sums_size
from mine.apart.values import dump_gathered, gathered_size, load_gathered, load_provenance
from mine.data import Dataset, Match, OnBad, Provenance, Source
from mine.errors import ApartError, DataError
from mine.privacy.clipping import Clip, IntegerSums
from mine.privacy.sketch import Contents
from mine.privacy.steps import Noise
from mine.trainer import Gradient
from sonar import canonical
from sonar.protocol.spec import Spec
from sonar.sandbox import Frame, FrameError, JobLostError, Loss, Process, ProcessError
from sonar.sandbox.environment import inherited_environment
from sonar.syft import Progress
from sonar.syft.schedule import Gathered
from sonar.units import KeyId, digest_of

__all__ = ["Limits", "Workroom"]

_THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "SONAR_ENGINE_WORKERS")
_MILLION: Final = 1_000_000
_ENTER_SECONDS: Final = 60.0
_HEADER: Final = 1 << 16
_MOST_DATASET: Final = 1 << 26
_LASTING: Final = {Loss.TIME, Loss.MEMORY, Loss.FAILURE, Loss.LIE}
"""How a job is lost that would be lost again."""
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one job may use: `seconds` on the wall clock, `threads` (0: one a core), `memory` bytes of address space."""

    seconds: float = 3600
    threads: int = 0
    niceness: int = 10
    memory: int = 8 << 30


class _Reader(Process):
    called = "process that reads and trains"


class Workroom:
    """Does the jobs that need no key. For one thread.

    `warn` is told of each thing that this system cannot keep such a process from. A folder of images that holds the
    mine's `home` is refused. With `insecurely_in_this_process` jobs are done here, for tests of something else.
    """

    def __init__(
        self, warn: Callable[[str], None], *, allow_insecure_small_key: bool = False,
        insecurely_in_this_process: bool = False, home: Path | None = None,
    ) -> None:  # fmt: skip
        self._warn = warn
        self._home = home
        self._small_key = allow_insecure_small_key
        self._here = insecurely_in_this_process
        self.kept: dict[str, str | None] = {}
        """What the last process could not be kept from, by `files` and `network`: why, or None where it was."""

    def inspect(
        self,
        name: str,
        source: Source,
        targets: Sequence[str],
        *,
        ignored: Sequence[str] = (),
        aliases: Sequence[tuple[str, str]] = (),
        units: Sequence[tuple[str, str]] = (),
        limits: Limits,
    ) -> Dataset:
        """What a source holds, for the ledger; raises as `mine.data.inspect`, and ApartError."""
        asked = {"name": name, "source": source.to_dict(), "targets": list(targets), "ignored": list(ignored),
                 "aliases": [list(pair) for pair in aliases], "units": [list(pair) for pair in units]}  # fmt: skip

        def understand(answer: Frame) -> Dataset:
            if answer.body["done"] or len(answer.blobs) != 1:
                raise FrameError("there is no data set in it")
            try:
                found = Dataset.parse(answer.blobs[0].decode())
            except (DataError, UnicodeDecodeError) as error:
                raise FrameError(f"there is no data set in it: {error}") from error
            # What is read from now on is where the owner said, and nowhere else.
            if (found.name, found.source, sorted(found.aliases)) != (name, source, sorted(aliases)):
                raise FrameError("it is about another source than was asked for")
            return found

        request = Frame({"job": "inspect"}, (canonical.dumps(asked),))
        return self._do(request, understand, limits, lambda _: None, _MOST_DATASET, source)

    def gather(
        self, dataset: Dataset, match: Match, spec: Spec, on_bad: OnBad, limits: Limits, progress: Progress
    ) -> tuple[Gathered, Provenance]:
        """What the campaign's schedule needs of a data set, and what was read for it; raises as `mine.data.gather`.

        Raises ApartError where the process cannot do it.
        """
        body = {"job": "gather", "on_bad": on_bad}

        def understand(answer: Frame) -> tuple[Gathered, Provenance]:
            done = answer.body["done"]
            if done.keys() != {"gathered", "provenance"}:
                raise FrameError("there are no sums in it")
            gathered = load_gathered(done["gathered"], answer.blobs, spec)
            return gathered, load_provenance(done["provenance"], dataset, match, gathered.records)

        request = Frame(body, (spec.to_bytes(), *_texts(dataset, match)))
        return self._do(request, understand, limits, progress, gathered_size(spec), dataset.source)

    def recognise(self, key: bytes, dataset: Dataset, limits: Limits, progress: Progress) -> Contents:
        """What a data set holds, under the key by which records are recognised; raises DataError and ApartError."""

        def understand(answer: Frame) -> Contents:
            return load_contents(answer.body["done"], answer.blobs)

        request = Frame({"job": "recognise"}, (key, *_texts(dataset)))
        return self._do(request, understand, limits, progress, MAX_SKETCH_BYTES, dataset.source)

    def sum(
        self, dataset: Dataset, match: Match, spec: Spec, clip: Clip, limits: Limits, progress: Progress
    ) -> tuple[IntegerSums, Provenance]:
        """The sums over a data set's clipped records, and what was read; raises as `sums_of` does, and ApartError."""
        body = {"job": "sum", "clip": [clip.rows, clip.targets]}

        def understand(answer: Frame) -> tuple[IntegerSums, Provenance]:
            done = answer.body["done"]
            if done.keys() != {"sums", "provenance"}:
                raise FrameError("there are no sums in it")
            sums = load_sums(done["sums"], answer.blobs, spec, clip)
            return sums, load_provenance(done["provenance"], dataset, match, sums.records)

        request = Frame(body, (spec.to_bytes(), *_texts(dataset, match)))
        return self._do(request, understand, limits, progress, sums_size(spec), dataset.source)

    def train(
        self, spec: Spec, model: bytes, key: KeyId, gathered: Gathered, limits: Limits, progress: Progress
    ) -> Gradient:
        """The gradient of what was gathered on a model under `key`; raises as `mine.trainer.train`, and ApartError."""
        sums, matrices = dump_gathered(gathered)
        body = {"job": "train", "key": key.hex(), "gathered": sums, "small_key": self._small_key}

        def understand(answer: Frame) -> Gradient:
            if answer.body["done"] or len(answer.blobs) != 1:
                raise FrameError("there is no gradient in it")
            return Gradient(answer.blobs[0], digest_of(answer.blobs[0]), gathered.records)

        request = Frame(body, (spec.to_bytes(), model, *matrices))
        # It has at most as many ciphertexts as the model.
        return self._do(request, understand, limits, progress, len(model) + _HEADER)

    def learn(
        self,
        spec: Spec,
        model: bytes,
        key: KeyId,
        weights: bytes,
        dataset: Dataset,
        match: Match,
        on_bad: OnBad,
        limits: Limits,
        progress: Progress,
    ) -> tuple[Gradient, Provenance]:
        """The gradient of a data set's records on a network's weights, and what was read; raises as
        `mine.networks.learn`, and ApartError.
        """
        body = {"job": "learn", "key": key.hex(), "on_bad": on_bad, "small_key": self._small_key}
        return self._learned(Frame(body, (spec.to_bytes(), *_texts(dataset, match), model, weights)), dataset, match,
                             limits, progress)  # fmt: skip

    def learn_with_noise(
        self,
        spec: Spec,
        model: bytes,
        key: KeyId,
        weights: bytes,
        dataset: Dataset,
        match: Match,
        noise: Noise,
        limits: Limits,
        progress: Progress,
    ) -> tuple[Gradient, Provenance]:
        """The same of noised steps; raises as `mine.networks.learn_with_noise`, and ApartError."""
        drawn = [str(noise.variance), noise.clip, noise.records]
        body = {"job": "learn with noise", "key": key.hex(), "noise": drawn, "small_key": self._small_key}
        return self._learned(Frame(body, (spec.to_bytes(), *_texts(dataset, match), model, weights)), dataset, match,
                             limits, progress)  # fmt: skip

    # ---- inside

    def _learned(
        self, request: Frame, dataset: Dataset, match: Match, limits: Limits, progress: Progress
    ) -> tuple[Gradient, Provenance]:
        def understand(answer: Frame) -> tuple[Gradient, Provenance]:
            done = answer.body["done"]
            if done.keys() != {"records", "provenance"} or len(answer.blobs) != 1:
                raise FrameError("there is no gradient in it")
            (payload,), records = answer.blobs, done["records"]
            read = load_provenance(done["provenance"], dataset, match, records)
            return Gradient(payload, digest_of(payload), records), read

        _, _, _, model, _ = request.blobs
        return self._do(request, understand, limits, progress, len(model) + _HEADER, dataset.source)

    def _do(
        self,
        request: Frame,
        understand: Callable[[Frame], Answer],
        limits: Limits,
        progress: Progress,
        most: int,
        source: Source | None = None,
    ) -> Answer:
        def tell(told: Any) -> None:
            if type(told) is not int or not 0 <= told <= _MILLION:
                raise FrameError("it tells of progress that there cannot be")
            progress(told / _MILLION)

        def read(answer: Frame) -> Answer:
            _raise_refusal(answer)
            return understand(answer)

        if self._here:
            return read(Desk(tell).do(request))
        try:
            process = self._enter(limits, source)
            try:
                return process.ask(request, read, seconds=limits.seconds, most=most, tell=tell)
            finally:
                process.end()
        except ProcessError as error:
            raise ApartError(str(error), lasting=False) from error
        except JobLostError as error:
            hint = {
                Loss.TIME: ": raise `longest_training` in [work] of the policy if it may take longer",
                Loss.MEMORY: ": raise `memory_gib` in [work] of the policy if it may take more",
            }
            raise ApartError(f"{error}{hint.get(error.loss, '')}", lasting=error.loss in _LASTING) from error

    def _enter(self, limits: Limits, source: Source | None) -> Process:
        """A process that has restricted itself to a source's places."""
        command = [
            sys.executable, "-P", "-m", "mine.apart", "--memory", str(limits.memory), "--niceness", str(limits.niceness)
        ]  # fmt: skip
        access = Access(()) if source is None else access_of(source, self._home)
        server = access.server
        process = _Reader(command, _environment(limits, server), limits.memory)
        body = {"server": None if server is None else {"ports": list(server.ports), "unix": server.unix}}
        places = _joined([*program_places(), *access.readable]), _joined(access.listed)
        self.kept = process.ask(Frame(body, places), _kept, seconds=_ENTER_SECONDS, most=0)
        for what, why in self.kept.items():
            if why is not None:
                self._warn(f"what reads and trains cannot be kept from {_FORBIDDEN[what]}: {why}")
        return process


def _texts(dataset: Dataset, match: Match | None = None) -> tuple[bytes, ...]:
    """A data set, and how it fits, as blobs: with thousands of columns they are long."""
    texts = (dataset.to_text(),) if match is None else (dataset.to_text(), match.require().to_text())
    return tuple(text.encode() for text in texts)


def _joined(paths: Sequence[Path]) -> bytes:
    """Paths in the bytes that they have on the disk, which need be no text."""
    return b"".join(os.fsencode(path) + b"\0" for path in paths)


_FORBIDDEN: Final = {"files": "files that it does not need", "network": "the network"}


def _kept(answer: Frame) -> dict[str, str | None]:
    done: dict[str, str | None] = answer.body["done"]
    if done.keys() != {"files", "network"} or not all(why is None or isinstance(why, str) for why in done.values()):
        raise FrameError("it does not say how it is kept")
    return {what: None if why is None else why[:MOST_WORDS] for what, why in done.items()}


def _raise_refusal(answer: Frame) -> None:
    done = answer.body["done"]
    if "refused" not in done:
        return
    if done.keys() != {"refused", "message"} or done["refused"] not in REFUSALS or answer.blobs:
        raise FrameError("it refuses in no words of ours")
    message = done["message"]
    if not isinstance(message, str) or len(message) > MOST_WORDS:
        raise FrameError("it refuses at too great a length")
    raise REFUSALS[done["refused"]](message)


def _environment(limits: Limits, server: Server | None) -> dict[str, str]:
    """What Python needs and the number of threads; of a reader of a database also what libpq reads."""
    threads = dict.fromkeys(_THREADS, str(limits.threads)) if limits.threads else {}
    database: dict[str, str] = {}
    if server is not None:
        given = {name: value for name, value in os.environ.items() if name.startswith("PG") or name == "HOME"}
        database = {**given, **server.environment}
    return {**inherited_environment(), **threads, **database, "PYTHONDONTWRITEBYTECODE": "1", "MALLOC_ARENA_MAX": "2"}
