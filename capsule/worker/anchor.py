"""Which chain this database is about: the block that the contract's events begin at, and the contract's code.

Two chains can have the same id, and the same contract address. What the first node showed is stored and held fast: a
node that shows another block in its place, or other code at the address, serves another chain, whose history would take
the place of the campaigns'. Who copies a chain up to some block and goes on alone is not found out by this.
"""

import json

from capsule.parts import Capsule
from sonar.chain.errors import RpcUnavailableError, WrongChainError
from sonar.chain.lookups import code_digest, find_block

__all__ = ["DEVELOPMENT_CHAINS", "check_anchor"]

DEVELOPMENT_CHAINS = frozenset({1337, 31337, 131277322940537})
"""Ganache, Anvil and Hardhat, and the embedded chain: thrown away and begun anew, and no anchor holds there."""
_ANCHOR = "chain"


def check_anchor(capsule: Capsule, number: int, believed: int) -> None:
    """Raises WrongChainError where the node serves another chain than before; stores the anchor where there is none.

    `number` is the block that events begin at, and `believed` the last one that has enough others after it.
    """
    if capsule.chain.chain_id in DEVELOPMENT_CHAINS:
        return
    stored = capsule.state.setting(_ANCHOR)
    if stored is None:
        if believed >= number:
            capsule.state.set(**{_ANCHOR: json.dumps(_look(capsule, number), sort_keys=True).encode()})
        return
    before = json.loads(stored)
    now = _look(capsule, before["number"])
    if now["block"] != before["block"]:
        raise WrongChainError(
            f"the node serves another chain than before, with the same id: its block {now['number']} is "
            f"{now['block']}, and was {before['block']}: check the RPC address"
        )
    if now["code"] != before["code"]:
        raise WrongChainError(
            f"the code at {capsule.chain.address} is not what this Capsule has worked with: check the RPC address"
        )


def _look(capsule: Capsule, number: int) -> dict[str, int | str]:
    block = find_block(capsule.chain, number)
    if block is None:
        raise RpcUnavailableError(f"the node does not have block {number}, at which the contract's events begin")
    return {"number": number, "block": block.hash.hex(), "code": code_digest(capsule.chain).hex()}
