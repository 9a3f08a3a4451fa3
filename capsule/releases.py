"""Giving the weights of a network's present version to a mine that the campaign's terms admit.

A mine of this mode trains in the clear, so it must have the weights; the campaign's spec says who may. Where it names
accounts, those; else whoever has something to lose here: a bond that was posted in this campaign and not lost for a
gradient that was invalid or a copy, or before the first of them as much coin as the bond takes. That is a price, and no
secret: in a campaign without names, the model is known to anybody who holds a bond's worth, and the owner knew it when
she left the names out. What is never given: versions of campaigns that are over, other versions than the present one,
and anything that is not asked for under a signature over the digest of the very spec. Every release is in the audit
log.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from capsule.errors import CapsuleError, CapsuleRefusedError, CapsuleUnavailableError
from capsule.parts import Capsule
from capsule.state import StoredAdmission
from capsule.weights import open_weights
from capsule.worker.admitted import check_admitted
from sonar.chain.errors import ContractRevertError
from sonar.chain.records import CampaignRecord, Status, Verdict
from sonar.protocol.messages import SignedRequest
from sonar.protocol.sealing import BoxContext, Purpose, seal
from sonar.protocol.spec import Spec
from sonar.units import Address, CampaignId, Digest, format_ether

__all__ = ["Releaser"]

_log = logging.getLogger("capsule.releases")

_LONGEST_REQUEST = 1024
"""Requests for weights are kept: each is its account's acceptance of the terms."""
_LOST = {Verdict.INVALID, Verdict.COPY}

_parsed = lru_cache(maxsize=16)(Spec.parse)
"""Whoever signs may ask, and a large spec takes longer to read than anything else of a request that is refused."""


class Releaser:
    """Gives weights to mines. Safe in threads."""

    def __init__(self, capsule: Capsule) -> None:
        self._capsule = capsule

    def release(self, accepted: SignedRequest, campaign: CampaignId, terms: Digest, sealing_key: bytes) -> bytes:
        """The weights of the campaign's present version, sealed to `sealing_key` (32 bytes, X25519).

        Their context is (WEIGHTS, chain, contract, account, campaign in hex, model version). `terms` is the digest of
        the spec that the account accepts by the verified request `accepted`, which goes into the audit log. Raises
        CapsuleRefusedError with a stable code, CapsuleUnavailableError where this Capsule has not yet seen the present
        version.
        """
        capsule, account = self._capsule, accepted.request.account
        if len(accepted.body) > _LONGEST_REQUEST:
            raise CapsuleRefusedError(
                "bad_request",
                f"a request for weights of {len(accepted.body)} bytes is above the limit of {_LONGEST_REQUEST}: it is "
                "kept, so send it without white space",
            )
        stored = capsule.state.admission(campaign)
        if stored is None:
            raise CapsuleRefusedError("unknown_campaign", f"this Capsule admitted no campaign 0x{campaign.hex()}")
        spec = self._spec(stored)
        if spec.network is None:
            raise CapsuleRefusedError(
                "not_released", f"the model of campaign 0x{campaign.hex()} stays encrypted: no mine needs its weights"
            )
        if terms != stored.admission.spec:
            raise CapsuleRefusedError(
                "other_terms",
                f"the terms that were accepted, 0x{terms.hex()}, are not those of campaign 0x{campaign.hex()}, "
                f"0x{stored.admission.spec.hex()}: read its spec, and sign that",
            )
        record = self._running(campaign)
        self._check_admitted(account, spec, record)
        version = capsule.state.version(campaign, record.version)
        if version is None or version.score != record.score:
            raise CapsuleUnavailableError(
                f"the Capsule has not yet seen version {record.version} of campaign 0x{campaign.hex()}: try again "
                "shortly"
            )
        with _in_order(campaign):
            weights = open_weights(capsule.vault, campaign, version)
        context = BoxContext(
            Purpose.WEIGHTS, capsule.chain.chain_id, capsule.chain.address, account, campaign.hex(), version.number
        )
        try:
            box = seal(weights, context, sealing_key)
        except (ValueError, TypeError, RuntimeError) as error:
            raise CapsuleRefusedError(
                "bad_key", "the sealing key is not an X25519 public key: make a new one"
            ) from error
        capsule.state.gave_weights(campaign, version.number, terms, accepted)
        return box

    def _spec(self, stored: StoredAdmission) -> Spec:
        """The terms that the campaign's id is made of: who edits the database must not admit himself."""
        with _in_order(stored.campaign):
            check_admitted(self._capsule.domain, stored)
        return _parsed(stored.spec)

    def _running(self, campaign: CampaignId) -> CampaignRecord:
        try:
            record = self._capsule.chain.campaign(campaign)
        except ContractRevertError as error:
            raise CapsuleRefusedError(
                "unknown_campaign", f"campaign 0x{campaign.hex()} is not on chain: create it"
            ) from error
        if record.status is not Status.RUNNING or self._capsule.chain.now() >= record.terms.deadline:
            raise CapsuleRefusedError(
                "over", f"campaign 0x{campaign.hex()} is over: its weights are its owner's alone from now on"
            )
        return record

    def _check_admitted(self, account: Address, spec: Spec, record: CampaignRecord) -> None:
        """Raises CapsuleRefusedError unless the terms admit the account."""
        assert spec.network is not None
        if spec.network.accounts and account not in spec.network.accounts:
            raise CapsuleRefusedError(
                "not_admitted",
                f"the terms of campaign 0x{record.id.hex()} name {len(spec.network.accounts)} accounts, and {account} "
                "is none of them: ask its owner",
            )
        verdicts = self._verdicts(account, record.id)
        if _LOST & set(verdicts):
            raise CapsuleRefusedError(
                "not_admitted",
                f"{account} lost a bond in campaign 0x{record.id.hex()} for a gradient that was invalid or a copy: it "
                "is given no weights any more",
            )
        if spec.network.accounts or verdicts or self._capsule.chain.last_submission(record.id, account) is not None:
            return
        held, bond = self._capsule.chain.balance(account), record.terms.bond
        if held < bond:
            raise CapsuleRefusedError(
                "no_bond",
                f"{account} holds {format_ether(held)} ether, less than the bond of {format_ether(bond)}: fund it "
                "before it asks for weights",
            )

    def _verdicts(self, account: Address, campaign: CampaignId) -> tuple[Verdict, ...]:
        """What became of the account's gradients in rounds that this Capsule has settled.

        The chain tells how many these are: while fewer are known as such, every round that was signed counts.
        """
        with _in_order(campaign):
            found = self._capsule.state.standing(campaign, account)
        if found.settled >= self._capsule.chain.round(campaign).settled:
            return found.final
        if found.unclear:
            raise CapsuleUnavailableError(
                f"the Capsule has not yet seen all rounds of campaign 0x{campaign.hex()} that were settled: try again "
                "shortly"
            )
        return found.final + found.signed


@contextmanager
def _in_order(campaign: CampaignId) -> Iterator[None]:
    """Gives nothing where the database was edited, and tells the operator alone how."""
    try:
        yield
    except CapsuleError as error:
        _log.error("no weights of campaign 0x%s are given: run capsule audit verify: %s", campaign.hex(), error)
        raise CapsuleUnavailableError(
            f"what campaign 0x{campaign.hex()} was admitted with is not in order in the Capsule's database: tell its "
            "operator"
        ) from error
