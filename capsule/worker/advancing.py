"""From a round that advances to the next model version: product, fresh key, model; all stored before it is signed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from capsule.errors import CapsuleError
from capsule.judge import Judgement
from capsule.parts import Capsule
from capsule.sandbox import Desk
from capsule.state import Version
from capsule.weights import seal_weights
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


@dataclass(frozen=True, slots=True)
class _Made:
    """A next version as it goes to the store, and what it was made from."""

    task: bytes
    key: PublicKey
    product: bytes
    model: bytes


class Advancer:
    """Makes a campaign's next model versions.

    A store that is down must not use up the pool of keys: what was made is kept, and stored again as it was. Only for
    another model is another key taken, because nobody knows what such a store has given away already.
    """

    def __init__(self, capsule: Capsule, campaign: CampaignId, desk: Desk) -> None:
        self._capsule, self._campaign, self._desk = capsule, campaign, desk
        self._claimed: PublicKey | None = None
        self._made: _Made | None = None

    def advance(
        self, version: Version, current: PublicKey, judgement: Judgement, opened: Mapping[int, Opened]
    ) -> Advance:
        """The version after `version`, whose key is `current`; `opened` are the judged gradients by their place.

        Raises StoreUnavailableError where the store is down and JobLostError where it cannot be computed.
        """
        if judgement.weights is None:
            raise CapsuleError("a round that does not advance has no next model")
        capsule, weights = self._capsule, encode_weights(judgement.weights)
        kept = [place for place, result in enumerate(judgement.results) if result.kept]
        gradients = [opened[place].data for place in kept]
        factors = [judgement.results[place].weight for place in kept]
        task = _task(version, weights, gradients, factors, judgement.exponent)
        if self._made is None or self._made.task != task:
            self._made = self._make(task, version, current, weights, gradients, factors, judgement.exponent)
        made = self._made
        product, model = capsule.store.put(made.product), capsule.store.put(made.model)
        self._made = None
        key = made.key.key_id
        sealed = seal_weights(capsule.vault, weights, self._campaign, judgement.score, key, model.digest)
        return Advance(model, product, key, sealed)

    def _make(
        self,
        task: bytes,
        version: Version,
        current: PublicKey,
        weights: bytes,
        gradients: list[bytes],
        factors: list[int],
        exponent: int,
    ) -> _Made:
        capsule, shape, encoding = self._capsule, self._desk.spec.shape, self._desk.spec.encoding
        base = capsule.store.get(version.model, max_bytes=model_size_limit(*shape, slot_width=encoding.slot_width))
        key = self._claimed = self._claimed or capsule.keys.claim("round", campaign=self._campaign).public
        product, model = self._desk.advance((current, key), base, gradients, factors, exponent, weights)
        self._claimed = None
        return _Made(task, key, product, model)


def _task(version: Version, weights: bytes, gradients: list[bytes], factors: list[int], exponent: int) -> bytes:
    """What decides the next version but for its key: the same for a round that is judged once more."""
    parts = [version.model.digest, weights, *gradients, repr((version.number, factors, exponent)).encode()]
    return sha256(b"".join(sha256(part).digest() for part in parts)).digest()
