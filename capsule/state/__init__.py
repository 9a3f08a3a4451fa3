"""The Capsule's memory, in a database; every secret in it is sealed by the vault."""

from capsule.state.audit import AuditEntry, AuditHead
from capsule.state.claims import SERVING, Claim, Claims
from capsule.state.database import State
from capsule.state.records import (
    Final,
    Position,
    Relay,
    StoredAdmission,
    StoredCampaign,
    StoredKey,
    StoredRound,
    Submission,
    Told,
    Version,
)

__all__ = [
    "SERVING", "AuditEntry", "AuditHead", "Claim", "Claims", "Final", "Position", "Relay", "State", "StoredAdmission",
    "StoredCampaign", "StoredKey", "StoredRound", "Submission", "Told", "Version",
]  # fmt: skip
