"""The chains that the contract tests run on, behind one small interface: see `base`.

SONAR_TEST_CHAIN names the chain: `revm` (the default) and `eth-tester` run in this process; `brownie` is whatever
scripts/test-contracts has started Brownie on.
"""

import os

__all__ = ["CHAIN", "EVERY_CHAIN"]

CHAIN = os.environ.get("SONAR_TEST_CHAIN", "revm")
EVERY_CHAIN = ["brownie"] if CHAIN == "brownie" else ["revm", "eth-tester"]
"""The chains that can be had in this process."""
