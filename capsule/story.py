"""A campaign's rounds that advanced, as the chain settled them: whose gradients made its model, and with which weights.

What the database tells is compared with what signs it: the chain's version and score, the Capsule's own signature of
each settlement, and the head of each round's gradients. So a mine that is credited with a part posted it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from capsule.errors import CapsuleError, CapsuleUnavailableError
from capsule.parts import Capsule
from capsule.state import StoredRound, Version
from capsule.state.posted import posted_head
from capsule.wire import RoundReply
from sonar.chain.records import CampaignRecord, Settlement, Verdict
from sonar.protocol.errors import SignatureError
from sonar.protocol.messages import verify_settlement
from sonar.protocol.spec import Spec
from sonar.storage import Artifact
from sonar.units import Address, CampaignId, Digest, KeyId

__all__ = ["Advanced", "Kept", "Story", "story_of"]


@dataclass(frozen=True, slots=True)
class Kept:
    """One kept gradient: whose it is, under which key, where, and by what its integers go into the model's."""

    round: int
    place: int
    mine: Address
    key: KeyId
    digest: Digest
    where: bytes | Artifact
    factor: int


@dataclass(frozen=True, slots=True)
class Advanced:
    """A round that advanced the model from the version `base`."""

    base: Version
    stored: StoredRound
    settlement: Settlement


@dataclass(frozen=True, slots=True)
class Story:
    """All rounds that advanced, and all kept gradients, whose integers times `factor` have the scale 2^scale."""

    versions: tuple[Advanced, ...]
    kept: tuple[Kept, ...]
    scale: int


def story_of(capsule: Capsule, campaign: CampaignId, spec: Spec, record: CampaignRecord, final: Version) -> Story:
    """What made the version `final` of a campaign, which `record` has on chain.

    Raises CapsuleUnavailableError while not all of it was seen, and CapsuleError where it is not as it was signed.
    """
    settled = []
    for stored in capsule.state.rounds(campaign):
        try:
            settlement, signature = RoundReply.model_validate_json(stored.settlement).settlement()
        except ValidationError as error:
            raise CapsuleError(f"the settlement of round {stored.round} is none that a Capsule writes") from error
        if stored.state != "final" or not settlement.advances:
            continue
        try:
            verify_settlement(capsule.domain, settlement, signature, capsule.address)
        except SignatureError as error:
            raise CapsuleError(f"the settlement of round {stored.round} is not as it was signed: {error}") from error
        if (settlement.campaign, settlement.round, settlement.head) != (campaign, stored.round, stored.head):
            raise CapsuleError(f"the settlement of round {stored.round} is another round's")
        settled.append((stored, settlement))
    if len(settled) != record.version or final.number != record.version or final.score != record.score:
        raise CapsuleUnavailableError(
            f"the Capsule has seen {len(settled)} of the {record.version} rounds that advanced campaign "
            f"0x{campaign.hex()}: try again shortly"
        )
    versions = [*(_version(capsule, campaign, number) for number in range(record.version)), final]
    advanced = []
    for (stored, settlement), base, after in zip(settled, versions, versions[1:], strict=False):
        made = settlement.key, settlement.model, settlement.score
        if stored.base != base.key or made != (after.key, after.model.digest, after.score):
            raise CapsuleError(f"round {stored.round} did not make version {after.number} from the one before it")
        advanced.append(Advanced(base, stored, settlement))
    most = max((one.settlement.exponent for one in advanced), default=0)
    kept = [one for step in advanced for one in _kept(capsule, campaign, step, most)]
    return Story(tuple(advanced), tuple(kept), spec.encoding.gradient_scale + most)


def _version(capsule: Capsule, campaign: CampaignId, number: int) -> Version:
    version = capsule.state.version(campaign, number)
    if version is None:
        raise CapsuleError(f"version {number} of the campaign is not in the database")
    return version


def _kept(capsule: Capsule, campaign: CampaignId, step: Advanced, most: int) -> list[Kept]:
    number, head, settlement = step.stored.round, step.stored.head, step.settlement
    entries = [submission.entry for submission in capsule.state.submissions(campaign, number)]
    if posted_head(campaign, number, entries) != head or len(entries) != len(settlement.outcomes):
        raise CapsuleError(f"round {number} was settled with other gradients than are in the database")
    places: Mapping[int, bytes | Artifact] = capsule.state.kept(campaign, number, head)
    found = []
    for place, (entry, outcome) in enumerate(zip(entries, settlement.outcomes, strict=True)):
        if outcome.verdict is not Verdict.KEPT:
            continue
        if place not in places:
            raise CapsuleError(f"the gradient {place} of round {number}, which was kept, is not in the database")
        factor = outcome.weight << (most - settlement.exponent)
        found.append(
            Kept(number, place, entry.mine, step.base.key, Digest(entry.gradient), places[place], factor)
        )  # fmt: skip
    return found
