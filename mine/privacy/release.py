"""The statistics of a data set under the owner's rule: noised once, written down with their cost, used ever after.

    contents recognised -> released before? -> budget -> summed and noised -> cost and statistic written -> used

Nothing made of a statistic exists before its cost is on the disk.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol

from mine.data import Provenance
from mine.errors import BudgetError, DataError, PolicyError
from mine.privacy.accountant import epsilon_of, rho_of
from mine.privacy.adassp import statistics_of
from mine.privacy.clipping import Clip, IntegerSums
from mine.privacy.mechanism import NoisedSums
from mine.privacy.rule import PrivacyRule
from mine.privacy.sketch import Contents
from sonar import canonical
from sonar.protocol.spec import Spec
from sonar.syft.statistics import Statistics
from sonar.units import CampaignId

if TYPE_CHECKING:
    from mine.ledger.releases import Releases

__all__ = ["Reader", "Released", "check_budget", "check_schedule", "clip_of", "private_statistics", "statistic_key"]


class Reader(Protocol):
    """A data set with a campaign's features found in it, and what reads it; nothing of a record comes out but sums."""

    @property
    def dataset(self) -> str:
        """Its name."""
        ...

    @property
    def origin(self) -> str:
        """Where it comes from, always in the same words."""
        ...

    @property
    def chosen(self) -> tuple[str, ...]:
        """The columns of the campaign's features, in their order, and those of its targets."""
        ...

    def state(self) -> object:
        """What changes when the data do; None where that cannot be told."""
        ...

    def contents(self, key: bytes) -> Contents:
        """What the data set holds now, under the key of 32 bytes by which its records are recognised."""
        ...

    def sums(self, clip: Clip) -> tuple[IntegerSums, Provenance]:
        """The sums over the records as the campaign's model sees them, and what was read for it."""
        ...


@dataclass(frozen=True, slots=True)
class Released:
    """Statistics that may leave the mine, and what the data set's budget has come to.

    `records` is their true number, `provenance` what was read if the statistic was noised just now, `rho` and `epsilon`
    are what the pool has spent in all, and `said` is what the owner should be told.
    """

    statistics: Statistics = field(repr=False)
    records: int = field(repr=False)
    provenance: Provenance | None
    rho: Fraction
    epsilon: float
    said: tuple[str, ...] = ()

    @property
    def fresh(self) -> bool:
        """Whether the statistic was noised, and paid for, just now."""
        return self.provenance is not None


def check_schedule(spec: Spec) -> None:
    """Raises PolicyError for a campaign whose training needs more of the data than noised sums."""
    if spec.training.batch_size is not None:
        raise PolicyError(
            f"it trains on batches of {spec.training.batch_size} records, each of which would need noise of its own: "
            "with privacy on, only campaigns without a batch_size are taken"
        )


def statistic_key(spec: Spec, chosen: Sequence[str], clip: Clip) -> bytes:
    """The digest (32 bytes) of all that noised sums depend on besides the records, and of nothing else."""
    weights = spec.training.class_weights
    asked = {
        "columns": list(chosen),
        "features": [feature.model_dump(mode="json", exclude={"name", "unit"}) for feature in spec.features],
        "image": None if spec.image is None else spec.image.model_dump(mode="json"),
        "map": spec.feature_map.model_dump(mode="json"),
        "classes": list(spec.classes),
        "targets": [target.model_dump(mode="json", exclude={"name"}) for target in spec.targets],
        "weights": None if weights is None else [weight / max(weights) for weight in weights],
        "clip": [clip.rows, clip.targets],
    }
    return hashlib.sha256(canonical.dumps(asked)).digest()


