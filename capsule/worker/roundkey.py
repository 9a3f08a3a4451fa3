"""The key that a version's gradients are under, opened once a round."""

from dataclasses import dataclass, field

from capsule.parts import Capsule
from capsule.state import Version
from capsule.weights import open_weights
from sonar.syft import PublicKey
from sonar.units import CampaignId, KeyId

__all__ = ["RoundKey", "RoundKeys"]


@dataclass(frozen=True, slots=True)
class RoundKey:
    """A version's key; `secret` as `SecretKey.to_bytes` gives it."""

    id: KeyId
    public: PublicKey
    secret: bytes = field(repr=False)


class RoundKeys:
    """The keys of one campaign's versions, of which the last one asked for is kept."""

    def __init__(self, capsule: Capsule, campaign: CampaignId) -> None:
        self._capsule, self._campaign = capsule, campaign
        self._last: RoundKey | None = None

    def of(self, version: Version) -> RoundKey:
        """The version's key, opened not before its weights have shown that it is that of the version.

        No gradient opens under another one, and one that does not open costs its mine the bond.
        """
        if self._last is None or self._last.id != version.key:
            open_weights(self._capsule.vault, self._campaign, version)
            secret = self._capsule.keys.secret(version.key)
            self._last = RoundKey(version.key, secret.public, secret.to_bytes())
        return self._last
