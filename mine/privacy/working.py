"""What the worker asks of the mechanisms: statistics or a network's round, of a data set that a process apart reads."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from mine.apart.workroom import Limits, Workroom
from mine.data import Dataset, Kind, Match, Provenance, consider, source_state
from mine.data.footprint import places_of
from mine.ledger import Ledger
from mine.privacy.charging import Unknown
from mine.privacy.clipping import Clip, IntegerSums
from mine.privacy.declared import about
from mine.privacy.release import Released, check_schedule, clip_of, private_statistics, statistic_key
from mine.privacy.rounds import Place, Round, private_round
from mine.privacy.rule import PrivacyRule
from mine.privacy.sketch import Contents
from mine.privacy.steps import Noise
from mine.trainer import Gradient
from sonar.protocol.errors import ProtocolError
from sonar.protocol.spec import MAX_SPEC_BYTES, Spec
from sonar.storage import ContentStore, StorageError
from sonar.syft import Progress
from sonar.units import digest_of

__all__ = ["Learning", "RoomReader", "gather_privately", "learn_privately"]

Learning = Callable[[Noise], tuple[Gradient, Provenance]]
"""Reads records and trains on them with noise."""
_KNOWN = 8


@dataclass(frozen=True, slots=True)
class RoomReader:
    """A data set with a campaign's features found in it, read by a process apart.

    `known` keeps what data sets hold by their state, so that they are read again only when they have changed.
    """

    room: Workroom
    data: Dataset
    match: Match
    spec: Spec
    limits: Limits
    progress: Progress
    known: dict[object, Contents] = field(default_factory=dict, repr=False)

    @property
    def dataset(self) -> str:
        """Its name."""
        return self.data.name

    @property
    def places(self) -> tuple[str, ...]:
        """The files, folder or database that it is read from."""
        return places_of(self.data.source)

    @property
    def chosen(self) -> tuple[str, ...]:
        """The columns of the features in the spec's order, and of the targets."""
        return _chosen(self.match)

    @property
    def added(self) -> str:
        """The digest of what its owner added."""
        return self.data.digest

    @property
    def declared(self) -> int:
        """About how many records there are, as of when it was added."""
        return about(self.data.records)

    def state(self) -> object:
        """What changes when its files do."""
        return source_state(self.data.source)

    def contents(self, key: bytes) -> Contents:
        """What it holds now."""
        state = self.state()
        if state is None:
            return self.room.recognise(key, self.data, self.limits, self.progress)
        if (self.data, state) not in self.known:
            found = self.room.recognise(key, self.data, self.limits, self.progress)
            while len(self.known) >= _KNOWN:
                del self.known[next(iter(self.known))]
            self.known[self.data, state] = found
        return self.known[self.data, state]

    def sums(self, clip: Clip) -> tuple[IntegerSums, Provenance]:
        """The sums over its clipped records."""
        return self.room.sum(self.data, self.match, self.spec, clip, self.limits, self.progress)


def gather_privately(
    ledger: Ledger, store: ContentStore, reader: RoomReader, rule: PrivacyRule, *, networks: bool = False,
    rehearse: bool = False,
) -> tuple[Released, Provenance]:  # fmt: skip
    """Statistics that may leave the mine, unless they are to `rehearse`, and what was read for them.

    `store` has the specs of campaigns in which this account has gradients that the ledger does not know; `networks`
    says that those of which it has none may be of networks. Raises as `private_statistics` does.
    """
    check_schedule(reader.spec)
    started = time.time()
    released = private_statistics(
        ledger, reader, reader.spec, rule,
        unknown=lambda: _unknown(ledger, store, reader.data, rule, networks=networks), rehearse=rehearse,
    )  # fmt: skip
    if released.provenance is not None:
        return released, released.provenance
    return released, _recognised(reader, released.records, started)


def learn_privately(
    ledger: Ledger,
    store: ContentStore,
    reader: RoomReader,
    rule: PrivacyRule,
    place: Place,
    prepare: Callable[[], Learning],
    *,
    rehearse: bool = False,
) -> tuple[Round, Gradient, Provenance]:
    """A network's gradient that may leave the mine, unless it is to `rehearse`, and what was read for it.

    `prepare` gets what training needs, and gives what makes a gradient with noise. `store` as for `gather_privately`.
    Raises as `private_round` does.
    """
    started, made = time.time(), list[tuple[Gradient, Provenance]]()

    def prepared() -> Callable[[Noise], bytes]:
        train = prepare()

        def trained(noise: Noise) -> bytes:
            made.append(train(noise))
            return made[0][0].payload

        return trained

    done = private_round(
        ledger, reader, reader.spec, rule, place, prepared, rehearse=rehearse,
        unknown=lambda: _unknown(ledger, store, reader.data, rule, networks=True),
    )  # fmt: skip
    if made and made[0][0].payload == done.gradient:
        return done, *made[0]
    gradient = Gradient(done.gradient, digest_of(done.gradient), done.records)
    return done, gradient, _recognised(reader, done.records, started)


def _recognised(reader: RoomReader, records: int, started: float) -> Provenance:
    """What was read where what serves was made before, in Unix seconds: so many records, and nothing for a model."""
    data = reader.data
    known = data.fingerprint if data.state == source_state(data.source) else ""
    return Provenance(
        data.name, str(data.source.kind), data.source.location, data.source.query, known, reader.chosen,
        records, records, (), int(started), time.time() - started,
    )  # fmt: skip


def _unknown(
    ledger: Ledger, store: ContentStore, data: Dataset, rule: PrivacyRule, *, networks: bool
) -> Iterator[Unknown]:
    """Gradients that this ledger does not know and that may be of this data set, with what they were made of."""
    for campaign, number in ledger.unknown_gradients():
        try:
            spec = Spec.parse(store.get(ledger.campaign(campaign).spec, max_bytes=MAX_SPEC_BYTES))
        except (ProtocolError, StorageError):
            # What it was made of cannot be found out now, and may never be: then it was made of this, too.
            yield Unknown(campaign, number, None, networks)
            continue
        if (spec.image is not None) != (data.source.kind is Kind.IMAGES):
            continue
        if spec.network is not None:
            yield Unknown(campaign, number, campaign, by_round=True)
            continue
        found = consider(data, spec, ledger.saved_match(campaign, data.name))
        # Where the owner's answers or aliases were lost as well, nobody knows which columns it was.
        yield Unknown(
            campaign, number, None if found.unsure else statistic_key(spec, _chosen(found), clip_of(spec, rule))
        )


def _chosen(found: Match) -> tuple[str, ...]:
    return (*found.columns, *found.target_columns)
