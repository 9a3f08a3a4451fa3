"""One BLAS thread where more would hurt: small matrices, on cores that are shared with other programs.

OpenBLAS' threads wait for each other by spinning. With a core taken by somebody else, the eigenvectors of a 785 x 785
matrix then take a second in place of 0.04, and 64 features are multiplied as fast by one thread as by two.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Final

from threadpoolctl import ThreadpoolController

__all__ = ["small_matrices"]

_LARGE: Final = 1024
"""From this many rows on, all of numpy's threads are worth it."""


@contextmanager
def small_matrices(features: int) -> Iterator[None]:
    """Linear algebra on (features, features) matrices within takes one thread, unless they are large."""
    if features >= _LARGE:
        yield
        return
    with _controller().limit(limits=1, user_api="blas"):
        yield


@cache
def _controller() -> ThreadpoolController:
    """Looks for the libraries that numpy has loaded, once."""
    return ThreadpoolController()
