"""The artifacts of a campaign: spec, models and gradients are what was committed to, and each product is theirs.

The product of a round (its next model under the round's own key) is computed again, ciphertext by ciphertext, from the
model before, the published gradients and the signed weights.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import gcd
from typing import TypeVar

from sonar import syft
from sonar.audit.chain import Settled
from sonar.audit.report import Notes
from sonar.chain.events import CampaignCreated
from sonar.protocol.errors import ProtocolError
from sonar.protocol.spec import MAX_SPEC_BYTES, Spec
from sonar.storage.base import Artifact, ContentStore
from sonar.storage.cids import cid_of
from sonar.storage.errors import ArtifactTooLargeError, DigestMismatchError, InvalidCidError, StorageError
from sonar.syft import EncryptedTensor, SyftError
from sonar.units import Cid, Digest, KeyId

__all__ = ["Places", "check_artifacts"]

Places = Callable[[int], Mapping[Digest, Cid]]
"""Where the published gradients of a round are said to be: only a hint, as the digest decides."""
Found = TypeVar("Found")
_AT_ONCE = 8
"""Artifacts that are fetched together."""


def check_artifacts(
    created: CampaignCreated,
    rounds: Sequence[Settled],
    store: ContentStore,
    notes: Notes,
    *,
    places: Places | None = None,
    allow_insecure_small_key: bool = False,
) -> None:
    """Fetches and checks everything public of a campaign, and computes each product again."""
    audit = _Artifacts(store, notes, places, allow_insecure_small_key)
    spec = audit.spec(created)
    if spec is None:
        return
    model = audit.model(spec, Artifact(created.model_cid, created.admission.model), created.admission.key, "campaign")
    for settled in rounds:
        settlement = settled.settlement
        if not settlement.advances:
            continue
        if model is None:
            notes.unchecked("product", settled.place, "the model before it is not to be had")
        else:
            audit.product(spec, model, settled)
        model = audit.model(spec, Artifact(settlement.model_cid, settlement.model), settlement.key, settled.place)


class _Artifacts:
    def __init__(self, store: ContentStore, notes: Notes, places: Places | None, small_key: bool) -> None:
        self._store, self._notes, self._places, self._small_key = store, notes, places, small_key
        self._moduli: set[int] = set()

    def spec(self, created: CampaignCreated) -> Spec | None:
        """The spec, whose terms must be the contract's."""
        artifact = Artifact(created.spec_cid, created.admission.spec)
        spec = self._read("spec", "campaign", "the spec", artifact, MAX_SPEC_BYTES, Spec.parse)
        if spec is not None:
            try:
                spec.check_terms(created.terms)
            except ProtocolError as error:
                self._notes.differs("spec", "campaign", str(error))
            else:
                self._notes.holds("spec", "campaign", "the spec promises the contract's terms")
        return spec

    def model(self, spec: Spec, artifact: Artifact, key: KeyId, place: str) -> EncryptedTensor | None:
        """A model version, which must have the committed key and the spec's shape and encoding."""
        rows, outputs = spec.shape
        limit = syft.model_size_limit(rows, outputs, slot_width=spec.encoding.slot_width)
        found = self._read(
            "model", place, "the model", artifact, limit,
            lambda data: syft.load_model(data, allow_insecure_small_key=self._small_key),
        )  # fmt: skip
        if found is None:
            return None
        encoding = spec.encoding
        self._notes.compare("key", place, "the fingerprint of the model's key", found.key.key_id, key)
        # One by one: both primes may be earlier ones', of two keys. The same key again is told of elsewhere.
        if any(gcd(found.key.n, earlier) not in (1, found.key.n) for earlier in self._moduli):
            self._notes.differs("key", place, "the model's key has a prime in common with an earlier one's, so that "
                                "everybody can work out both")  # fmt: skip
        self._moduli.add(found.key.n)
        self._notes.compare(
            "model", place, "the model's shape and encoding",
            (found.shape, found.slot_width, found.scale, found.bound, found.stride),
            (spec.shape, encoding.slot_width, encoding.weight_bits, encoding.weight_bound,
             encoding.stride(found.key, outputs)),
        )  # fmt: skip
        return found

    def product(self, spec: Spec, model: EncryptedTensor, settled: Settled) -> None:
        """A round's product from the model, the kept gradients and the settlement's weights and exponent."""
        settlement, notes, place = settled.settlement, self._notes, settled.place
        limit = syft.gradient_size_limit(spec.shape[0], spec.encoding.gradient_layout(model.key, spec.shape[1]))
        gradients = self._gradients(spec, model, settled, limit)
        published = self._read("product", place, "the product", Artifact(settlement.product_cid, settlement.product),
                               limit, bytes)  # fmt: skip
        if published is None:
            return
        if len(gradients) < len(settled.kept):
            notes.unchecked("product", place, f"{len(gradients)} of the {len(settled.kept)} kept gradients are to be "
                            "had, and the product takes all")  # fmt: skip
            return
        try:
            weights = [weight for _, weight in settled.kept]
            computed = syft.dump_product(syft.product(model, gradients, weights, settlement.exponent))
        except SyftError as error:
            notes.differs("product", place, f"model and gradients make no product: {error}")
            return
        notes.require("product", place, computed == published,
                      f"the product is the model and {len(weights)} gradients, computed again",
                      "the product is not what model, gradients and signed weights make")  # fmt: skip

    def _gradients(self, spec: Spec, model: EncryptedTensor, settled: Settled, limit: int) -> list[EncryptedTensor]:
        """The kept gradients that are to be had. One that is not takes a store long to look for, so several at once."""
        # Not even small ones are always where their digest says: a node may keep no raw blocks, as the embedded one.
        told = {} if self._places is None else self._places(settled.settlement.round)
        found: list[EncryptedTensor] = []
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="audit") as threads:
            for start in range(0, len(settled.kept), _AT_ONCE):
                group = [gradient for gradient, _ in settled.kept[start : start + _AT_ONCE]]
                fetched = threads.map(
                    lambda gradient: self._fetch(gradient.gradient, told.get(gradient.gradient), limit), group
                )
                for gradient, data in zip(group, fetched, strict=True):
                    place = f"{settled.place}, gradient {gradient.index}"
                    parsed = self._parsed(
                        "gradient", place, "the published gradient", data,
                        lambda data: syft.load_gradient(data, model.key),
                    )  # fmt: skip
                    if parsed is not None:
                        found.append(parsed)
                        self._check_grid(spec, parsed, place)
        return found

    def _check_grid(self, spec: Spec, gradient: EncryptedTensor, place: str) -> None:
        """The product holds at any scale that a round's gradients have in common, and is the model's at the spec's."""
        given = gradient.scale, gradient.bound
        if given != (wanted := (spec.encoding.gradient_scale, spec.encoding.gradient_bound)):
            self._notes.differs("gradient", place, f"it was kept, and has scale and bound {given}, where the spec asks "
                                f"for {wanted}")  # fmt: skip

    def _fetch(self, digest: Digest, hint: Cid | None, limit: int) -> bytes | StorageError:
        """An artifact from where somebody says that it is, or from where its digest says that a small one mostly is."""
        if hint is not None:
            try:
                return self._store.get(Artifact(hint, digest), max_bytes=limit)
            except StorageError:
                pass  # nobody vouches for a hint, so what is wrong with it is no finding
        try:
            return self._store.get(Artifact(cid_of(digest), digest), max_bytes=limit)
        except StorageError as error:
            return error

    def _read(
        self, check: str, place: str, what: str, artifact: Artifact, limit: int, parse: Callable[[bytes], Found]
    ) -> Found | None:
        """An artifact that the chain commits to, parsed; None with a finding where that cannot be."""
        try:
            data: bytes | StorageError = self._store.get(artifact, max_bytes=limit)
        except StorageError as error:
            data = error
        return self._parsed(check, place, what, data, parse)

    def _parsed(
        self, check: str, place: str, what: str, data: bytes | StorageError, parse: Callable[[bytes], Found]
    ) -> Found | None:
        match data:
            case DigestMismatchError() | ArtifactTooLargeError() | InvalidCidError():
                self._notes.differs(check, place, f"{what}: {data}")
            case StorageError():
                self._notes.unchecked(check, place, f"{what} is not to be had: {data}")
            case _:
                try:
                    return parse(data)
                except (SyftError, ProtocolError) as error:
                    self._notes.differs(check, place, f"{what} is not what it must be: {error}")
        return None
