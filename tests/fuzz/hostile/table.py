"""The table of all decoders of bytes from outside."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from hostile.target import Target

__all__ = ["NAMES", "every_target"]

NAMES = (
    # encrypted models, and canonical JSON
    "model", "safe-model", "gradient", "product", "canonical-json",
    # what actors say to each other
    "spec", "backbone", "validation-set", "weights", "box", "box-plaintext", "signature", "joined-signatures",
    "network", "shares", "parts",
    # a chain's node
    "event-log", "revert", "node-block", "node-number", "node-campaign", "node-round", "node-owner", "node-token",
    "node-committee", "node-receipt", "node-transaction", "node-logs", "calldata",
    # content stores
    "cid", "old-cid", "form", "kubo-cat", "kubo-add",
    # a Capsule, as its clients hear it
    "capsule-info", "capsule-admission", "capsule-round", "capsule-audit-head", "capsule-health", "capsule-refusal",
    # a Capsule's door
    "door", "door-signed",
    # a Capsule's own secrets, settings and judge processes
    "vault-record", "vault-header", "secret-key", "backup-stream", "frame", "judge-judgement", "judge-admission",
    "judge-opening", "settings-file",
    # a mine's process that reads records
    "apart-gathered", "apart-sketch", "apart-sums",
    # files on the user's machine
    "network-file", "deployments-file", "account-file", "policy-file", "ledger-file", "table", "draft",
)  # fmt: skip


@contextmanager
def every_target() -> Iterator[dict[str, Target]]:
    """All targets by name; what they hold open is closed at the end."""
    from hostile import (  # what they import takes seconds
        capsules,
        chains,
        clients,
        doors,
        encrypted,
        files,
        messages,
        mines,
        stores,
    )

    with ExitStack() as stack:
        found = [
            *encrypted.targets(),
            *messages.targets(),
            *chains.targets(),
            *stores.targets(stack),
            *clients.targets(),
            *doors.targets(stack),
            *capsules.targets(stack),
            *mines.targets(),
            *files.targets(stack),
        ]
        if tuple(target.name for target in found) != NAMES:
            raise ValueError("NAMES is not what the modules of targets give: add or remove a name")
        yield {target.name: target for target in found}
