"""From a round that advances to the next model version: product, fresh key, model; all stored before it is signed."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from capsule.errors import CapsuleError
from capsule.judge import Judgement
from capsule.parts import Capsule
from capsule.sandbox import Desk
from capsule.secret import Record
from capsule.state import Version
from capsule.worker.opening import Opened
from sonar.protocol.payloads import encode_weights
from sonar.storage import Artifact
from sonar.syft import PublicKey, model_size_limit
from sonar.units import CampaignId, KeyId

__all__ = ["Advance", "Advancer"]


@dataclass(frozen=True, slots=True)
class Advance:
    """The next model version, stored: its artifact, key and sealed plaintext, and the product under the old key."""

    model: Artifact
    product: Artifact
    key: KeyId
    weights: bytes = field(repr=False)


class Advancer:
    """Makes a campaign's next model versions."""

    def __init__(self, capsule: Capsule, campaign: CampaignId, desk: Desk) -> None:
        self._capsule, self._campaign, self._desk = capsule, campaign, desk
        self._claimed: PublicKey | None = None

    def advance(
        self, version: Version, current: PublicKey, judgement: Judgement, opened: Mapping[int, Opened]
    ) -> Advance:
        """The version after `version`, whose key is `current`; `opened` are the judged gradients by their place.

        Raises StoreUnavailableError where the store is down and JobLostError where it cannot be computed.
        """
        if judgement.weights is None:
            raise CapsuleError("a round that does not advance has no next model")
        capsule, shape, encoding = self._capsule, self._desk.spec.shape, self._desk.spec.encoding
        model = capsule.store.get(version.model, max_bytes=model_size_limit(*shape, slot_width=encoding.slot_width))
        # Kept until a model under it is stored: a store that is down must not use up the pool.
        self._claimed = self._claimed or capsule.keys.claim("round", campaign=self._campaign).public
        key, weights = self._claimed, encode_weights(judgement.weights)
        kept = [place for place, result in enumerate(judgement.results) if result.kept]
        combined, following = self._desk.advance(
            (current, key),
            model,
            [opened[place].data for place in kept],
            [judgement.results[place].weight for place in kept],
            judgement.exponent,
            weights,
        )
        stored = capsule.store.put(combined)
        self._claimed = None
        sealed = capsule.vault.seal(weights, Record.WEIGHTS, self._campaign + key.key_id)
        return Advance(capsule.store.put(following), stored, key.key_id, sealed)
