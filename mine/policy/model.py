"""What a mine's owner may decide, table by table; every setting has a default and a sentence that explains it.

Amounts are text in ether, such as "0.01"; prices of gas are numbers of gwei.
"""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from mine.policy.hours import Window
from sonar.config import AddressText
from sonar.errors import ConfigError
from sonar.protocol.spec import Mode
from sonar.units import Wei, duration, ether

__all__ = ["Accept", "CommitteeTerms", "Data", "DatasetTerms", "Money", "OnBad", "Table", "Work"]

OnBad = Literal["refuse", "drop"]
_GWEI = 10**9


def _amount(text: str) -> str:
    try:
        ether(text)
    except ConfigError as error:
        raise ValueError(str(error)) from error
    return text


def _seconds(text: str) -> str:
    try:
        duration(text)
    except ConfigError as error:
        raise ValueError(str(error)) from error
    return text


def _hours(text: str) -> str:
    Window.parse(text)
    return text


Ether = Annotated[str, Field(max_length=100), AfterValidator(_amount)]
Duration = Annotated[str, Field(max_length=100), AfterValidator(_seconds)]
Hours = Annotated[str, AfterValidator(_hours)]
Addresses = Annotated[list[AddressText], Field(max_length=1000)]
Words = Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=1000)]
Campaigns = Annotated[list[Annotated[str, Field(pattern="^0x[0-9a-fA-F]{64}$")]], Field(max_length=1000)]


class Table(BaseModel):
    """One table of the file."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, use_attribute_docstrings=True)


class Accept(Table):
    """Whose campaigns to take, and for what."""

    capsules: Addresses = []
    """Which Capsules to trust; empty: only the one that the network file names. A committee of Capsules has a table
    of its own, [committees.0x...] of its `members` and `threshold`, which are taken from here and not from the chain,
    whose node could name others."""
    refuse_capsules: Addresses = []
    """Which Capsules never to trust, whatever else is said."""
    owners: Addresses = []
    """Whose campaigns to take, also those that were handed over to them; empty: everybody's."""
    refuse_owners: Addresses = []
    """Whose campaigns never to take, neither those that they began nor those that they own now."""
    purposes: Words = []
    """Which purposes to work for, as a campaign's spec states its own; empty: any, also one that is not stated."""
    refuse_purposes: Words = []
    """Which purposes never to work for."""
    licences: Words = []
    """Under which licences the trained model may be, as the spec states it; empty: any, also one that is not stated."""
    refuse_licences: Words = []
    """Under which licences it may not be."""
    modes: list[Mode] = ["encrypted-linear"]
    """How campaigns may train: "encrypted-linear" on a model that no mine reads, "network" on one that the mines read
    and train in the clear, where the Capsule learns each change of this mine's, which [privacy] can have noised; see
    docs/networks.md."""
    min_mines_of_networks: Annotated[int, Field(ge=2, le=64)] = 3
    """The fewest mines a round of a network must keep: each mine learns the sum of the others' changes, which of two is
    the other's own."""
    backbones: bool = False
    """Whether to train heads on public networks that campaigns bring along. One can be made so that some of its outputs
    are zero for all but a few records, whose sums then tell these."""
    open_attribution: bool = False
    """Whether to take campaigns whose owners are given what each mine's kept gradients add to the model, exactly. Where
    one round keeps this mine, that is its gradient, from which sums over its records can be solved for."""
    min_mines: Annotated[int, Field(ge=1, le=64)] = 2
    """The fewest mines a round must keep: with 1 the model may change by one mine's gradient alone, which shows it."""
    min_realised_pay: Annotated[int, Field(ge=0, le=100)] = 0
    """The least part of what they promised, in per cent, that the owner's earlier campaigns have really paid; owners
    without an earlier campaign in which a round was judged pass."""
    approval: bool = False
    """Whether every campaign needs your word first: `mine approve CAMPAIGN`. `mine deny CAMPAIGN` holds in any case."""


class Data(Table):
    """What must be true of the records that are trained on."""

    min_records: Annotated[int, Field(ge=2, le=10**12)] = 100
    """The fewest records to train on, also in a batch: a gradient of a few records says much about each of them."""
    records_per_feature: Annotated[int, Field(ge=0, le=1_000_000)] = 2
    """The fewest records for every feature of the model: of fewer, sums over them give the records away. For feature
    maps, whose sums hold moments of the records, it is never less than 2."""
    min_class_records: Annotated[int, Field(ge=0, le=10**12)] = 5
    """The fewest records of each class that occurs: the gradient holds the sum of the records of every class."""
    on_bad_records: OnBad = "refuse"
    """What happens to records with a missing value, one out of range or an unknown class: "refuse" the data set, or
    "drop" them; they are counted in any case."""
    only_listed: bool = False
    """Whether only data sets with a table [datasets.NAME] are used; others are free for every campaign otherwise."""


