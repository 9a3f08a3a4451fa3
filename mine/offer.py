"""What a campaign offers, believed only as far as signatures and digests go.

The node that answers could invent a campaign to get at the mine's data. So the admission must hash to the campaign's
id, carry the signature of a Capsule, or of enough members of a committee, that the owner trusts, and the spec must have
the digest that was signed; only the sealing key in that admission is sealed to.

Later versions are taken from the chain's events alone, though their settlements are signed, too. A node that invents a
version, with weights that would show records or under a key of its own, gets nothing readable for it: the gradient is
sealed to the Capsule all the same, which publishes kept ones only. What the node can bring about is a lost bond, and it
can do that anyhow. Signatures are in the relaying transaction, which may be any contract's: to insist on reading them
would let whoever relays a round by a contract of her own keep all mines from the next one.
"""

from dataclasses import dataclass

from mine.errors import PolicyError
from mine.policy import Policy
from mine.records import KnownCampaign
from sonar.chain.client import SonarClient
from sonar.chain.lookups import admission_signature
from sonar.chain.signing import Signer
from sonar.protocol.committee import verify_joined
from sonar.protocol.messages import Domain, hash_admission, verify_admission
from sonar.protocol.sealing import BoxContext, Purpose, seal
from sonar.protocol.spec import MAX_SPEC_BYTES, Spec
from sonar.storage import ContentStore
from sonar.units import Address

__all__ = ["Offer", "read_offer"]


@dataclass(frozen=True, slots=True)
class Offer:
    """A campaign whose admission, spec and terms agree with each other."""

    campaign: KnownCampaign
    domain: Domain
    spec: Spec

    def seal(self, payload: bytes, account: Signer, round: int) -> bytes:  # noqa: A002
        """A gradient as only the campaign's Capsule can read it, worth nothing in another account or round."""
        context = BoxContext(
            purpose=Purpose.GRADIENT,
            chain_id=self.domain.chain_id,
            contract=self.domain.contract,
            account=Address(account.address),
            subject=self.campaign.id.hex(),
            round=round,
        )
        return seal(payload, context, self.campaign.admission.sealing_key)


def read_offer(
    client: SonarClient, store: ContentStore, campaign: KnownCampaign, policy: Policy, network_capsule: str | None
) -> Offer:
    """Fetches and verifies a campaign's admission and spec.

    Raises PolicyError for a Capsule that is not trusted, ProtocolError for an admission or spec that does not hold,
    StorageError and ChainError where something cannot be had.
    """
    committee = policy.trusts(campaign.admission.oracle, network_capsule)
    domain = Domain(client.chain_id, client.address)
    if hash_admission(domain, campaign.admission) != campaign.id:
        raise PolicyError("its admission does not hash to its id: the node at the RPC address is not honest")
    signature = admission_signature(client, campaign.transaction)
    if signature is None:
        raise PolicyError("it was created through another contract, so its Capsule's signature cannot be read")
    if committee is None:
        verify_admission(domain, campaign.admission, signature)
    else:
        verify_joined(campaign.id, signature, [Address(member) for member in committee.members], committee.threshold)
    spec = Spec.parse(store.get(campaign.spec, max_bytes=MAX_SPEC_BYTES))
    spec.check_terms(client.campaign(campaign.id).terms)
    return Offer(campaign, domain, spec)
