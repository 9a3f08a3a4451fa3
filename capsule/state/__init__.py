"""The Capsule's memory, in a database; every secret in it is sealed by the vault."""

from capsule.state.database import State, StoredAdmission, StoredKey, StoredRound, Submission, Version

__all__ = ["State", "StoredAdmission", "StoredKey", "StoredRound", "Submission", "Version"]
