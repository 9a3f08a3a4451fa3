"""What the mine remembers: campaigns as their events left them, and its own submissions with their states."""

from dataclasses import dataclass
from enum import StrEnum

from sonar.chain.records import NATIVE, Admission, Status, Verdict
from sonar.storage import Artifact
from sonar.units import Address, CampaignId, Digest, KeyId, Ppm, Wei

__all__ = ["KnownCampaign", "State", "Submission", "hexed", "token_or_none"]


class State(StrEnum):
    """The life of a submission.

        prepared -> signed -> posted -> judged
              \\        \\         \\-> expired   nobody settled the round; the bond came back
               \\--------\\-> missed             the round closed without it; nothing was lost

    `signed` comes before the transaction is sent, so a crash in between is seen.
    """

    PREPARED = "prepared"
    SIGNED = "signed"
    POSTED = "posted"
    JUDGED = "judged"
    EXPIRED = "expired"
    MISSED = "missed"


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
    nonce: int | None = None
    hash: bytes | None = None
    raw: bytes | None = None
    index: int | None = None
    verdict: Verdict | None = None
    share: Ppm | None = None
    payout: Wei | None = None
    bond_returned: Wei | None = None
    note: str = ""
    """Why it was missed, or judged as it was."""

    @property
    def bond_lost(self) -> Wei | None:
        """What the verdict cost of the bond; None before there is one, and where another copy of the ledger posted."""
        if self.bond_returned is None or self.bond < self.bond_returned:
            return None
        return Wei(self.bond - self.bond_returned)


def token_or_none(token: Address) -> Address | None:
    """A token as reports for machines name it: native coin is none."""
    return None if token == NATIVE else token


def hexed(data: bytes) -> str:
    """An id, digest or hash as text."""
    return "0x" + data.hex()
