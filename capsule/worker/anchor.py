"""Which chain this database is about: the block that the contract's events begin at, and the contract's code.

Two chains can have the same id, and the same contract address. What the first node showed is stored and held fast: a
node that shows another block in its place, or other code at the address, serves another chain, whose history would take
the place of the campaigns'. Who copies a chain up to some block and goes on alone is not found out by this.
"""

import json
import logging
from hashlib import sha256
from typing import Any

from capsule.parts import Capsule
from capsule.state import State
from sonar.chain.errors import TransactionFailedError, WrongChainError
from sonar.chain.lookups import code_digest, find_block

__all__ = ["DEVELOPMENT_CHAINS", "check_anchor", "forget_anchor", "held_fast"]

_log = logging.getLogger("capsule.worker.anchor")

DEVELOPMENT_CHAINS = frozenset({1337, 31337, 131277322940537})
"""Ganache, Anvil and Hardhat, and the embedded chain: thrown away and begun anew, and no anchor holds there."""
_ANCHOR = "chain"
_NO_CODE = sha256(b"").digest()
"""What a node shows that has not all of its state yet. It is no contract, so it is never held fast."""
_ADVICE = (
    "check the RPC address; if you know that the node is right, and that it was wrong before, run capsule forget-chain"
)
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
    before = _stored(capsule.state)
    if before is None:
        if believed - number < _DEEP or (block := _hash(capsule, number)) is None:
            return False
        if (code := code_digest(capsule.chain)) == _NO_CODE:
            return False
        anchor = {"number": number, "block": block, "code": code.hex()}
        capsule.state.set_told(_ANCHOR, json.dumps(anchor, sort_keys=True).encode(), "chain", **anchor)
        return True
    block = _hash(capsule, before["number"])
    if block is not None and block != before["block"]:
        raise WrongChainError(
            f"the node serves another chain than before, with the same id: its block {before['number']} is "
            f"{block}, and was {before['block']}: {_ADVICE}"
        )
    if code_digest(capsule.chain).hex() != before["code"]:
        raise WrongChainError(
            f"the code at {capsule.chain.address} is not what this Capsule has worked with: {_ADVICE}"
        )
    return True


def held_fast(state: State) -> bytes | None:
    """What is held fast, as it is stored; None for nothing. It is another one once `forget_anchor` was called."""
    return state.setting(_ANCHOR)


def forget_anchor(state: State) -> dict[str, Any] | None:
    """Takes back what is held fast, and returns it: number and hash of the block, digest of the code; None if nothing.

    The log tells of it. Each worker looks anew in its next pass, and what the first one's node shows then is held fast.
    """
    stored = held_fast(state)
    if stored is None:
        return None
    forgotten = dict(json.loads(stored))
    state.set_told(_ANCHOR, None, "chain forgotten", **forgotten)
    return forgotten


def _stored(state: State) -> dict[str, Any] | None:
    """What is held fast; None where that is an address without code, as an earlier version could hold fast."""
    stored = held_fast(state)
    anchor = None if stored is None else dict(json.loads(stored))
    return None if anchor is None or anchor["code"] == _NO_CODE.hex() else anchor


def _hash(capsule: Capsule, number: int) -> str | None:
    """The block's hash; None where the node does not have it, or no longer."""
    try:
        block = find_block(capsule.chain, number)
    except TransactionFailedError as error:
        _log.info("the node does not give block %d: %s", number, error)
        return None
    return None if block is None else block.hash.hex()
