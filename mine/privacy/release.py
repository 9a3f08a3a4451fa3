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
from mine.errors import PolicyError
from mine.privacy.accountant import epsilon_of, rho_of
from mine.privacy.adassp import statistics_of
from mine.privacy.charging import Recognisable, Unknown, check_budget, open_books
from mine.privacy.clipping import Clip, IntegerSums
from mine.privacy.mechanism import NoisedSums
from mine.privacy.rule import PrivacyRule
from sonar import canonical
from sonar.protocol.spec import Spec
from sonar.syft.statistics import Statistics

if TYPE_CHECKING:
    from mine.ledger.releases import Releases

__all__ = ["Reader", "Released", "check_schedule", "clip_of", "private_statistics", "statistic_key"]


class Reader(Recognisable, Protocol):
    """A data set with a campaign's features found in it, and what reads it; nothing of a record comes out but sums."""

    @property
    def chosen(self) -> tuple[str, ...]:
        """The columns of the campaign's features, in their order, and those of its targets."""
        ...

    def sums(self, clip: Clip) -> tuple[IntegerSums, Provenance]:
        """The sums over the records as the campaign's model sees them, and what was read for it."""
        ...


@dataclass(frozen=True, slots=True)
class Released:
    """Statistics that may leave the mine, and what the data set's budget has come to.

    `records` is their true number, `provenance` what was read if the statistic was noised just now, `rho` and `epsilon`
    are what the pool has spent in all, and `said` is what the owner should be told. Of a rehearsal, `rho` and `epsilon`
    are what the pool would have spent.
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
    """Raises PolicyError for a campaign of a linear model whose training needs more of the data than noised sums."""
    assert spec.network is None, "networks are trained on records, as mine.privacy.rounds has it"
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
    unknown: Callable[[], Iterable[Unknown]] = tuple,
    release: Callable[[IntegerSums, Fraction], NoisedSums] = NoisedSums.release,
    rehearse: bool = False,
) -> Released:
    """The statistics of a data set for a campaign, as the rule allows them to be known.

    `unknown` gives gradients on chain that this ledger does not know and this data set could have made. To `rehearse`
    is to go through all of it and write no charge down: nothing that is made of what comes back may leave the mine.

    Raises BudgetError where they would cost more than what is left, PolicyError for mini-batches, and DataError for
    data that change meanwhile or cannot be read. However few the records are now is no reason to refuse: that would
    tell of them.
    """
    check_schedule(spec)
    books = open_books(ledger, reader, rule, unknown, rehearse=rehearse)
    contents, pool = books.contents, books.pool
    clip, provenance, cost = clip_of(spec, rule), None, Fraction(0)
    key = statistic_key(spec, reader.chosen, clip)
    noised = ledger.statistic(contents.digest, key)
    if noised is None and not rule.renew:
        noised = ledger.serving(contents, key)
    if noised is None:
        rho = rho_of(rule.epsilon, rule.delta)

        def check(after: Fraction) -> None:
            check_budget(ledger.members(pool), after, rule)

        check(ledger.spent(pool) + rho)  # before the work, and again when it is written down
        sums, provenance = reader.sums(clip)
        books.check_still(reader)
        made = release(sums, rho)
        noised = made.to_bytes()
        if rehearse:
            cost = made.rho
        else:
            noised = ledger.release(contents.digest, key, made.rho, noised, check, delta=rule.delta)
    spent = ledger.spent(pool) + cost
    statistics = statistics_of(NoisedSums.parse(noised), one_hot=bool(spec.classes))
    statistics.class_weights = spec.training.class_weights
    return Released(statistics, contents.records, provenance, spent, epsilon_of(spent, rule.delta), books.said)


def clip_of(spec: Spec, rule: PrivacyRule) -> Clip:
    """The norms to which a campaign's records are clipped: one-hot targets have norm 1 as they are."""
    targets = rule.target_clip * len(spec.targets) ** 0.5 if spec.targets else 1.0
    return Clip.of(spec.mapping.outputs, rule.clip, targets)
