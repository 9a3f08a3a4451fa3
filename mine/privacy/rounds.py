"""A round of a network under the owner's rule: paid for before its first step, made once, and sent as it was made.

    made before? -> contents recognised -> budget -> cost written -> trained on noised sums -> gradient written -> used

What a stop leaves after the cost is written is a round that is paid for and of which nothing was told: it is trained
again at no further cost. What it leaves after the gradient is written is that gradient.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol

from mine.errors import PolicyError
from mine.privacy.accountant import epsilon_of, rho_of
from mine.privacy.charging import Recognisable, Unknown, check_round, open_books
from mine.privacy.rule import PrivacyRule
from mine.privacy.steps import Noise, length_of_noise, variance_of_round
from sonar import canonical
from sonar.network import NetworkError
from sonar.network.separable import check_separable
from sonar.protocol.networks import NetworkTerms
from sonar.protocol.spec import Spec
from sonar.units import CampaignId

if TYPE_CHECKING:
    from mine.ledger.rounds import Rounds

__all__ = ["Place", "Round", "RoundReader", "check_noise", "noise_of", "private_round", "round_key", "rounds_left"]


_HAIR = 1e-9
"""Costs are a hair below what was asked for: rounding must not lose the last round."""


class RoundReader(Recognisable, Protocol):
    """A data set with a campaign's features found in it."""

    @property
    def chosen(self) -> tuple[str, ...]:
        """The columns of the campaign's features, in their order, and those of its targets."""
        ...

    @property
    def added(self) -> str:
        """The digest of the data set as its owner added it: what she puts in its place has another."""
        ...

    @property
    def declared(self) -> int:
        """About how many records there are, as the owner declared it."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """Which round: of a campaign, its number, and the model's version that it begins with."""

    campaign: CampaignId
    round: int
    version: int


@dataclass(frozen=True, slots=True)
class Round:
    """A gradient that may leave the mine, and what the data set's budget has come to.

    `records` is their true number, `charged` what this call has spent, in zCDP, and `epsilon` what the pool has in all
    (of a rehearsal: would have); `said` is what the owner should be told.
    """

    gradient: bytes = field(repr=False)
    records: int = field(repr=False)
    charged: Fraction
    epsilon: float
    said: tuple[str, ...] = ()


def check_noise(spec: Spec, records: int, rule: PrivacyRule) -> str:
    """What noise will do to a network's round on about so many records, as a sentence, before anything is spent.

    Raises PolicyError for layers that mix records, and where the noise would be longer than the rule allows.
    """
    network = _network(spec)
    try:
        check_separable(network.graph)
    except NetworkError as error:
        raise PolicyError(f"its network cannot be trained with privacy on: {error}") from error
    rho = rho_of(rule.epsilon_of_round, rule.delta)
    batches = noise_of(spec, records, rule).batches(network.training.batch_size)
    length = length_of_noise(rho, network.graph.size, records, batches)
    said = (
        f"each round costs epsilon {rule.epsilon_of_round:g} anew; with {records} records in "
        f"{batches} batch{'' if batches == 1 else 'es'} and {network.graph.size} parameters its noise is "
        f"{length:.2g} times as long as all that the records can add"
    )
    if length > rule.max_noise:
        more = "" if batches == 1 else ", or a campaign of larger batches"
        raise PolicyError(
            f"{said}, more than `max_noise` {rule.max_noise:g} in [privacy]: it takes more records, a smaller network "
            f"or a larger `round_epsilon`{more}"
        )
    return said


def rounds_left(rule: PrivacyRule, spent: Fraction) -> int:
    """How many rounds a budget still buys of which so much, in zCDP, is spent; the check of each has the last word."""
    room, each = float(rho_of(rule.budget, rule.delta) - spent), float(rho_of(rule.epsilon_of_round, rule.delta))
    return max(0, int(room / each * (1 + _HAIR)))


def noise_of(spec: Spec, records: int, rule: PrivacyRule) -> Noise:
    """How a round is noised for what the rule lets it cost; `records` as the owner declared their number."""
    variance = variance_of_round(rho_of(rule.epsilon_of_round, rule.delta), _network(spec).training.epochs)
    return Noise(variance, rule.gradient_clip, records)


def round_key(spec: Spec, dataset: str, added: str, chosen: Sequence[str], noise: Noise, place: Place) -> bytes:
    """The digest (32 bytes) of all that a round's gradient is made for; `added` as `RoundReader` has it."""
    asked = {
        "campaign": place.campaign.hex(), "round": place.round, "version": place.version,
        "spec": hashlib.sha256(spec.to_bytes()).hexdigest(), "dataset": dataset, "added": added,
        "columns": list(chosen),
        # What was paid for pays for this noise, and for no smaller one.
        "noise": [str(noise.variance), noise.clip, noise.records],
    }  # fmt: skip
    return hashlib.sha256(canonical.dumps(asked)).digest()


def private_round(
    ledger: "Rounds",
    reader: RoundReader,
    spec: Spec,
    rule: PrivacyRule,
    place: Place,
    prepare: Callable[[], Callable[[Noise], bytes]],
    *,
    unknown: Callable[[], Iterable[Unknown]] = tuple,
    rehearse: bool = False,
) -> Round:
    """The gradient of a data set for a round of a network, as the rule allows it to be told.

    `prepare` gets what training needs from elsewhere, before anything is spent; what it returns reads the records and
    makes a gradient with noise. `unknown` gives gradients on chain that this ledger does not know and this data set
    could have made. To `rehearse` is to go through all of it and write no charge down: the gradient that comes back
    must not leave the mine.

    Raises BudgetError where the round would cost more than what is left, PolicyError as `check_noise` does, and
    DataError for data that change meanwhile or cannot be read: what was paid for then serves the next attempt.
    """
    check_noise(spec, reader.declared, rule)
    ledger.check_audit()  # a ledger that was put back does not take what it kept for the last word
    noise = noise_of(spec, reader.declared, rule)
    key = round_key(spec, reader.dataset, reader.added, reader.chosen, noise, place)
    kept, pool = ledger.kept_gradient(key), ledger.pool_of(reader.dataset)
    if kept is not None and pool is not None:
        before = ledger.last_contents(reader.dataset)
        records = 0 if before is None else before.records
        return Round(kept, records, Fraction(0), epsilon_of(ledger.spent(pool), rule.delta))
    books = open_books(ledger, reader, rule, unknown, rehearse=rehearse)
    cost = Fraction(0) if ledger.reserved(key) else noise.rho(_network(spec).training.epochs)

    def check(after: Fraction) -> None:
        check_round(ledger.members(books.pool), after, rule)

    if cost:
        check(ledger.spent(books.pool) + cost)  # before anything is asked for, and again when it is written down
    train = prepare()
    if cost and not rehearse:
        ledger.reserve(books.contents.digest, key, cost, place.campaign, place.round, check, delta=rule.delta)
    gradient = train(noise)
    books.check_still(reader)
    spent = ledger.spent(books.pool)
    if rehearse:
        spent += cost
    else:
        gradient = ledger.keep_gradient(key, gradient)
    return Round(gradient, books.contents.records, cost, epsilon_of(spent, rule.delta), books.said)


def _network(spec: Spec) -> NetworkTerms:
    assert spec.network is not None, "linear models are trained on sums, as mine.privacy.release has it"
    return spec.network
