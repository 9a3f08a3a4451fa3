"""What training needs of a data set: read apart, once for all campaigns that need the same, noised where it must be."""

from mine.apart.workroom import Limits, Workroom
from mine.data import Dataset, Match, Provenance, check_gathered, file_state
from mine.errors import DataError
from mine.ledger import Ledger
from mine.policy import Policy
from mine.policy.data_rules import check_records
from mine.privacy.sketch import Contents
from mine.privacy.working import RoomReader, gather_privately
from mine.reporting import Report
from sonar.protocol.spec import Spec
from sonar.storage import ContentStore
from sonar.syft import Progress
from sonar.syft.epoch import Epoch
from sonar.syft.progress import paced
from sonar.syft.schedule import Gathered

__all__ = ["Gatherer", "limits_of"]

_CACHED = 8
_TOLD_EVERY = 5.0
"""Seconds between two reports of how far a reading is."""


class Gatherer:
    """Keeps what was gathered last. `report` takes what happened, as a word, and its facts."""

    def __init__(self, ledger: Ledger, store: ContentStore, room: Workroom, report: Report) -> None:
        self._ledger = ledger
        self._store = store
        self._room = room
        self._report = report
        self._kept: dict[object, tuple[Gathered, Provenance]] = {}
        self._recognised: dict[object, Contents] = {}

    def gather(
        self, dataset: Dataset, found: Match, spec: Spec, policy: Policy, *, rehearse: bool = False
    ) -> tuple[Gathered, Provenance]:
        """What a spec's training needs of a data set that fits it as `found` says, and what was read for that.

        To `rehearse` charges no budget, and nothing of it may leave the mine.

        Raises DataError, PolicyError where the records have become too few, and with privacy on BudgetError past the
        budget.
        """
        if policy.privacy.mode == "on":
            return self._privately(dataset, found, spec, policy, rehearse=rehearse)
        state = file_state(dataset)
        key = (
            dataset, state, found.columns, found.target_columns, spec.features, spec.classes,
            spec.targets, spec.image, spec.feature_map, spec.training.schedule.pass_key, policy.data.on_bad_records,
        )  # fmt: skip
        if key not in self._kept or state is None:  # of a server nobody can tell whether it has other records now
            self._keep(key, self._room.gather(
                dataset, found, spec, policy.data.on_bad_records, limits_of(policy), self._progress(dataset)
            ))  # fmt: skip
        gathered, provenance = self._kept[key]
        # It may have been gathered for another campaign, which asks for fewer records.
        check_gathered(dataset, spec, gathered)
        check_records(policy, gathered, spec)
        _check_classes_known(dataset, spec, gathered, provenance)
        return gathered, provenance

    def _privately(
        self, dataset: Dataset, found: Match, spec: Spec, policy: Policy, *, rehearse: bool
    ) -> tuple[Gathered, Provenance]:
        """The same from sums with noise, which are in the ledger from then on."""
        rule = policy.privacy
        key = (
            dataset, file_state(dataset), found.columns, found.target_columns, spec.to_bytes(), rule.model_dump_json()
        )  # fmt: skip
        # Of a server nobody can tell whether it has other records now, which `renew` would have noised anew.
        if key in self._kept and not (rule.renew and dataset.source.remote):
            return self._kept[key]
        reader = RoomReader(
            self._room, dataset, found, spec, limits_of(policy), self._progress(dataset), self._recognised
        )
        released, provenance = gather_privately(
            self._ledger, self._store, reader, rule, networks="network" in policy.accept.modes, rehearse=rehearse
        )
        for reason in released.said:
            self._report("warning", {"reason": reason})
        if released.fresh:
            self._report("rehearsed" if rehearse else "released", {
                "what": dataset.name, "epsilon": round(released.epsilon, 4), "budget": rule.budget,
            })  # fmt: skip
        if not (rehearse and released.fresh):
            self._keep(key, (released.statistics, provenance))
        return released.statistics, provenance

    def _keep(self, key: object, gathered: tuple[Gathered, Provenance]) -> None:
        self._kept.pop(key, None)
        while len(self._kept) >= _CACHED:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = gathered

    def _progress(self, dataset: Dataset) -> Progress:
        return paced(lambda done: self._report("reading", {"what": dataset.name, "done": round(done, 2)}), _TOLD_EVERY)


def limits_of(policy: Policy) -> Limits:
    """What reading and training may use."""
    work = policy.work
    return Limits(
        seconds=work.longest_training_seconds,
        threads=work.threads,
        niceness=work.niceness,
        memory=work.memory_gib << 30,
    )


def _check_classes_known(dataset: Dataset, spec: Spec, gathered: Gathered, provenance: Provenance) -> None:
    """Raises DataError where records of single classes may have become few, and sums that would tell are not there."""
    if not spec.classes or not isinstance(gathered, Epoch):
        return
    if (provenance.used, provenance.fingerprint) != (dataset.records, dataset.fingerprint):
        raise DataError(
            f"{dataset.location} gave {provenance.used} usable records, not the {dataset.records} in which the classes "
            "were counted, or others: for a campaign of mini-batches add it again without bad records"
        )
