"""What the database holds, as frozen values. Secrets in them are sealed; they are empty once they were deleted."""

from dataclasses import dataclass

from sonar.chain.records import Admission, Entry
from sonar.storage.base import Artifact
from sonar.units import Address, CampaignId, Cid, KeyId, Ppm

__all__ = [
    "Final", "Position", "Relay", "StoredAdmission", "StoredCampaign", "StoredKey", "StoredRound", "Submission", "Told",
    "Version",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A Paillier key: `use` is spare, issued (to `owner`), used (by an admission, also a failed one), round or lost.

    `born` is how many entries the audit log had before anything could be told of it. `time` is when it was made, issued
    or taken for a round, `used` when an admission used it up, `campaign` whose round key it is, `deleted` when its
    secret was deleted.
    """

    id: KeyId
    modulus: bytes
    secret: bytes
    use: str
    owner: Address | None
    campaign: CampaignId | None = None
    time: float = 0.0
    born: int = 0
    used: float | None = None
    deleted: float | None = None


@dataclass(frozen=True, slots=True)
class StoredAdmission:
    """A signed admission with what judging needs: the spec's bytes and the sealed validation set."""

    campaign: CampaignId
    admission: Admission
    signature: bytes
    spec: bytes
    model_cid: Cid
    validation: bytes


@dataclass(frozen=True, slots=True)
class Version:
    """A model version: its score, its key, its artifact and its sealed plaintext weights."""

    number: int
    score: Ppm
    key: KeyId
    model: Artifact
    weights: bytes


@dataclass(frozen=True, slots=True)
class Submission:
    """A gradient as its event in `block` told it."""

    round: int
    index: int
    entry: Entry
    cid: Cid
    block: int


@dataclass(frozen=True, slots=True)
class StoredRound:
    """A signed settlement: as the API's JSON, with the sealed next weights; `state` is signed, final or expired.

    `base` is the key of the version that it was judged on.
    """

    round: int
    head: bytes
    settlement: str
    weights: bytes | None
    state: str
    base: KeyId


@dataclass(frozen=True, slots=True)
class StoredCampaign:
    """A campaign on chain: `state` is running or over; `ended` and `delivered` are times of the Capsule's clock.

    `ended` is when the end was seen, and no earlier than the chain's time by then.
    """

    campaign: CampaignId
    block: int
    state: str
    ended: float | None
    delivered: float | None


@dataclass(frozen=True, slots=True)
class Position:
    """From which block events are to be read, and how often the chain's history was found changed before."""

    block: int
    rewinds: int = 0


@dataclass(frozen=True, slots=True)
class Final:
    """A settlement that the chain took in `block`; `version` is the one that it made, if any."""

    campaign: CampaignId
    round: int
    head: bytes
    block: int
    version: Version | None


@dataclass(frozen=True, slots=True)
class Told:
    """What one read of the chain told, up to but without `next_block`.

    `created` and `over`: campaign and block; `expired`: campaign, round and block; `missed` likewise: settlements that
    made a version which this database does not hold; `checkpoints`: number and hash of blocks by which a later reader
    sees whether the history is still the same; `time`: the chain's when all of it had happened.
    """

    next_block: int
    created: tuple[tuple[CampaignId, int], ...] = ()
    submitted: tuple[tuple[CampaignId, Submission], ...] = ()
    settled: tuple[Final, ...] = ()
    expired: tuple[tuple[CampaignId, int, int], ...] = ()
    missed: tuple[tuple[CampaignId, int, int], ...] = ()
    over: tuple[tuple[CampaignId, int], ...] = ()
    checkpoints: tuple[tuple[int, bytes], ...] = ()
    time: float = 0.0


@dataclass(frozen=True, slots=True)
class Relay:
    """A signed transaction that carries a settlement; a replacement is one more of the same `nonce`.

    `fee` and `tip` are wei per gas: the most in all, and the most for the block's maker. `state` is intent (stored,
    perhaps not sent), sent, mined, replaced or failed.
    """

    hash: bytes
    campaign: CampaignId
    round: int
    head: bytes
    nonce: int
    raw: bytes
    fee: int
    tip: int
    state: str = "intent"
    time: float = 0.0
