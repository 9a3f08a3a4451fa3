"""Differential privacy of what a mine gives away: sums over its records with noise, charged to a budget.

rule        what the owner allows
clipping    records as integers of bounded norm, and their exact sums
gaussian    exact discrete Gaussian noise
mechanism   sums with noise, and what they cost
adassp      from noised sums to statistics that training takes
accountant  what costs come to in epsilon and delta
sketch      recognises records that were seen before
release     all of this in order, with the ledger
steps       how the steps of a network's training are noised, and what a round of them costs
descent     training on sums of clipped gradients with noise
rounds      a network's round in order, with the ledger
charging    whose budget it is, and whether there is enough of it
estimate    what noise will cost in accuracy, before anything is spent
"""

from mine.privacy.release import Released, private_statistics
from mine.privacy.rule import PrivacyRule

__all__ = ["PrivacyRule", "Released", "private_statistics"]
