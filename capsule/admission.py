"""Admitting a start model: examined in a judge process, once, under a key that is used up by it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from capsule.answers import SignedAdmission
from capsule.errors import AuditLogError, CapsuleRefusedError, CapsuleUnavailableError, refusing
from capsule.parts import Capsule
from capsule.sandbox import JobLostError
from capsule.secret import CapsuleSecretError, Record
from capsule.state import StoredAdmission, Version
from capsule.weights import seal_weights
from sonar.chain.records import Admission
from sonar.protocol.errors import SealedBoxError, SpecError
from sonar.protocol.messages import hash_admission, sign_admission
from sonar.protocol.payloads import MAX_VALIDATION_BYTES
from sonar.protocol.sealing import OVERHEAD, BoxContext, Purpose, open_box_for
from sonar.protocol.spec import MAX_SPEC_BYTES, Spec
from sonar.storage import (
    Artifact,
    ArtifactTooLargeError,
    DigestMismatchError,
    StorageError,
    StoreUnavailableError,
)
from sonar.storage.base import check_artifact
from sonar.syft import model_size_limit
from sonar.units import Address, KeyId

__all__ = ["Admitter"]

_log = logging.getLogger("capsule.admission")

_LANE = "admissions"
"""Whoever asks for admissions waits for those before, and not for a campaign's gradients."""