class Money(Table):
    """What a campaign must pay, and what may be spent and put at stake for it."""

    tokens: Addresses = []
    """Which ERC-20 tokens to accept as pay besides the native coin."""
    min_bounty_left: Ether = "0"
    """Campaigns in native coin with less of their bounty left than this are not worth the work."""
    min_payout: Ether = "0"
    """The least that one gradient is expected to be paid, in native coin; by what the campaign and this mine got."""
    work_at_a_loss: bool = False
    """Whether to train where gas and the bond's expected loss are more than the expected pay."""
    max_bond: Ether = "0.01"
    """The largest bond to put at stake with one gradient."""
    bond_budget: Ether = "0.1"
    """The most that may be at stake at once, in all campaigns together."""
    post_first: Literal["careful", "always", "never"] = "careful"
    """Whether to post into a round that nobody else has posted into, though it needs several gradients: a part of the
    bond is lost if no other comes. "careful": yes, until that has happened; from then on only after somebody else, or
    once a pause is over that doubles each time. "always" and "never" are what they say; if all mines wait, none
    starts."""
    withdraw_above: Ether = "0"
    """How much native coin the contract must owe this mine until it is withdrawn to the mine's account by itself;
    "0": never, `mine withdraw` does it."""
    withdraw_tokens: Addresses = []
    """Which ERC-20 tokens to withdraw by itself, too: each once in 24 hours at most, if some is owed."""
    leave_when_bond_is_lost: bool = True
    """Whether to leave a campaign once a gradient is judged invalid or a copy."""
    max_gas_gwei: Annotated[float, Field(gt=0, le=1_000_000)] = 200.0
    """The most to pay for a unit of gas; above it the mine waits."""

    @property
    def highest_gas_price(self) -> Wei:
        """The most to pay for a unit of gas."""
        return Wei(int(self.max_gas_gwei * _GWEI))


class Work(Table):
    """When to work and how hard."""

    hours: Annotated[list[Hours], Field(max_length=100)] = []
    """When to train, in local time, such as ["22:00-06:00", "sat,sun 00:00-24:00"]; empty: always. What is trained
    already is posted at any time."""
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """How many processor cores training may use at once; 0: all."""
    niceness: Annotated[int, Field(ge=0, le=19)] = 10
    """How far training stands back behind other work on this machine: 0 not at all, 19 most."""
    longest_training: Duration = "1h"
    """How long one training may take, as it is estimated before and measured while it runs."""
    memory_gib: Annotated[int, Field(ge=1, le=4096)] = 8
    """How much memory reading and training may take, in GiB; of address space, of which about half is really used."""
    max_submissions: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """How many gradients to post in one campaign; 0: as many as it takes."""
    max_submissions_per_day: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """How many gradients to post in all campaigns since midnight, local time; 0: as many as they take."""
    max_unpaid_rounds: Annotated[int, Field(ge=1, le=1_000_000)] = 5
    """How many rounds in a row to work for nothing in one campaign before leaving it."""
    back_off: bool = True
    """Whether to leave out rounds of a campaign before that: after two unpaid rounds in a row one, after three two,
    after four four, and so on."""
    confirmations: Annotated[int, Field(ge=0, le=1000)] = 0
    """How many blocks an event must be deep before it counts; 0 where the chain never takes a block back."""

    @property
    def longest_training_seconds(self) -> int:
        """How long one training may take, in seconds."""
        return duration(self.longest_training)


class DatasetTerms(Table):
    """Which campaigns may use one data set: those that fit everything that is said."""

    owners: Addresses = []
    """Whose campaigns; empty: everybody's."""
    refuse_owners: Addresses = []
    """Whose campaigns not."""
    campaigns: Campaigns = []
    """Which campaigns, by their full ids; empty: any."""
    refuse_campaigns: Campaigns = []
    """Which campaigns not."""
    purposes: Words = []
    """For which purposes, as specs state them; empty: any."""


class CommitteeTerms(Table):
    """Whose signatures make a committee's."""

    members: Annotated[list[AddressText], Field(min_length=1, max_length=32)]
    threshold: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _can_sign(self) -> Self:
        if self.threshold > len({member.lower() for member in self.members}):
            raise ValueError(
                f"{self.threshold} of these members cannot sign: lower the threshold, name each member once"
            )
        return self