def private_statistics(
    ledger: "Releases",
    reader: Reader,
    spec: Spec,
    rule: PrivacyRule,
    *,
    unknown: Callable[[], Iterable[tuple[CampaignId, int, bytes | None]]] = tuple,
    release: Callable[[IntegerSums, Fraction], NoisedSums] = NoisedSums.release,
) -> Released:
    """The statistics of a data set for a campaign, as the rule allows them to be known.

    `unknown` gives the campaign, round and statistic of gradients on chain that this ledger does not know and this data
    set could have made; None for a statistic that cannot be found out.

    Raises BudgetError where they would cost more than what is left, PolicyError for mini-batches, and DataError for
    data that change meanwhile or cannot be read.
    """
    check_schedule(spec)
    before = reader.state()
    contents = reader.contents(ledger.privacy_key())
    _check_records(reader, contents.records, spec)
    pool = ledger.recognise(contents, reader.dataset, reader.origin)
    said = _charge_unknown(ledger, reader.dataset, contents.digest, rule, unknown())
    clip, provenance = clip_of(spec, rule), None
    key = statistic_key(spec, reader.chosen, clip)
    noised = ledger.statistic(contents.digest, key)
    if noised is None and not rule.renew:
        noised = ledger.serving(pool, key, reader.dataset, contents.records)
    if noised is None:
        rho = rho_of(rule.epsilon, rule.delta)

        def check(after: Fraction) -> None:
            check_budget(ledger.members(pool), after, rule)

        check(ledger.spent(pool) + rho)  # before the work, and again when it is written down
        sums, provenance = reader.sums(clip)
        if reader.state() != before:
            raise DataError(f"data set {reader.dataset!r} changed while it was read: it is read again later")
        _check_records(reader, sums.records, spec)
        made = release(sums, rho)
        noised = ledger.release(contents.digest, key, made.rho, made.to_bytes(), check, delta=rule.delta)
    spent = ledger.spent(pool)
    statistics = statistics_of(NoisedSums.parse(noised), one_hot=bool(spec.classes))
    statistics.class_weights = spec.training.class_weights
    return Released(statistics, contents.records, provenance, spent, epsilon_of(spent, rule.delta), said)


def clip_of(spec: Spec, rule: PrivacyRule) -> Clip:
    """The norms to which a campaign's records are clipped: one-hot targets have norm 1 as they are."""
    targets = rule.target_clip * len(spec.targets) ** 0.5 if spec.targets else 1.0
    return Clip.of(spec.mapping.outputs, rule.clip, targets)


def check_budget(datasets: Sequence[str], after: Fraction, rule: PrivacyRule) -> None:
    """Raises BudgetError unless the cost `after` one statistic more is within the budget."""
    if epsilon_of(after, rule.delta) > rule.budget:
        before = max(Fraction(0), after - rho_of(rule.epsilon, rule.delta))
        shared = f", which {' and '.join(repr(name) for name in datasets)} share," if len(datasets) > 1 else ""
        raise BudgetError(
            f"a noised statistic of epsilon {rule.epsilon:g} would bring what was told of data set {datasets[0]!r} "
            f"from epsilon {epsilon_of(before, rule.delta):.3g} to {epsilon_of(after, rule.delta):.3g} at delta "
            f"{rule.delta:g}, above the budget of {rule.budget:g}{shared} in [privacy] of the policy"
        )


def _check_records(reader: Reader, records: int, spec: Spec) -> None:
    if records < spec.min_records:
        raise DataError(
            f"data set {reader.dataset!r} has {records} records now, but campaign {spec.name!r} needs "
            f"{spec.min_records}"
        )


def _charge_unknown(
    ledger: "Releases",
    dataset: str,
    contents: bytes,
    rule: PrivacyRule,
    unknown: Iterable[tuple[CampaignId, int, bytes | None]],
) -> tuple[str, ...]:
    """Charges for what another copy of this ledger has posted; one sentence for each charge."""
    rho, said = rho_of(rule.epsilon, rule.delta), []
    for campaign, number, statistic in unknown:
        by_round = number if rule.renew else None
        if ledger.charge_unknown(contents, statistic or campaign, rho, campaign, by_round, delta=rule.delta):
            said.append(
                f"a gradient of this mine in round {number} of campaign 0x{campaign.hex()} is not in its ledger, as "
                f"after an older home was put back: a statistic of epsilon {rule.epsilon:g} is charged to {dataset!r}"
            )
    return tuple(said)
