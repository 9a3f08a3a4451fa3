"""The machine needs a current Hypothesis and chains in this process, which Brownie's environment does not have."""

from chains import CHAIN

if CHAIN == "brownie":
    collect_ignore_glob = ["test_*.py"]
