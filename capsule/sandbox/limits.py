"""How much a judge process may use, and how long its jobs may take."""

import os
from dataclasses import dataclass

__all__ = ["Limits", "cores"]

_CIPHERTEXT_SECONDS = 0.25
"""For one ciphertext at 3072 bits: forty times what the slowest engine takes on a slow core."""
_USUAL_BITS = 3072


@dataclass(frozen=True, slots=True)
class Limits:
    """`processes` (0: one a core) of `memory` bytes of address space each; seconds on the wall clock.

    A job may take `seconds`, one that opens a gradient a tenth of that, and each ciphertext adds to both what no
    machine takes that is not stuck. So a job that is ended was stuck or starved, whatever it was given.
    """

    processes: int = 0
    memory: int = 4 << 30
    seconds: float = 600

    @property
    def size(self) -> int:
        """How many processes there are."""
        return self.processes or cores()

    @property
    def threads(self) -> int:
        """How many threads each may keep busy, so that all together fit the cores."""
        return max(1, cores() // self.size)

    def for_gradient(self, ciphertexts: int, key_bits: int) -> float:
        """Seconds to open one gradient."""
        return self.seconds / 10 + _ciphertext_seconds(ciphertexts, key_bits)

    def for_job(self, ciphertexts: int = 0, key_bits: int = _USUAL_BITS) -> float:
        """Seconds for any other job that works on so many ciphertexts."""
        return self.seconds + _ciphertext_seconds(ciphertexts, key_bits)


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _ciphertext_seconds(ciphertexts: int, key_bits: int) -> float:
    return ciphertexts * _CIPHERTEXT_SECONDS * max(1.0, (key_bits / _USUAL_BITS) ** 3)
