"""Whether a settlement that was signed before the chain changed still continues the model that the chain has now.

A round's head names its gradients, but not the version that they were judged on. A reorganisation can leave a round its
gradients and take the settlement before it away, and then the same head stands on another version. A settlement is
signed once for a head, so that round cannot be judged again: it expires, bonds go back, and the next one is judged.
"""

from capsule.parts import Capsule
from sonar.chain.records import Settlement
from sonar.protocol.spec import Spec
from sonar.storage import Artifact
from sonar.syft import PublicKey, WireFormatError, gradient_size_limit, load_product

__all__ = ["continues"]


def continues(capsule: Capsule, settlement: Settlement, present: int) -> bool:
    """Whether the settlement's product is under the key of version `present`, which its round must have had.

    One that does not advance changes no model, and the contract checks that it names the present score. Raises
    StorageError where the product cannot be fetched.
    """
    if not settlement.advances:
        return True
    state = capsule.state
    admission, version = state.admission(settlement.campaign), state.version(settlement.campaign, present)
    row = None if version is None else state.key(version.key)
    if admission is None or row is None:
        return False
    public = PublicKey(
        int.from_bytes(row.modulus, "big"), allow_insecure_small_key=capsule.allow_insecure_small_key
    )  # fmt: skip
    spec = Spec.parse(admission.spec)
    limit = gradient_size_limit(spec.shape[0], spec.encoding.gradient_layout(public, spec.shape[1]))
    data = capsule.store.get(Artifact(settlement.product_cid, settlement.product), max_bytes=limit)
    try:
        load_product(data, public)
    except WireFormatError:
        return False
    return True
