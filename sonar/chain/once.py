"""Deploys a contract once, however often it is asked to and whatever interrupts it.

The deployments file holds the signed transaction before it is sent. Whoever is stopped in between and runs again finds
it there: sent or not, mined or not, it is the only one.
"""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from eth_account.signers.local import LocalAccount
from web3 import Web3

from sonar.chain._rpc import rpc
from sonar.chain._transactions import SignedTransaction, find_receipt, send_raw
from sonar.chain.bytecode import Blueprint
from sonar.chain.deploy import await_deployment, sign_deployment, verify_deployment
from sonar.chain.deployments import Deployments, History, Intent, Record, locked
from sonar.chain.errors import TransactionFailedError, WrongChainError
from sonar.errors import ConfigError
from sonar.units import Address

__all__ = ["deploy_once", "require_chain"]


def require_chain(web3: Web3, chain_id: int) -> None:
    """Raises WrongChainError unless the node serves the chain."""
    with rpc(web3):
        found = int(web3.eth.chain_id)
    if found != chain_id:
        raise WrongChainError(f"the node serves chain {found}, not {chain_id}: check the network's host and chain id")


def deploy_once(
    web3: Web3,
    account: LocalAccount,
    blueprint: Blueprint,
    file: Path,
    *,
    chain_id: int,
    again: bool = False,
    timeout: float = 600,
    say: Callable[[str], None],
) -> Record:
    """The contract on the chain, deployed at the account's expense unless the file knows it; verified in any case.

    `again` deploys another one, and keeps the former in the file. Raises ChainError, or ConfigError if the file cannot
    be used or holds another deployment that has not ended.
    """
    require_chain(web3, chain_id)
    with locked(file):
        history = Deployments.load(file).history(chain_id, blueprint.contract)
        if history.pending is None:
            if not again and (known := _known(history, blueprint, chain_id, file, say)) is not None:
                _verify_known(web3, known, blueprint, file)
                return known
            history = history.begun(_sign(web3, account, blueprint, chain_id))
            _write(file, chain_id, blueprint, history)
        else:
            _require_same(history.pending, account, blueprint, file)
            say(f"going on with the deployment that {file} holds")
        return _finish(web3, blueprint, file, chain_id, history, timeout, say)


def _known(
    history: History, blueprint: Blueprint, chain_id: int, file: Path, say: Callable[[str], None]
) -> Record | None:
    """The contract among those of the file, the one in use first; says where it stands, and why not in use."""
    current = history.current
    difference = None if current is None else current.difference(blueprint, chain_id)
    if current is not None and difference is not None:
        say(f"`current` of {file}, {current.address}, is not the {blueprint.contract} asked for: {difference}")
    for known in (current, *history.previous):
        if known is not None and known.is_of(blueprint, chain_id):
            place = "" if known is current else " among `previous`"
            say(f"{blueprint.contract} is there already, as {file} says{place}")
            return known
    return None


def _sign(web3: Web3, account: LocalAccount, blueprint: Blueprint, chain_id: int) -> Intent:
    signed = sign_deployment(web3, account, blueprint, chain_id)
    return Intent(
        deployer=account.address,
        nonce=signed.nonce,
        transaction=f"0x{signed.hash.hex()}",
        raw=f"0x{signed.raw.hex()}",
        creation_sha256=_digest(blueprint),
    )


def _finish(
    web3: Web3,
    blueprint: Blueprint,
    file: Path,
    chain_id: int,
    history: History,
    timeout: float,
    say: Callable[[str], None],
) -> Record:
    """Sends what is under way, unless the chain knows it, and writes down how it ended."""
    intent = history.pending
    assert intent is not None
    transaction = bytes.fromhex(intent.transaction[2:])
    try:
        send_raw(web3, SignedTransaction(bytes.fromhex(intent.raw[2:]), transaction, intent.nonce))
    except TransactionFailedError as error:
        raise TransactionFailedError(
            f"{error}; if it can never be mined, remove `pending` from {file} to deploy anew"
        ) from error
    say(f"sent {intent.transaction}, waiting for its block")
    try:
        done = await_deployment(web3, transaction, blueprint, timeout)
    except TransactionFailedError:
        # A node that refuses to answer raises the same: only what was mined and reverted is over.
        if (receipt := find_receipt(web3, transaction)) is not None and receipt["status"] != 1:
            _write(file, chain_id, blueprint, history.ended(None))
        raise
    record = Record(
        address=done.address,
        block=done.block,
        transaction=intent.transaction,
        deployer=intent.deployer,
        runtime_sha256=blueprint.runtime_digest(chain_id, done.address),
        source_sha256=blueprint.source_digest,
        members=blueprint.members,
        threshold=blueprint.threshold,
    )
    if history.current is not None:
        say(f"{file} keeps the former one, {history.current.address}, among `previous`")
    _write(file, chain_id, blueprint, history.ended(record))
    return record


def _verify_known(web3: Web3, known: Record, blueprint: Blueprint, file: Path) -> None:
    try:
        verify_deployment(web3, Address(known.address), blueprint, transaction=bytes.fromhex(known.transaction[2:]))
    except WrongChainError as error:
        raise WrongChainError(
            f"{file} says that {blueprint.contract} is at {known.address}, but {error}; deploy another one with --again"
        ) from error


def _require_same(pending: Intent, account: LocalAccount, blueprint: Blueprint, file: Path) -> None:
    if (pending.deployer, pending.creation_sha256) != (account.address, _digest(blueprint)):
        raise ConfigError(
            f"{file} holds another deployment of {blueprint.contract} by {pending.deployer} that has not ended: finish "
            "it with the same account and options, or remove `pending` there if it can never be mined"
        )


def _digest(blueprint: Blueprint) -> str:
    return sha256(blueprint.creation_code()).hexdigest()


def _write(file: Path, chain_id: int, blueprint: Blueprint, history: History) -> None:
    Deployments.load(file).updated(chain_id, blueprint.contract, history).save(file)
