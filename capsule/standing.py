"""What the Capsule says of itself over HTTP: how it is, and how far its audit log goes."""

from typing import Annotated, Literal

from pydantic import Field

from capsule.wire import Hex32, Strict

__all__ = [
    "AuditHeadReply", "CampaignCounts", "ChainHealth", "HealthReply", "LiveReply", "PartHealth",
    "ReadyReply", "WorkerHealth",
]  # fmt: skip


class PartHealth(Strict):
    """Whether one part works. Why it does not is in the log, which is not for strangers."""

    ok: bool


class ChainHealth(PartHealth):
    """Whether the chain answers, and its latest block."""

    block: int | None


class WorkerHealth(PartHealth):
    """Whether the worker's last pass went through, else what it stopped at: a part, or a campaign in hex."""

    problems: tuple[str, ...]


class CampaignCounts(Strict):
    """How many campaigns were admitted, how many run, and how many signed settlements are not final."""

    admissions: int
    running: int
    unsettled: int


class HealthReply(Strict):
    """How the Capsule is: some seconds ago, or up to a minute ago where a part hangs."""

    status: Literal["ok", "degraded"]
    database: PartHealth
    chain: ChainHealth
    store: PartHealth
    keys: PartHealth
    judges: PartHealth
    worker: WorkerHealth
    campaigns: CampaignCounts | None


class LiveReply(Strict):
    """The process answers."""

    live: Literal[True]


class ReadyReply(Strict):
    """The Capsule can serve."""

    ready: Literal[True]


class AuditHeadReply(Strict):
    """How many entries the audit log has, and the hash of the last one, which commits to all."""

    length: Annotated[int, Field(ge=0)]
    hash: Hex32
    time: int
