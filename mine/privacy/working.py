"""What the worker asks of the mechanism: statistics of a data set for a campaign, read by the process apart."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from mine.apart.workroom import Limits, Workroom
from mine.data import Dataset, How, Match, OnBad, Provenance, consider, source_state
from mine.ledger import Ledger
from mine.privacy.clipping import Clip, IntegerSums
from mine.privacy.release import Released, check_schedule, clip_of, private_statistics, statistic_key
from mine.privacy.rule import PrivacyRule
from mine.privacy.sketch import Contents
from sonar.protocol.errors import ProtocolError
from sonar.protocol.spec import MAX_SPEC_BYTES, Spec
from sonar.storage import ContentStore, StorageError
from sonar.syft import Progress
from sonar.units import CampaignId

__all__ = ["RoomReader", "gather_privately"]

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
    on_bad: OnBad
    limits: Limits
    progress: Progress
    known: dict[object, Contents] = field(default_factory=dict, repr=False)

    @property
    def dataset(self) -> str:
        """Its name."""
        return self.data.name

    @property
    def origin(self) -> str:
        """Its source, with the query if it has one."""
        source = self.data.source
        return f"{source.location} {source.query}" if source.query else source.location

    @property
    def chosen(self) -> tuple[str, ...]:
        """The columns of the features in the spec's order, and of the targets."""
        return _chosen(self.match)

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
        return self.room.sum(self.data, self.match, self.spec, self.on_bad, clip, self.limits, self.progress)


def gather_privately(
    ledger: Ledger, store: ContentStore, reader: RoomReader, rule: PrivacyRule
) -> tuple[Released, Provenance]:
    """Statistics that may leave the mine, and what was read for them.

    `store` has the specs of campaigns in which this account has gradients that the ledger does not know. Raises as
    `private_statistics` does.
    """
    check_schedule(reader.spec)
    started = time.time()
    released = private_statistics(
        ledger, reader, reader.spec, rule, unknown=lambda: _unknown(ledger, store, reader.data, rule)
    )
    if released.provenance is not None:
        return released, released.provenance
    data = reader.data
    known = data.fingerprint if data.state == source_state(data.source) else ""
    recognised = Provenance(
        data.name, str(data.source.kind), data.source.location, data.source.query, known, reader.chosen,
        released.records, released.records, (), int(started), time.time() - started,
    )  # fmt: skip
    return released, recognised


def _unknown(
    ledger: Ledger, store: ContentStore, data: Dataset, rule: PrivacyRule
) -> Iterator[tuple[CampaignId, int, bytes | None]]:
    """Gradients that this ledger does not know and that may be of this data set, with what they were made of."""
    for campaign, number in ledger.unknown_gradients():
        try:
            spec = Spec.parse(store.get(ledger.campaign(campaign).spec, max_bytes=MAX_SPEC_BYTES))
        except (ProtocolError, StorageError):
            # What it was made of cannot be found out now, and may never be: then it was made of this, too.
            yield campaign, number, None
            continue
        found = consider(data, spec, ledger.saved_match(campaign, data.name))
        if all(link.how is not How.NONE for link in found.links):
            # Where the owner's answer was lost as well, nobody knows which columns it was.
            yield campaign, number, None if found.unsure else statistic_key(spec, _chosen(found), clip_of(spec, rule))


def _chosen(found: Match) -> tuple[str, ...]:
    return (*found.columns, *found.target_columns)
