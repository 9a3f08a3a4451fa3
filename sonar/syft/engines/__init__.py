"""Engines: interchangeable implementations of Paillier arithmetic on integers, which give the same numbers bit for bit.

native   C++ with AVX512-IFMA, eight ciphertexts in a vector, threads; where the extension and the processor are
gmpy2    GMP, processes for large maps; everywhere
phe      python-paillier's own operations, slow and simple: what the others are tested against
"""

from sonar.syft.engines._checks import MAX_MAP_BITS
from sonar.syft.engines.base import Engine, FixedBase, Progress
from sonar.syft.engines.choice import ENGINES, get_engine, why_unusable

__all__ = ["ENGINES", "MAX_MAP_BITS", "Engine", "FixedBase", "Progress", "get_engine", "why_unusable"]