class Admitter:
    """Admits start models, each with a key that the Capsule issued to its account. Safe in threads."""

    def __init__(self, capsule: Capsule) -> None:
        self._capsule = capsule

    def admit(self, account: Address, spec: Artifact, model: Artifact, validation: Artifact) -> SignedAdmission:
        """The signed admission; raises CapsuleRefusedError with a stable code, or CapsuleUnavailableError."""
        self.check(account)
        try:
            return self._admit(account, spec, model, validation)
        except (CapsuleRefusedError, CapsuleUnavailableError) as error:
            # What the Capsule lacked costs nobody anything; processes that a model has used up do.
            if isinstance(error, CapsuleRefusedError) or isinstance(error.__cause__, JobLostError):
                self._capsule.state.count_failure(account, self._capsule.clock())
            raise

    def check(self, account: Address) -> None:
        """Raises CapsuleRefusedError unless the account may try: with a key, and after few failures.

        Keys are few and cost coin, requests do not, and a model that is refused unread leaves its key as it was.
        """
        state, most = self._capsule.state, self._capsule.policy.failed_admissions_per_hour
        uses = state.key_uses(account)
        if "issued" not in uses:
            code = "key_used" if uses else "unknown_key"
            raise CapsuleRefusedError(code, f"{account} has no key that can admit a model: ask for a new one")
        if state.failures(account, self._capsule.clock()) >= most:
            raise CapsuleRefusedError(
                "too_many_failures", f"{most} admissions of {account} failed within an hour: wait until it is over"
            )

    def _admit(self, account: Address, spec: Artifact, model: Artifact, validation: Artifact) -> SignedAdmission:
        capsule = self._capsule
        spec_bytes = self._fetch("spec", spec, MAX_SPEC_BYTES)
        with refusing("bad_spec", SpecError):
            parsed = Spec.parse(spec_bytes)
        limit = model_size_limit(*parsed.shape, slot_width=parsed.encoding.slot_width)
        model_bytes = self._fetch("model", model, limit)
        desk = capsule.sandbox.desk(_LANE, parsed, spec_bytes)
        with _answering(""):
            key_id = desk.inspect(model_bytes, capsule.key_bits)
        self._check_key(account, key_id)
        box = self._fetch_box(account, key_id, validation)

        # From here on secrets are used, so the key is used up first: a second try would make this a decryption oracle.
        if not self._use_up(key_id, account):
            raise CapsuleRefusedError("key_used", f"key 0x{key_id.hex()} was used already: ask for a new one")
        payload = self._open_validation(account, key_id, box)
        if not capsule.state.use_up_box(validation.digest):
            raise CapsuleRefusedError("box_used", "this sealed validation set was used already: seal it again")
        secret = capsule.keys.secret(key_id)
        with _answering("; the key is used up, so ask for a new one"):
            start = desk.admit(secret.public, secret.to_bytes(), model_bytes, payload)

        admission = Admission(
            spec=spec.digest,
            model=model.digest,
            key=key_id,
            sealing_key=capsule.sealing.public,
            start_score=start.score,
            oracle=Address(capsule.attester.address),
            owner=account,
            valid_until=capsule.chain.now() + capsule.policy.admission_seconds,
        )
        signature = sign_admission(capsule.domain, admission, capsule.attester)
        campaign = hash_admission(capsule.domain, admission)
        sealed_set = capsule.vault.seal(payload, Record.VALIDATION, campaign)
        sealed_weights = seal_weights(capsule.vault, start.weights, campaign, start.score, key_id, model.digest)
        # A copy of our own: the worker needs the model's ciphertexts for as long as the campaign runs.
        kept_model = self._keep(model_bytes)
        self._keep(spec_bytes)
        capsule.state.add_admission(
            StoredAdmission(campaign, admission, signature, spec_bytes, kept_model.cid, sealed_set),
            Version(0, start.score, key_id, kept_model, sealed_weights),
        )
        _log.info("admitted campaign 0x%s", campaign.hex()[:16], extra={"campaign": "0x" + campaign.hex()})
        return SignedAdmission(admission, signature)

    def _check_key(self, account: Address, key_id: KeyId) -> None:
        row = self._capsule.state.key(key_id)
        if row is None or row.owner != account:
            raise CapsuleRefusedError(
                "unknown_key",
                f"the model's key 0x{key_id.hex()} was not issued to {account}: ask for one with this account",
            )
        with _as_told(key_id):
            as_told = self._capsule.state.issued_once(row, account)
        if row.use == "issued" and not as_told:
            _log.error("key 0x%s stands as issued, and not in the log: run capsule audit verify", key_id.hex())
        if row.use != "issued" or not as_told:
            raise CapsuleRefusedError("key_used", f"key 0x{key_id.hex()} was used already: ask for a new one")

    def _use_up(self, key_id: KeyId, account: Address) -> bool:
        with _as_told(key_id):
            return self._capsule.keys.use_up(key_id, account)

    def _open_validation(self, account: Address, key_id: KeyId, box: bytes) -> bytes:
        chain = self._capsule.chain
        expected = BoxContext(Purpose.VALIDATION, chain.chain_id, chain.address, account, key_id.hex())
        with refusing("bad_validation", SealedBoxError):
            return open_box_for(box, self._capsule.sealing, expected)

    def _fetch_box(self, account: Address, key_id: KeyId, validation: Artifact) -> bytes:
        """The sealed validation set. One that was fetched in vain uses the key up.

        Else one account with one key could have a quarter of a gigabyte fetched with each request, for ever.
        """
        with refusing("bad_artifact", StorageError):
            check_artifact(validation)  # what cannot come out right costs nothing
        try:
            return self._fetch("validation set", validation, MAX_VALIDATION_BYTES + OVERHEAD)
        except CapsuleRefusedError as refusal:
            if isinstance(refusal.__cause__, ArtifactTooLargeError | DigestMismatchError):
                self._use_up(key_id, account)
            raise

    def _fetch(self, what: str, artifact: Artifact, max_bytes: int) -> bytes:
        try:
            return self._capsule.store.get(artifact, max_bytes=max_bytes)
        except StoreUnavailableError as error:
            raise CapsuleUnavailableError(f"the Capsule's content store does not answer: {error}") from error
        except StorageError as error:
            raise CapsuleRefusedError("bad_artifact", f"the {what} cannot be fetched: {error}") from error

    def _keep(self, data: bytes) -> Artifact:
        try:
            return self._capsule.store.put(data)
        except StorageError as error:
            raise CapsuleUnavailableError(f"the Capsule's content store does not answer: {error}") from error


@contextmanager
def _as_told(key_id: KeyId) -> Iterator[None]:
    """Admits nothing where the database was edited: a used key made an issued one would decrypt what is under it."""
    try:
        yield
    except (AuditLogError, CapsuleSecretError) as error:
        _log.error("key 0x%s cannot admit: run capsule audit verify: %s", key_id.hex(), error)
        raise CapsuleUnavailableError(
            f"what key 0x{key_id.hex()} was taken for is not in order in the Capsule's database: tell its operator"
        ) from error


@contextmanager
def _answering(consequence: str) -> Iterator[None]:
    """Turns a job that was lost twice into an unavailable Capsule: the model may be at fault, or the Capsule."""
    try:
        yield
    except JobLostError as error:
        raise CapsuleUnavailableError(
            f"the Capsule could not examine this model within its limits ({error.loss}){consequence}"
        ) from error
