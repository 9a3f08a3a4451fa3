"""What the Capsule does for those who ask: keys, admissions, deliveries, settlements. It knows no HTTP."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version as package_version
from typing import Any

from capsule.admission import Admitter
from capsule.answers import CapsuleInfo, KeyGrant, RoundReport, SignedAdmission
from capsule.attribution import Attributor
from capsule.errors import CapsuleError, CapsuleRefusedError, CapsuleUnavailableError, refusing
from capsule.parts import Capsule
from capsule.readiness import Readiness
from capsule.releases import Releaser
from capsule.state import Version
from capsule.weights import open_weights
from capsule.wire import RoundReply
from capsule.worker.following import confirmations_for
from sonar.chain.errors import ContractRevertError, WrongChainError
from sonar.chain.lookups import find_block
from sonar.chain.records import CampaignRecord, Status
from sonar.protocol.errors import SignatureError
from sonar.protocol.messages import (
    CapsuleAnswer,
    CapsuleRequest,
    Domain,
    SignedRequest,
    sign_answer,
    verify_request,
)
from sonar.protocol.sealing import BoxContext, Purpose, seal
from sonar.storage import Artifact
from sonar.units import Address, CampaignId, Digest, Ppm

__all__ = ["CapsuleService"]

_log = logging.getLogger("capsule.service")
_MOST_WAITING = 8
_KEY_SECONDS = 20.0
"""How long a request waits for a fresh key: less than its answer may take, or the key would be lost."""


class CapsuleService:
    """The Capsule's answers. Every method may be called from several threads.

    Raises CapsuleRefusedError with a stable code for what must not be done, CapsuleUnavailableError for what may work
    later, and lets errors of the chain pass.
    """

    def __init__(
        self,
        capsule: Capsule,
        worker_health: Callable[[], dict[str, Any]] = dict,
        readiness: Readiness | None = None,
    ) -> None:
        self._capsule = capsule
        self.readiness = readiness or Readiness(capsule, worker_health)
        self._admitter = Admitter(capsule)
        self._releaser = Releaser(capsule)
        self._attributor = Attributor(capsule)
        # One at a time: a validation set may fill a quarter of a gigabyte.
        self._admitting = threading.Lock()
        # Who waits holds a thread, and the threads are few: health and settlements need some as well.
        self._admissions = threading.Semaphore(_MOST_WAITING)
        self._key_requests = threading.Semaphore(_MOST_WAITING)

    @property
    def domain(self) -> Domain:
        """The chain and contract that this Capsule works for."""
        return self._capsule.domain

    def info(self) -> CapsuleInfo:
        """Who this Capsule is."""
        capsule = self._capsule
        return CapsuleInfo(
            address=capsule.address,
            sealing_key=capsule.sealing.public,
            chain_id=capsule.chain.chain_id,
            contract=capsule.chain.address,
            key_bits=capsule.key_bits,
            version=package_version("sonar-marketplace"),
        )

    def verify(self, request: CapsuleRequest, signature: bytes, body: bytes) -> None:
        """Raises CapsuleRefusedError unless the account signed this request over this body, for this time."""
        with refusing("bad_signature", SignatureError):
            verify_request(self._capsule.domain, request, signature, body, int(self._capsule.clock()))

    def take(self, request: CapsuleRequest) -> None:
        """Takes a verified request once: its nonce is stored until it expires, for every process and restart."""
        now = int(self._capsule.clock())
        if not self._capsule.state.remember_nonce(request.account, request.nonce, request.expiry, now):
            raise CapsuleRefusedError(
                "replayed", f"request {request.action!r} of {request.account} was answered already: sign a new one"
            )

    def denied(self, account: Address, action: str, code: str) -> None:
        """Writes into the audit log that a request, signed by this account, was denied."""
        self._capsule.state.audit.denied(account, action, code)

    def audit_head(self) -> tuple[int, bytes, int]:
        """The audit log's length and last hash, and the time in Unix seconds."""
        head = self._capsule.state.audit_head()
        return head.length, head.hash, int(self._capsule.clock())

    def sign(self, answer: CapsuleAnswer) -> bytes:
        """The Capsule's signature of an answer, so that nobody on the way can give another."""
        return sign_answer(self._capsule.domain, answer, self._capsule.attester)

    def new_key(self, account: Address) -> KeyGrant:
        """A fresh Paillier key that belongs to the account and admits one model, once."""
        capsule = self._capsule
        limit, since = capsule.policy.keys_per_hour, capsule.clock() - 3600
        if capsule.state.issued_since(account, since) >= limit:
            raise CapsuleRefusedError(
                "too_many_keys",
                f"{account} got {limit} keys within an hour, which is the most: wait until the first are an hour old",
            )
        if capsule.policy.require_funds and not capsule.chain.balance(account):
            raise CapsuleRefusedError(
                "no_funds", f"{account} holds no coin on chain {capsule.chain.chain_id}: fund it before asking for keys"
            )
        with _place(self._key_requests, "requests for keys"):
            public = capsule.keys.claim("issued", account, at_most=(limit, since), timeout=_KEY_SECONDS).public
        return KeyGrant(public.n, public.key_id)

    def admit(self, account: Address, *, spec: Artifact, model: Artifact, validation: Artifact) -> SignedAdmission:
        """Admits a start model: scores it and signs its admission. The model's key is used up, whatever comes out."""
        self._admitter.check(account)  # who is refused anyway takes no place
        with _place(self._admissions, "admissions"), self._admitting:
            return self._admitter.admit(account, spec, model, validation)

    def admission(self, campaign: CampaignId) -> SignedAdmission:
        """An admission that was given before."""
        stored = self._capsule.state.admission(campaign)
        if stored is None:
            raise CapsuleRefusedError("unknown_campaign", f"this Capsule admitted no campaign 0x{campaign.hex()}")
        return SignedAdmission(stored.admission, stored.signature)

    def deliver(self, account: Address, campaign: CampaignId, sealing_key: bytes) -> bytes:
        """The campaign's last weights, sealed to `sealing_key`; for its owner only, once it is over."""
        capsule = self._capsule
        record = self._ended(account, campaign)
        version = self._last(record)
        context = BoxContext(
            Purpose.DELIVERY, capsule.chain.chain_id, capsule.chain.address, account, campaign.hex(), version.number
        )
        weights = self._weights(record, version)
        try:
            box = seal(weights, context, sealing_key)
        except (ValueError, TypeError, RuntimeError) as error:
            raise CapsuleRefusedError(
                "bad_key", "the sealing key is not an X25519 public key: make a new one"
            ) from error
        # Before she has it: what is deleted some time after a delivery must be known to be delivered.
        capsule.state.delivered(campaign, account, version.number)
        return box

    def attribute(self, account: Address, campaign: CampaignId, sealing_key: bytes) -> bytes:
        """Each mine's share of what the campaign changed, sealed to `sealing_key`; for its owner, once it is over."""
        record = self._ended(account, campaign)
        return self._attributor.shares(record, self._last(record), sealing_key)

    def parts(self, account: Address, campaign: CampaignId, first: int, sealing_key: bytes) -> bytes:
        """What mines added to the weights, from the `first`th on, where the spec opens it; as `attribute` otherwise."""
        record = self._ended(account, campaign)
        return self._attributor.parts(record, self._last(record), first, sealing_key)

    def _ended(self, account: Address, campaign: CampaignId) -> CampaignRecord:
        """A campaign that is over for good; raises CapsuleRefusedError for another, and for whom it does not belong."""
        self.admission(campaign)  # refuses what this Capsule did not admit
        record = self._campaign(campaign)
        if record.owner != account:  # not the admission's owner: she may have handed the campaign over since
            raise CapsuleRefusedError(
                "not_owner", f"campaign 0x{campaign.hex()} belongs to {record.owner}, not {account}"
            )
        if not self._is_over(record):
            raise CapsuleRefusedError(
                "not_over",
                f"campaign 0x{campaign.hex()} is not over: wait for its target, its deadline or its last round",
            )
        self._await_confirmations(record)
        return record

    def _last(self, record: CampaignRecord) -> Version:
        """The version that the campaign ended with, whose secrets are still there."""
        state, campaign = self._capsule.state, record.id
        version = state.version(campaign, record.version)
        if version is None:
            if campaign in state.missed():
                raise CapsuleRefusedError(
                    "undeliverable",
                    f"campaign 0x{campaign.hex()} was brought to version {record.version} by another database than "
                    "this Capsule's, which cannot deliver its model: ask the Capsule's operator",
                )
            raise CapsuleUnavailableError(
                f"the Capsule has not yet seen version {record.version} of campaign 0x{campaign.hex()}: try again "
                "shortly"
            )
        if not version.weights:
            raise CapsuleRefusedError(
                "deleted", f"the weights of campaign 0x{campaign.hex()} were deleted after their retention time"
            )
        return version

    def release(self, accepted: SignedRequest, campaign: CampaignId, terms: Digest, sealing_key: bytes) -> bytes:
        """The present weights of a network, sealed to `sealing_key`; for a mine that the campaign's terms admit.

        `accepted` is its verified request, by which it accepts the terms.
        """
        return self._releaser.release(accepted, campaign, terms, sealing_key)

    def _weights(self, record: CampaignRecord, version: Version) -> bytes:
        """The version's weights; raises CapsuleUnavailableError where its row is not that of the chain's version."""
        problem: CapsuleError | None = None
        if version.score == record.score:
            try:
                return open_weights(self._capsule.vault, record.id, version)
            except CapsuleError as error:
                problem = error
        _log.error("version %d of campaign 0x%s is stored with score %d, and has %d on chain: %s", version.number,
                   record.id.hex(), version.score, record.score, problem)  # fmt: skip
        raise CapsuleUnavailableError(
            f"version {version.number} of campaign 0x{record.id.hex()} is not in order in the Capsule's database: tell "
            "its operator"
        ) from problem

    def round(self, campaign: CampaignId, number: int) -> RoundReport:
        """The signed settlement of a round, with the judge's reasons."""
        stored = self._capsule.state.round(campaign, number)
        if stored is None:
            raise CapsuleRefusedError(
                "unknown_round",
                f"this Capsule has signed no settlement of round {number} of campaign 0x{campaign.hex()}",
            )
        reply = RoundReply.model_validate_json(stored.settlement)
        settlement, signature = reply.settlement()
        published = self._capsule.state.published(campaign, number, stored.head)
        where = tuple(published.get(index) for index in range(len(settlement.outcomes)))
        return RoundReport(settlement, signature, reply.reasons(), where, reply.seed_block, Ppm(reply.sampling_error))

    def _await_confirmations(self, record: CampaignRecord) -> None:
        """Raises CapsuleUnavailableError unless the campaign was over, and its owner's, some confirmations ago.

        What a reorganisation takes back cannot be taken back from who has the model: the settlement that ended the
        campaign, say, and with it the mines' pay.
        """
        capsule = self._capsule
        depth = confirmations_for(capsule.chain.chain_id, capsule.policy.confirmations)
        if not depth:
            return
        block = capsule.chain.block_number() - depth
        try:
            before = self._campaign(record.id, block=block) if block >= 0 else None
        except (CapsuleRefusedError, WrongChainError):
            before = None  # it was not yet there, or not even the contract
        known = before is not None and (before.owner, before.version) == (record.owner, record.version)
        if before is None or not known or not self._is_over(before, block=block):
            raise CapsuleUnavailableError(
                f"campaign 0x{record.id.hex()} is over, but not for {depth} blocks yet: ask again when they have passed"
            )

    def _campaign(self, campaign: CampaignId, *, block: int | None = None) -> CampaignRecord:
        try:
            return self._capsule.chain.campaign(campaign, block=block)
        except ContractRevertError as error:
            raise CapsuleRefusedError(
                "unknown_campaign", f"campaign 0x{campaign.hex()} is not on chain: create it"
            ) from error

    def _is_over(self, record: CampaignRecord, *, block: int | None = None) -> bool:
        """Whether it was over after a block (None: the latest)."""
        if record.status is not Status.RUNNING:
            return True
        chain = self._capsule.chain
        found = None if block is None else find_block(chain, block)
        now = chain.now() if found is None else found.time
        return now >= record.terms.deadline and chain.round(record.id, block=block).count == 0


@contextmanager
def _place(places: threading.Semaphore, what: str) -> Iterator[None]:
    """One of the places, at once or never."""
    if not places.acquire(blocking=False):
        raise CapsuleUnavailableError(f"the Capsule has {_MOST_WAITING} {what} to deal with: try again in a minute")
    try:
        yield
    finally:
        places.release()
