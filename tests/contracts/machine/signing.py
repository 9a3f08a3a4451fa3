"""Signatures of oracles, and everything that is nearly one."""

from eth_utils import keccak

from machine.wire import Blob, domain_separator

__all__ = ["COMMITTEE_FLAWS", "SIGNATURE_FLAWS", "sign"]

SIGNATURE_FLAWS = ("empty", "short", "malleated", "stranger's", "other contract", "other chain", "other digest")
COMMITTEE_FLAWS = ("one member", "descending", "one member twice", "with a stranger")


def sign(world, oracle, flaw, digest_for):
    """The oracle's signature; with a flaw, something like it."""
    ledger = world.ledger
    digest = digest_for(ledger.domain)
    if flaw in SIGNATURE_FLAWS + COMMITTEE_FLAWS and oracle != world.oracles[2]:
        return _bad_signature(world, oracle, flaw, digest, digest_for)
    if flaw in SIGNATURE_FLAWS:
        return Blob(b"the oracle does not look at this")
    return world.signature(oracle, digest)


def _bad_signature(world, oracle, flaw, digest, digest_for):
    is_committee = oracle == world.oracles[1]
    if is_committee:
        first, second = world.committee_members[:2]
    else:
        first = second = next(signer for signer in world.signers if signer.address == oracle)
    stranger = world.stranger_signer

    def by_all(digest, **how):
        signers = [first, second] if is_committee else [first]
        return Blob(b"".join(signer.sign(digest, **how) for signer in signers))

    if flaw in ("other contract", "other chain"):
        chain_id, contract = world.chain.chain_id, world.ledger.sonar
        other = (chain_id + 1, contract) if flaw == "other chain" else (chain_id, contract ^ 1)
        return by_all(digest_for(domain_separator(*other)))
    return {
        "empty": lambda: Blob(),
        "short": lambda: Blob(by_all(digest)[:-1]),
        "malleated": lambda: by_all(digest, malleated=True),
        "stranger's": lambda: stranger.sign(digest),
        "other digest": lambda: by_all(keccak(digest)),
        "one member": lambda: first.sign(digest) if is_committee else stranger.sign(digest),
        "descending": lambda: Blob(second.sign(digest) + first.sign(digest)),
        "one member twice": lambda: Blob(first.sign(digest) * 2),
        "with a stranger": lambda: Blob(
            b"".join(s.sign(digest) for s in sorted([first, stranger], key=lambda s: s.address))
        ),
    }[flaw]()
