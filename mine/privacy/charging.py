"""Before anything is noised: whose records these are, what their budget has come to, and what it must not pass."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple, Protocol

from mine.errors import BudgetError, DataError
from mine.privacy.accountant import epsilon_of, rho_of
from mine.privacy.rule import PrivacyRule
from mine.privacy.sketch import Contents
from sonar.units import CampaignId

if TYPE_CHECKING:
    from mine.ledger.releases import Releases

__all__ = ["Books", "Recognisable", "Unknown", "check_budget", "check_round", "open_books"]


class Recognisable(Protocol):
    """A data set whose records can be recognised."""

    @property
    def dataset(self) -> str:
        """Its name."""
        ...

    @property
    def places(self) -> Sequence[str]:
        """Where its records lie, whatever is asked of them, always in the same words."""
        ...

    def state(self) -> object:
        """What changes when the data do; None where that cannot be told."""
        ...

    def contents(self, key: bytes) -> Contents:
        """What the data set holds now, under the key of 32 bytes by which its records are recognised."""
        ...


class Unknown(NamedTuple):
    """A gradient on chain that this ledger does not know and this data set could have made.

    `statistic` is the digest of what it was made of, None where that cannot be found out, a network's campaign.
    `by_round` says that each round of that campaign cost anew, as of a network.
    """

    campaign: CampaignId
    round: int
    statistic: bytes | None
    by_round: bool = False


@dataclass(frozen=True, slots=True)
class Books:
    """What is known before noise: the data's `state`, `contents` and `pool`, and what the owner should be told."""

    state: object
    contents: Contents
    pool: int
    said: tuple[str, ...]

    def check_still(self, data: Recognisable) -> None:
        """Raises DataError for data that have changed since."""
        if data.state() != self.state:
            raise DataError(f"data set {data.dataset!r} changed while it was read: it is read again later")


def open_books(
    ledger: "Releases",
    data: Recognisable,
    rule: PrivacyRule,
    unknown: Callable[[], Iterable[Unknown]],
    *,
    rehearse: bool = False,
) -> Books:
    """Recognises a data set and charges it for gradients that another copy of the ledger has posted.

    To `rehearse` charges nothing. Raises DataError for data that cannot be read.
    """
    ledger.check_audit()  # what the log tells of beyond a ledger that was put back is charged before anything else
    state = data.state()
    contents = data.contents(ledger.privacy_key())
    known = ledger.pool_of(data.dataset)
    pool = ledger.recognise(contents, data.dataset, data.places, rule.separate)
    said = _sharing(ledger, data.dataset, pool) if known != pool else ()
    if not rehearse:
        said += _charge_unknown(ledger, data.dataset, contents.digest, rule, unknown())
    return Books(state, contents, pool, said)


def check_budget(datasets: Sequence[str], after: Fraction, rule: PrivacyRule) -> None:
    """Raises BudgetError unless the cost `after` one statistic more is within the budget."""
    _check(datasets, after, rule, f"a noised statistic of epsilon {rule.epsilon:g}", rule.epsilon)


def check_round(datasets: Sequence[str], after: Fraction, rule: PrivacyRule) -> None:
    """Raises BudgetError unless the cost `after` one round more of a network is within the budget."""
    epsilon = rule.epsilon_of_round
    _check(datasets, after, rule, f"each round of a network costs epsilon {epsilon:g} anew, and this one", epsilon)


def _check(datasets: Sequence[str], after: Fraction, rule: PrivacyRule, what: str, epsilon: float) -> None:
    if epsilon_of(after, rule.delta) > rule.budget:
        before = max(Fraction(0), after - rho_of(epsilon, rule.delta))
        shared = f", which {' and '.join(repr(name) for name in datasets)} share," if len(datasets) > 1 else ""
        raise BudgetError(
            f"{what} would bring what was told of data set {datasets[0]!r} from epsilon "
            f"{epsilon_of(before, rule.delta):.3g} to {epsilon_of(after, rule.delta):.3g} at delta {rule.delta:g}, "
            f"above the budget of {rule.budget:g}{shared} in [privacy] of the policy"
        )


def _sharing(ledger: "Releases", dataset: str, pool: int) -> tuple[str, ...]:
    """What the owner should know of a data set that was just found to share a budget."""
    others = [name for name in ledger.members(pool) if name != dataset]
    if not others:
        return ()
    names = " and ".join(map(repr, others))
    said = f"data set {dataset!r} shares its privacy budget with {names}"
    return (f"{said}: they have records, a file or a database in common",)


def _charge_unknown(
    ledger: "Releases", dataset: str, contents: bytes, rule: PrivacyRule, unknown: Iterable[Unknown]
) -> tuple[str, ...]:
    """Charges for what another copy of this ledger has posted; one sentence for each charge."""
    said = []
    for one in unknown:
        epsilon = _epsilon_of(one, rule)
        if ledger.charge_unknown(
            contents, one.statistic or one.campaign, rho_of(epsilon, rule.delta), one.campaign,
            one.round if rule.renew or one.by_round else None, delta=rule.delta,
        ):  # fmt: skip
            said.append(
                f"a gradient of this mine in round {one.round} of campaign 0x{one.campaign.hex()} is not in its "
                f"ledger, as after an older home was put back: {_what(one)} of epsilon {epsilon:g} is charged to "
                f"{dataset!r}"
            )
    return tuple(said)


def _epsilon_of(one: Unknown, rule: PrivacyRule) -> float:
    if not one.by_round:
        return rule.epsilon
    return rule.epsilon_of_round if one.statistic else max(rule.epsilon, rule.epsilon_of_round)


def _what(one: Unknown) -> str:
    return "a round" if one.by_round and one.statistic else "a statistic"
