"""What the mine remembers: campaigns as their events left them, and its own gradients and transactions."""

from dataclasses import dataclass, field
from enum import StrEnum

from sonar.chain.records import NATIVE, Admission, Status, Verdict
from sonar.storage import Artifact
from sonar.units import Address, CampaignId, Digest, KeyId, Ppm, Wei

__all__ = [
    "JUDGED", "UNSENT", "Aim", "Fate", "KnownCampaign", "Prospect", "Purpose", "State", "Submission", "Transaction",
    "hexed", "token_or_none",
]  # fmt: skip


class State(StrEnum):
    """How far this mine is with one round of a campaign.

        found -> matched -> approved -> trained -> stored -> signed -> sent -> settled -> paid
          \\---------\\---> refused         \\---------\\--------\\-> missed   \\-> expired

    refused: the data, the policy or the campaign itself says no, which is looked at again when one of them changes.
    missed: the round closed without the gradient; the work was for nothing. expired: nobody settled the round, and the
    bond came back. `signed` is written down before the transaction is sent, so a crash in between is seen; `sent` is
    in a block, `paid` withdrawn.
    """

    FOUND = "found"
    MATCHED = "matched"
    APPROVED = "approved"
    REFUSED = "refused"
    TRAINED = "trained"
    STORED = "stored"
    SIGNED = "signed"
    SENT = "sent"
    SETTLED = "settled"
    PAID = "paid"
    EXPIRED = "expired"
    MISSED = "missed"


_NO_CAMPAIGN = CampaignId(b"")
JUDGED = (State.SETTLED, State.PAID)
"""The states in which a verdict is known."""
UNSENT = (State.TRAINED, State.STORED, State.SIGNED)
"""The states in which a gradient is on its way to the chain."""


class Purpose(StrEnum):
    """What a transaction of this mine's is for."""

    SUBMIT = "submit"
    EXPIRE = "expire"
    WITHDRAW = "withdraw"


@dataclass(frozen=True, slots=True)
class Aim:
    """What one call is to reach, once: a submission or expiry of a campaign's round, or all that is owed in a token.

    However many transactions are signed for it, at most one of them can be mined unless the nonce of an earlier one
    was used by a stranger to this ledger; and the contract takes each submission and expiry once in any case.
    """

    purpose: Purpose
    campaign: CampaignId = _NO_CAMPAIGN
    round: int = 0
    token: Address = NATIVE


class Fate(StrEnum):
    """How a signed transaction stands."""

    SIGNED = "signed"
    """Sent, perhaps; neither mined nor known to be out of the race."""
    MINED = "mined"
    REVERTED = "reverted"
    REPLACED = "replaced"
    """Its nonce went to another one."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction that was signed for an aim; fields after `fate` are known once it is mined."""

    hash: bytes
    aim: Aim
    nonce: int
    raw: bytes = field(repr=False)
    time: float
    """When it was signed, in seconds since the Unix epoch."""
    fate: Fate = Fate.SIGNED
    block: int | None = None
    gas_used: int | None = None
    gas_price: Wei | None = None


@dataclass(frozen=True, slots=True)
class Prospect:
    """How far this mine is with a campaign's present round before there is a gradient, and why it goes no further."""

    campaign: CampaignId
    round: int
    state: State
    dataset: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class KnownCampaign:
    """A campaign as its events left it: its present owner, round and model version; `model` and `key` are of that."""

    id: CampaignId
    owner: Address
    token: Address
    admission: Admission
    transaction: bytes
    block: int
    spec: Artifact
    model: Artifact
    key: KeyId
    version: int
    round: int
    score: Ppm
    status: Status


@dataclass(frozen=True, slots=True)
class Submission:
    """This mine's gradient in one round; `artifact` is sealed, `gradient` is the digest of what is inside.

    Fields after `bond` are known once the state says so.
    """

    campaign: CampaignId
    round: int
    state: State
    version: int
    dataset: str
    artifact: Artifact
    gradient: Digest
    bond: Wei
    hash: bytes | None = None
    index: int | None = None
    verdict: Verdict | None = None
    share: Ppm | None = None
    payout: Wei | None = None
    bond_returned: Wei | None = None
    note: str = ""
    """Why it was missed, or judged as it was."""
    rules: str = ""
    """What it was trained under, as `mine.withholding.agreement` has it."""

    @property
    def bond_lost(self) -> Wei | None:
        """What the verdict cost of the bond; None before there is one."""
        if self.bond_returned is None or self.bond < self.bond_returned:
            return None
        return Wei(self.bond - self.bond_returned)


def token_or_none(token: Address) -> Address | None:
    """A token as reports for machines name it: native coin is none."""
    return None if token == NATIVE else token


def hexed(data: bytes) -> str:
    """An id, digest or hash as text."""
    return "0x" + data.hex()
