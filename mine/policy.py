"""What this mine's owner agrees to: whose Capsule, how little data, how large a bond, how much unpaid work.

The policy is `policy.toml` in the mine's home; every setting has a default, so the file may be missing.
"""

import json
import tomllib
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from mine.errors import PolicyError
from sonar.chain.records import NATIVE, CampaignRecord, Verdict
from sonar.config import AddressText
from sonar.errors import ConfigError
from sonar.units import Address, ether, format_ether
from sonar.wording import told

if TYPE_CHECKING:
    from sonar.protocol.spec import Spec
    from sonar.syft.schedule import Gathered

__all__ = ["Policy"]


def _amount(text: str) -> str:
    try:
        ether(text)
    except ConfigError as error:
        raise ValueError(str(error)) from error
    return text


Ether = Annotated[str, AfterValidator(_amount)]


class CommitteeTerms(BaseModel):
    """Whose signatures make a committee's."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    members: Annotated[list[AddressText], Field(min_length=1, max_length=32)]
    threshold: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _can_sign(self) -> Self:
        if self.threshold > len({member.lower() for member in self.members}):
            raise ValueError(
                f"{self.threshold} of these members cannot sign: lower the threshold, name each member once"
            )
        return self


class Policy(BaseModel):
    """The owner's settings; amounts are text in ether, such as "0.01"."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, use_attribute_docstrings=True)

    capsules: Annotated[list[AddressText], Field(max_length=1000)] = []
    """Which Capsules to trust; empty: only the one that the network file names."""
    committees: Annotated[dict[AddressText, CommitteeTerms], Field(max_length=1000)] = {}
    """Which committees of Capsules to trust besides: for each a table [committees.0x...] of its `members` and
    `threshold`, which are taken from here and not from the chain, whose node could name others."""
    owners: Annotated[list[AddressText], Field(max_length=1000)] = []
    """Whose campaigns to take, also those that were handed over to them; empty: everybody's."""
    tokens: Annotated[list[AddressText], Field(max_length=1000)] = []
    """Which ERC-20 tokens to accept as pay besides the native coin."""
    min_records: Annotated[int, Field(ge=2)] = 10
    """The fewest records to train on: a gradient of a few records says much about each of them."""
    min_mines: Annotated[int, Field(ge=1, le=64)] = 2
    """The fewest mines a round must keep: with 1 the model may change by one mine's gradient alone, which shows it."""
    min_bounty_left: Ether = "0"
    """Campaigns in native coin with less of their bounty left than this are not worth the work."""
    max_bond: Ether = "0.01"
    """The largest bond to put at stake with one gradient."""
    max_unpaid_rounds: Annotated[int, Field(ge=1)] = 5
    """How many rounds in a row to work for nothing in one campaign before leaving it."""
    leave_when_bond_is_lost: bool = True
    """Whether to leave a campaign once a gradient is judged invalid or a copy."""
    confirmations: Annotated[int, Field(ge=0, le=1000)] = 0
    """How many blocks an event must be deep before it counts; 0 where the chain never takes a block back."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """The policy in a TOML file, or the default one if there is none; raises PolicyError."""
        try:
            return cls.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return cls()
        except OSError as error:
            raise PolicyError(f"the policy {path} cannot be read: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise PolicyError(f"the policy {path} is not TOML: {error}") from error
        except ValidationError as error:
            given = error.errors(include_url=False)[0].get("input")
            raise PolicyError(f"the policy {path} is not valid: {told(error, 'file')} (got {given!r:.100})") from error

    @classmethod
    def template(cls) -> str:
        """A policy file with every setting explained and commented out at its default."""
        lines = ["# What this mine agrees to. Remove the # before a setting to change it."]
        for name, field in cls.model_fields.items():
            description = [f"# {line}" for line in str(field.description).splitlines()]
            lines += ["", *description, f"# {name} = {json.dumps(field.default)}"]
        return "\n".join(lines) + "\n"

    def trusts(self, capsule: Address, network_capsule: str | None) -> CommitteeTerms | None:
        """Whose signatures stand for the campaign's Capsule if it is a committee; None for one that signs itself.

        Raises PolicyError unless it is one that the owner trusts.
        """
        for address, committee in self.committees.items():
            if address.lower() == capsule.lower():
                return committee
        trusted = self.capsules or ([network_capsule] if network_capsule else [])
        if capsule.lower() not in {address.lower() for address in trusted}:
            raise PolicyError(
                f"its Capsule {capsule} is not trusted: add it to `capsules` in the policy if you do trust it, or to "
                "`committees` if it is one"
            )
        return None

    def check(self, campaign: CampaignRecord, verdicts: Sequence[Verdict]) -> None:
        """Raises PolicyError unless the campaign's state is acceptable; the data is checked apart.

        `verdicts` are those on this mine's own gradients in the campaign, the latest first.
        """
        if self.owners and campaign.owner.lower() not in {owner.lower() for owner in self.owners}:
            raise PolicyError(f"it belongs to {campaign.owner}: add that to `owners` in the policy to accept it")
        if campaign.terms.token.lower() not in {token.lower() for token in (NATIVE, *self.tokens)}:
            raise PolicyError(
                f"it pays in the token {campaign.terms.token}: add it to `tokens` in the policy to accept it"
            )
        if campaign.terms.min_mines < self.min_mines:
            raise PolicyError(
                f"it advances with {campaign.terms.min_mines} kept mine(s), the policy wants {self.min_mines}: "
                "lower `min_mines` in the policy to accept it"
            )
        if campaign.terms.bond > ether(self.max_bond):
            raise PolicyError(
                f"its bond is {format_ether(campaign.terms.bond)} ether, above `max_bond` {self.max_bond} in the policy"
            )
        left = campaign.terms.bounty - campaign.paid
        if campaign.terms.token == NATIVE and left < ether(self.min_bounty_left):
            raise PolicyError(
                f"{format_ether(left)} ether of its bounty are left, less than `min_bounty_left` {self.min_bounty_left}"
            )
        if self.leave_when_bond_is_lost and verdicts and verdicts[0] in {Verdict.INVALID, Verdict.COPY}:
            raise PolicyError(
                f"its judge found this mine's last gradient {verdicts[0].name.lower()} and took the bond "
                "(`leave_when_bond_is_lost`): look into it first"
            )
        unpaid = sum(1 for _ in takewhile(lambda verdict: verdict is not Verdict.KEPT, verdicts))
        if unpaid >= self.max_unpaid_rounds:
            raise PolicyError(
                f"its last {unpaid} rounds kept nothing of this mine's (`max_unpaid_rounds` {self.max_unpaid_rounds})"
            )

    def check_records(self, records: int, spec: "Spec") -> None:
        """Raises PolicyError unless a training set and the spec's batches of it are large enough to hide records.

        A map's features must be outnumbered twice: their sums hold moments, which tell few records one by one.
        """
        if records < self.min_records:
            raise PolicyError(
                f"{records} records are fewer than `min_records` {self.min_records}: each would show in the gradient"
            )
        batch_size = spec.training.batch_size
        if batch_size is not None and batch_size < self.min_records:
            raise PolicyError(
                f"it trains on batches of {batch_size} records, fewer than `min_records` {self.min_records}: each "
                "would show in the gradient"
            )
        outputs = spec.mapping.outputs
        if spec.feature_map.kind != "identity" and records < 2 * outputs:
            raise PolicyError(
                f"{records} records are fewer than {2 * outputs}, twice the {outputs} features of its "
                f"{spec.feature_map.kind} map: each would show in the gradient"
            )

    def check_gathered(self, gathered: "Gathered", spec: "Spec") -> None:
        """The same of the records that were gathered, and of what class weights leave of their smallest batch."""
        self.check_records(gathered.records, spec)
        if gathered.effective_batch < self.min_records:
            raise PolicyError(
                f"its class weights make the records of a batch count as {gathered.effective_batch:.1f}, fewer than "
                f"`min_records` {self.min_records}: some would show in the gradient"
            )
