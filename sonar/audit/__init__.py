"""The audit of a campaign: from chain and IPFS alone, with no key, everything that was promised is computed again.

    story.py      what the chain tells of the campaign: events, their times, signatures, the contract's record
    chain.py      rules of order, rounds and verdicts, by folding the events
    signatures.py admission and settlements are the oracle's
    money.py      payouts and bonds, computed anew
    ending.py     the contract's record is what the events make, and bounty and bonds are conserved
    artifacts.py  spec, models, gradients, and each round's product
    report.py     what was found

What an audit cannot see is whether a score or a share is right, whether the next model under its fresh key is what the
product says, and what is in a sealed box: all that needs the Capsule's keys and the validation set. It believes the
node about what is on the chain; the id that it is asked for, which is the admission's digest, and the oracle's
signatures bound what a node can make up.
"""

from sonar.audit.report import Finding, Report, Verdict
from sonar.audit.running import audit_campaign

__all__ = ["Finding", "Report", "Verdict", "audit_campaign"]
