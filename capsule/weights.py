"""A model version's plaintext weights at rest: they open only beside the score, key and model that they belong to.

Whoever writes to the database cannot put another version's key under a round that way, which no honest gradient would
open with. What remains is a version that is put in another's place as a whole, and the contract tells its score, which
rises with each one.
"""

from capsule.errors import CapsuleError
from capsule.secret import CapsuleSecretError, Record, Vault
from capsule.state import Version
from sonar.units import CampaignId, Digest, KeyId, Ppm

__all__ = ["open_weights", "seal_weights"]

_SCORE_BYTES = 4


def seal_weights(vault: Vault, weights: bytes, campaign: CampaignId, score: Ppm, key: KeyId, model: Digest) -> bytes:
    """The sealed record of the weights that this model has under this key, and that have this score."""
    return vault.seal(weights, Record.WEIGHTS, _subject(campaign, score, key, model))


def open_weights(vault: Vault, campaign: CampaignId, version: Version) -> bytes:
    """A version's weights; raises CapsuleError where its row is not as it was made, or they were deleted."""
    if not version.weights:
        raise CapsuleError(f"the weights of campaign 0x{campaign.hex()} were deleted after their retention time")
    try:
        subject = _subject(campaign, version.score, version.key, version.model.digest)
        return vault.open(version.weights, Record.WEIGHTS, subject)
    except CapsuleSecretError as error:
        raise CapsuleError(
            f"version {version.number} of campaign 0x{campaign.hex()} is stored with a score, key or model that its "
            f"weights were not sealed with ({error}): run capsule audit verify, and restore a backup"
        ) from error


def _subject(campaign: CampaignId, score: Ppm, key: KeyId, model: Digest) -> bytes:
    """Campaign (32 bytes), score in ppm (4, big-endian), the key's fingerprint (32), the model's digest (32)."""
    return campaign + score.to_bytes(_SCORE_BYTES, "big") + key + model
