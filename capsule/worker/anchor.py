"""Which chain this database is about: the block that the contract's events begin at, and the contract's code.

Two chains can have the same id, and the same contract address. What the first node showed is stored and held fast: a
node that shows another block in its place, or other code at the address, serves another chain, whose history would take
the place of the campaigns'. Who copies a chain up to some block and goes on alone is not found out by this.
"""

import json
import logging

from capsule.parts import Capsule
from sonar.chain.errors import TransactionFailedError, WrongChainError
from sonar.chain.lookups import code_digest, find_block

__all__ = ["DEVELOPMENT_CHAINS", "check_anchor"]

_log = logging.getLogger("capsule.worker.anchor")

DEVELOPMENT_CHAINS = frozenset({1337, 31337, 131277322940537})
"""Ganache, Anvil and Hardhat, and the embedded chain: thrown away and begun anew, and no anchor holds there."""
_ANCHOR = "chain"
_DEEP = 64
"""How many believed blocks must follow one that is held fast for good: two epochs of Ethereum, and no setting of this
Capsule makes it less. What is held fast cannot be taken back."""


def check_anchor(capsule: Capsule, number: int, believed: int) -> bool:
    """Whether the chain is known to be the one before; stores the anchor where there is none and it lies deep enough.

    `number` is the block that events begin at, and `believed` the last one that has enough others after it. False where
    nothing is held fast yet. A node that has dropped the block by now is judged by the contract's code alone. Raises
    WrongChainError where the node serves another chain than before.
    """
    if capsule.chain.chain_id in DEVELOPMENT_CHAINS:
        return True
    stored = capsule.state.setting(_ANCHOR)
    if stored is None:
        if believed - number < _DEEP or (block := _hash(capsule, number)) is None:
            return False
        anchor = {"number": number, "block": block, "code": code_digest(capsule.chain).hex()}
        capsule.state.set(**{_ANCHOR: json.dumps(anchor, sort_keys=True).encode()})
        return True
    before = json.loads(stored)
    block = _hash(capsule, before["number"])
    if block is not None and block != before["block"]:
        raise WrongChainError(
            f"the node serves another chain than before, with the same id: its block {before['number']} is "
            f"{block}, and was {before['block']}: check the RPC address"
        )
    if code_digest(capsule.chain).hex() != before["code"]:
        raise WrongChainError(
            f"the code at {capsule.chain.address} is not what this Capsule has worked with: check the RPC address"
        )
    return True


def _hash(capsule: Capsule, number: int) -> str | None:
    """The block's hash; None where the node does not have it, or no longer."""
    try:
        block = find_block(capsule.chain, number)
    except TransactionFailedError as error:
        _log.info("the node does not give block %d: %s", number, error)
        return None
    return None if block is None else block.hash.hex()
