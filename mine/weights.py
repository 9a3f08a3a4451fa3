"""The present weights of a network, from the Capsule that the campaign's admission names.

Asking is accepting: the request, signed by the mine's account, has the digest of the campaign's spec in it. The answer
is signed by the Capsule, sealed to a key made for it alone, and says which campaign and version it is for.
"""

from typing import TYPE_CHECKING

from eth_account.signers.local import LocalAccount

from mine.errors import NotNowError, PolicyError
from mine.offer import Offer
from sonar.config import Network
from sonar.protocol.errors import SealedBoxError
from sonar.protocol.sealing import BoxContext, Purpose, SealingKeyPair, open_box_for
from sonar.units import Address

if TYPE_CHECKING:
    from sonar.chain.signing import Signer

__all__ = ["fetch_weights"]

_SECONDS = 120.0


def fetch_weights(network: Network, account: "Signer", offer: Offer, version: int) -> bytes:
    """The weights of a campaign's model version, as `decode_weights` reads them.

    Raises PolicyError where the Capsule gives this mine none or it cannot ask, and NotNowError where it does not answer
    or has another version.
    """
    from capsule.client import CapsuleClient, CapsuleError, CapsuleRefusedError

    campaign = offer.campaign
    if network.capsule_url is None:
        raise PolicyError("the network file has no `capsule_url`, and this campaign's weights come from its Capsule")
    if not isinstance(account, LocalAccount):
        raise PolicyError("its weights are asked for under a signature that a signing service does not make")
    pair, oracle = SealingKeyPair.generate(), Address(campaign.admission.oracle)
    try:
        with CapsuleClient(network.capsule_url, offer.domain, account, attester=oracle, timeout=_SECONDS) as client:
            box = client.weights(campaign.id, campaign.spec.digest, pair.public)
    except CapsuleRefusedError as error:
        if error.code == "too_many_requests":
            raise NotNowError(f"its weights cannot be had now: {error}", ("weights",)) from error
        raise PolicyError(f"its Capsule gives this mine no weights: {error}") from error
    except CapsuleError as error:
        raise NotNowError(f"its weights cannot be had now: {error}", ("weights",)) from error
    domain = offer.domain
    context = BoxContext(
        Purpose.WEIGHTS, domain.chain_id, domain.contract, Address(account.address), campaign.id.hex(), version
    )
    try:
        return open_box_for(box, pair, context)
    except SealedBoxError as error:
        raise NotNowError(
            f"its Capsule gave other weights than those of version {version}: {error}", ("weights",)
        ) from error
