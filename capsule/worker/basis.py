"""Whether a settlement that was signed before the chain changed still continues the model that the chain has now.

A round's head names its gradients, but not the version that they were judged on. A reorganisation can leave a round its
gradients and take the settlement before it away, and then the same head stands on another version. A settlement is
signed once for a head, so that round cannot be judged again: it expires, bonds go back, and the next one is judged.
"""

from capsule.state import State, StoredRound
from sonar.chain.records import Settlement

__all__ = ["continues"]


def continues(state: State, stored: StoredRound, settlement: Settlement, present: int) -> bool:
    """Whether the round was judged on version `present`, which the chain has now.

    One that does not advance changes no model, and the contract checks that it names the present score. Nothing is
    fetched for this: a store that has lost something must not keep settlements from the chain.
    """
    if not settlement.advances:
        return True
    version = state.version(settlement.campaign, present)
    return version is not None and version.key == stored.base
